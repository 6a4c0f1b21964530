"""Tiny-10, the small convolutional network of the stitching and CKA papers.

Csiszárik et al. 2021; Kornblith et al. 2019, appendix: eight 3x3 convolutions without padding, the
last 1x1, each with bias, batch norm and ReLU, then the mean over space and a dense layer. No skip
connections. 86,778 parameters at 32x32x3 and ten classes; images must be 27 pixels a side or more.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dissim_jax.models.components import Components
from dissim_jax.models.convolution import convolution
from dissim_jax.models.layered import Design, Layered
from dissim_jax.models.resnet import Head, Ops, conv_init

_WIDTHS = (16, 16, 32, 32, 32, 64, 64, 64)
_STRIDES = (1, 1, 2, 1, 1, 2, 1, 1)
_SIZES = (3, 3, 3, 3, 3, 3, 3, 1)


class ConvNorm(nn.Module):
  """ReLU (but for the first layer), a convolution without padding and with bias, batch norm."""

  features: int
  size: int
  stride: int
  first: bool
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, (H - size) // stride + 1, ..., features]`."""
    x = x.astype(self.ops.dtype) if self.first else nn.relu(x)
    x = nn.Conv(
      self.features,
      (self.size, self.size),
      (self.stride, self.stride),
      padding=0,
      dtype=self.ops.dtype,
      kernel_init=conv_init,
      conv_general_dilated=convolution,
      name="conv",
    )(x)
    return self.ops.norm(train, name="norm")(x)


def tiny10(
  num_classes: int,
  *,
  width_multiplier: float = 1.0,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  stem: int = 32,
) -> Layered:
  """Tiny-10; `width_multiplier` scales every layer (rounded, at least one feature).

  It is the same for every stem.
  """
  del stem
  ops = Ops(dtype, axis_name)
  layers = tuple(
    ConvNorm(max(1, round(width * width_multiplier)), size, stride, index == 0, ops)
    for index, (width, size, stride) in enumerate(zip(_WIDTHS, _SIZES, _STRIDES, strict=True))
  )
  names = tuple(f"conv {i}" for i in range(1, len(layers) + 1))
  return Layered(layers, Head(num_classes, ops), names)


def describe(stem: int) -> Components:
  """Its components."""
  del stem
  return Components(
    "CNN",
    stem="3x3 conv s1",
    normalisation="BN",
    hierarchical="yes",
    activation="ReLU",
    width=str(_WIDTHS[0]),
    depth=str(len(_WIDTHS) + 1),
  )


DESIGNS = {"tiny10": Design(tiny10, describe)}
