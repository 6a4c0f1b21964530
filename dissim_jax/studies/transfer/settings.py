"""The block `transfer` of a config."""

from typing import Any

import ml_collections

from dissim_jax.registry.attacks import ATTACKS, settings
from dissim_jax.registry.fields import name, number, whole

_ATTACK = settings()

FIELDS = {
  "attack": name("none", "whether images that fool one member fool the others", ATTACKS, "none"),
  **{key: field for key, field in _ATTACK.items() if key != "seed"},
  "images": whole(1000, "test images, as many of every class", 1),
  "floor": number(
    0.01, "eps_s, per cent of images: what a similarity of nothing counts as", 0, 100, above=True
  ),
  "seed": _ATTACK["seed"],
}


def asked(config: ml_collections.ConfigDict) -> dict[str, Any] | None:
  """What the results depend on; None without an attack."""
  if config.transfer.attack == "none":
    return None
  return config.transfer.to_dict() | {"rule": config.evaluate.ensemble_rule}
