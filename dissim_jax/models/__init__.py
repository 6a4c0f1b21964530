"""Architectures, one file a family, all on the layered interface of `layered.py`.

A new family is a file with its own `MODELS` (name -> `Architecture`) and a line here.
"""

from dissim_jax.models import (
  convmixer,
  convnext,
  densenet,
  mlp_mixer,
  mobilenet_v2,
  preact_resnet,
  resnet,
  resnext,
  se_resnet,
  swin,
  tiny10,
  vgg,
  vit,
  wide_resnet,
)
from dissim_jax.models.layered import (
  Architecture,
  Layered,
  init_variables,
  matching_tap,
  nearest_stem,
  resized,
  variable_shapes,
)

_FAMILIES = (
  resnet,
  preact_resnet,
  wide_resnet,
  resnext,
  se_resnet,
  vgg,
  densenet,
  mobilenet_v2,
  tiny10,
  convmixer,
  convnext,
  mlp_mixer,
  swin,
  vit,
)

MODELS = {name: entry for family in _FAMILIES for name, entry in family.MODELS.items()}

__all__ = [
  "MODELS",
  "Architecture",
  "Layered",
  "init_variables",
  "matching_tap",
  "nearest_stem",
  "resized",
  "variable_shapes",
]
