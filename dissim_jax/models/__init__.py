"""Architectures, one file a family, all on the layered interface of `layered.py`.

A new family is a file with its own `DESIGNS`, and a line in `registry.architectures`.
"""

from dissim_jax.models.layered import (
  Design,
  Layered,
  init_variables,
  matching_tap,
  nearest_stem,
  resized,
  variable_shapes,
)
from dissim_jax.registry.architectures import MODELS, Architecture

__all__ = [
  "MODELS",
  "Architecture",
  "Design",
  "Layered",
  "init_variables",
  "matching_tap",
  "nearest_stem",
  "resized",
  "variable_shapes",
]
