"""Architectures, all on the layered interface of `layered.py`.

A new one is a function `(num_classes, *, width_multiplier, dtype, axis_name) -> Layered` and a
line in `MODELS`.
"""

from dissim_jax.models import resnet, tiny10
from dissim_jax.models.layered import Layered, init_variables

MODELS = {
  "resnet8": resnet.resnet8,
  "resnet14": resnet.resnet14,
  "resnet20": resnet.resnet20,
  "resnet18": resnet.resnet18,
  "resnet34": resnet.resnet34,
  "resnet50": resnet.resnet50,
  "resnet101": resnet.resnet101,
  "tiny10": tiny10.tiny10,
}

__all__ = ["MODELS", "Layered", "init_variables"]
