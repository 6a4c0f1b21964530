"""Architectures, one file a family, all on the layered interface of `layered.py`.

A new family is a file with its own `MODELS` (name -> `Architecture`) and a line here.
"""

from dissim_jax.models import resnet, tiny10
from dissim_jax.models.layered import Architecture, Layered, init_variables, nearest_stem

_FAMILIES = (resnet, tiny10)

MODELS = {name: entry for family in _FAMILIES for name, entry in family.MODELS.items()}

__all__ = ["MODELS", "Architecture", "Layered", "init_variables", "nearest_stem"]
