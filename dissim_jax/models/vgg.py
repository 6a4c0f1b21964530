"""VGG (Simonyan & Zisserman 2015) with batch norm (Ioffe & Szegedy 2015): no skip connections.

Tap i is the output of 3x3 convolution i + 1 (with bias) and its batch norm, before the ReLU; ReLU
and max-pooling belong to the next layer, the last ones to the head. For images of 224 pixels the
head has the published three dense layers, for smaller ones one. Max-pooling rounds odd sizes up.
Differs from the paper: batch norm, no dropout, and for images of 8 pixels fewer poolings.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.models.components import Components
from dissim_jax.models.convolution import convolution
from dissim_jax.models.layered import Design, Layered
from dissim_jax.models.resnet import Ops, conv_init

_GRID = 7  # positions a side that the dense layers see
_POOLINGS_AT_8 = 3  # of images of 8 pixels: the last ones


def active(x: jax.Array, pool: bool) -> jax.Array:
  """ReLU, then 2x2 max-pooling if `pool`."""
  x = nn.relu(x)
  return nn.max_pool(x, (2, 2), (2, 2), "SAME") if pool else x


class ConvLayer(nn.Module):
  """ReLU and max-pooling of the layer before (but for the first), a 3x3 convolution, batch norm."""

  features: int
  first: bool
  pool: bool
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H, W, features]`, or half as high and wide."""
    x = x.astype(self.ops.dtype) if self.first else active(x, self.pool)
    x = nn.Conv(
      self.features,
      (3, 3),
      padding=1,
      dtype=self.ops.dtype,
      kernel_init=conv_init,
      conv_general_dilated=convolution,
      name="conv",
    )(x)
    return self.ops.norm(train, name="norm")(x)


class SmallHead(nn.Module):
  """ReLU, max-pooling, mean over space, dense layer; logits in float32."""

  num_classes: int
  pool: bool

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> logits `[B, num_classes]`."""
    del train
    x = jnp.mean(active(x, self.pool), axis=(1, 2), dtype=jnp.float32)
    return nn.Dense(self.num_classes, name="dense")(x)


class DenseHead(nn.Module):
  """ReLU, max-pooling, a grid of 7x7, two dense layers with ReLU, a third; logits in float32."""

  num_classes: int
  features: int
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> logits `[B, num_classes]`."""
    del train
    x = adaptive_mean(active(x, True), _GRID)
    x = x.reshape(x.shape[0], -1)
    dense = functools.partial(nn.Dense, self.features, dtype=self.ops.dtype, kernel_init=conv_init)
    x = nn.relu(dense(name="dense1")(x))
    x = nn.relu(dense(name="dense2")(x))
    return nn.Dense(self.num_classes, name="dense3")(x.astype(jnp.float32))


def adaptive_mean(x: jax.Array, size: int) -> jax.Array:
  """`[B, H, W, C]` -> `[B, size, size, C]`: means over bins that cover the image; 7x7 stays itself.

  Bin i of n pixels is floor(i n / size) ... ceil((i + 1) n / size) - 1; neighbours may overlap.
  """
  rows, columns = (_bins(n, size).astype(x.dtype) for n in x.shape[1:3])
  return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns)


def _bins(pixels: int, size: int) -> np.ndarray:
  """Weights `[size, pixels]` of the pixels in each bin."""
  weights = np.zeros((size, pixels))
  for i in range(size):
    start, end = i * pixels // size, -(-(i + 1) * pixels // size)
    weights[i, start:end] = 1 / (end - start)
  return weights


def vgg(
  num_classes: int,
  *,
  stages: Sequence[Sequence[int]],
  dense: int,
  width_multiplier: float = 1.0,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  stem: int = 32,
) -> Layered:
  """Stages of convolutions with so many features, each followed by max-pooling.

  `width_multiplier` scales every layer (rounded, at least one feature), the `dense` ones too.
  """
  ops = Ops(dtype, axis_name)
  scaled = lambda features: max(1, round(features * width_multiplier))  # noqa: E731
  unpooled = max(0, len(stages) - _POOLINGS_AT_8) if stem <= 8 else 0
  layers: list[nn.Module] = []
  for stage, widths in enumerate(stages):
    for index, width in enumerate(widths):
      pool = index == 0 and stage > unpooled
      layers.append(ConvLayer(scaled(width), not layers, pool, ops))
  large = stem > 32
  head = DenseHead(num_classes, scaled(dense), ops) if large else SmallHead(num_classes, True)
  return Layered(tuple(layers), head, tuple(f"conv {i}" for i in range(1, len(layers) + 1)))


def _entry(depths: Sequence[int], widths: Sequence[int], dense: int) -> Design:
  """`depths[s]` convolutions with `widths[s]` features in stage s; depth as in the name."""

  def describe(stem: int) -> Components:
    return Components(
      "CNN",
      stem="3x3 conv s1",
      normalisation="BN",
      hierarchical="yes",
      activation="ReLU",
      final_pooling="7x7 mean, dense" if stem > 32 else "GAP",
      width=str(widths[0]),
      depth=str(sum(depths) + 3),
    )

  stages = tuple((width,) * depth for depth, width in zip(depths, widths, strict=True))
  return Design(functools.partial(vgg, stages=stages, dense=dense), describe)


_WIDTHS = (64, 128, 256, 512, 512)

DESIGNS = {
  "vgg11": _entry((1, 1, 2, 2, 2), _WIDTHS, 4096),
  "vgg13": _entry((2, 2, 2, 2, 2), _WIDTHS, 4096),
  "vgg16": _entry((2, 2, 3, 3, 3), _WIDTHS, 4096),
  "vgg19": _entry((2, 2, 4, 4, 4), _WIDTHS, 4096),
  "vgg_mini": _entry((1, 2, 2), (16, 32, 64), 64),
}
