"""The block `transfer` of a config."""

from typing import Any

import ml_collections

from dissim_jax.registry.attacks import ATTACKS, Attack
from dissim_jax.registry.fields import flag, name, number, seed, whole

FIELDS = {
  "attack": name("none", "whether images that fool one member fool the others", ATTACKS, "none"),
  "epsilon": number(
    Attack.epsilon,
    "largest change of a pixel, of images in 0..1",
    0,
    1,
    hint=", such as 8/255 for 8 grey levels",
  ),
  "step_size": number(Attack.step_size, "change in one iteration", 0, 1, above=True),
  "iterations": whole(Attack.iterations, "of pgd and momentum_pgd", 1),
  "random_start": flag(True, "anywhere in the ball; False = at the image"),
  "momentum": number(1.0, "of momentum_pgd: decay of the accumulated gradient"),
  "images": whole(1000, "test images, as many of every class", 1),
  "floor": number(
    0.01, "eps_s, per cent of images: what a similarity of nothing counts as", 0, 100, above=True
  ),
  "seed": seed(0, "determines random starts"),
}


def asked(config: ml_collections.ConfigDict) -> dict[str, Any] | None:
  """What the results depend on; None without an attack."""
  if config.transfer.attack == "none":
    return None
  return config.transfer.to_dict() | {"rule": config.evaluate.ensemble_rule}
