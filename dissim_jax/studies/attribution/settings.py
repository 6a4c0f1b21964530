"""The block `attribution` of a config."""

from typing import Any

import ml_collections

from dissim_jax.registry.attributions import METHODS
from dissim_jax.registry.fields import name, whole

FIELDS = {
  "method": name("none", "which pixels members decide by, on test images", METHODS, "none"),
  "steps": whole(512, "integrated_gradients: points on the line from black", 1),
  "images": whole(500, "test images, as many of every class", 1),
}


def asked(config: ml_collections.ConfigDict) -> dict[str, Any] | None:
  """What the results depend on; None without a method."""
  return None if config.attribution.method == "none" else config.attribution.to_dict()
