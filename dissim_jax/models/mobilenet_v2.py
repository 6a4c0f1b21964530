"""MobileNetV2 (Sandler et al. 2018): inverted residuals with linear bottlenecks.

Tap 0 is the stem (convolution, batch norm) before its ReLU6, tap i the output of block i after the
sum (if there is one): linear, the next block takes it as it is. The last tap is the 1x1 convolution
to many features and its batch norm, before the ReLU6.
Differs from the paper: for smaller images the first strides are 1 (for 32 pixels the first two, for
8 the first three), and no dropout.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dissim_jax.models.components import Components
from dissim_jax.models.grouped import GroupedConv
from dissim_jax.models.layered import Design, Layered
from dissim_jax.models.resnet import Ops

_UNSTRIDED = {8: 3, 32: 2, 224: 0}  # by stem: how many of the first strides are 1


class ConvNorm(nn.Module):
  """A convolution and batch norm."""

  features: int
  size: int
  stride: int
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/stride, W/stride, features]`."""
    conv = self.ops.conv(self.features, self.size, self.stride, name="conv")
    return self.ops.norm(train, name="norm")(conv(x.astype(self.ops.dtype)))


class InvertedResidual(nn.Module):
  """1x1 convolution to `expansion` times the features, depth-wise 3x3, linear 1x1.

  An input of the output's shape is added. Where `expansion` is 1 there is no first convolution, and
  the input, the stem's, goes through its ReLU6.
  """

  features: int
  stride: int
  expansion: int
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/stride, W/stride, features]`."""
    hidden = self.expansion * x.shape[-1]
    y = x
    if self.expansion > 1:
      y = self.ops.norm(train, name="norm1")(self.ops.conv(hidden, 1, name="conv1")(y))
    depthwise = GroupedConv(hidden, hidden, 3, self.stride, dtype=self.ops.dtype, name="conv2")
    y = depthwise(jax.nn.relu6(y))
    y = jax.nn.relu6(self.ops.norm(train, name="norm2")(y))
    y = self.ops.norm(train, name="norm3")(self.ops.conv(self.features, 1, name="conv3")(y))
    return x + y if self.expansion > 1 and x.shape == y.shape else y


class Head6(nn.Module):
  """ReLU6, mean over space, dense layer; logits in float32."""

  num_classes: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> logits `[B, num_classes]`."""
    del train
    x = jnp.mean(jax.nn.relu6(x), axis=(1, 2), dtype=jnp.float32)
    return nn.Dense(self.num_classes, name="dense")(x)


def mobilenet_v2(
  num_classes: int,
  *,
  stages: Sequence[tuple[int, int, int, int]],
  stem_width: int,
  last: int,
  width_multiplier: float = 1.0,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  stem: int = 32,
) -> Layered:
  """Stages of (expansion, features, blocks, stride of the first block), Table 2 of the paper.

  `width_multiplier` scales every layer (rounded, at least one feature), the last one too.
  """
  ops = Ops(dtype, axis_name)
  scaled = lambda features: max(1, round(features * width_multiplier))  # noqa: E731
  first, *strides = _strides((2, *(stride for *_, stride in stages)), _UNSTRIDED[stem])
  layers: list[nn.Module] = [ConvNorm(scaled(stem_width), 3, first, ops)]
  for (expansion, features, blocks, _), stride in zip(stages, strides, strict=True):
    for index in range(blocks):
      layers.append(InvertedResidual(scaled(features), 1 if index else stride, expansion, ops))
  names = ("stem", *(f"block {i}" for i in range(1, len(layers))), "last")
  layers.append(ConvNorm(scaled(last), 1, 1, ops))
  return Layered(tuple(layers), Head6(num_classes), names)


def _strides(published: Sequence[int], unstrided: int) -> list[int]:
  """The strides with the first `unstrided` of those above 1 set to 1."""
  places = [place for place, stride in enumerate(published) if stride > 1][:unstrided]
  return [1 if place in places else stride for place, stride in enumerate(published)]


def _entry(stages: Sequence[tuple[int, int, int, int]], stem_width: int, last: int) -> Design:
  """A MobileNetV2 of this form; its depth counts every convolution and the dense layer."""
  depth = 3 + sum(blocks * (2 + (expansion > 1)) for expansion, _, blocks, _ in stages)

  def describe(stem: int) -> Components:
    return Components(
      "CNN",
      stem=f"3x3 conv s{1 if _UNSTRIDED[stem] else 2}",
      normalisation="BN",
      hierarchical="yes",
      activation="ReLU6",
      depthwise="yes",
      width=str(stages[0][1]),
      depth=str(depth),
    )

  build = functools.partial(mobilenet_v2, stages=stages, stem_width=stem_width, last=last)
  return Design(build, describe)


_PUBLISHED = (
  (1, 16, 1, 1),
  (6, 24, 2, 2),
  (6, 32, 3, 2),
  (6, 64, 4, 2),
  (6, 96, 3, 1),
  (6, 160, 3, 2),
  (6, 320, 1, 1),
)
_MINI = ((1, 16, 1, 2), (4, 24, 1, 2), (4, 32, 2, 2))

DESIGNS = {
  "mobilenet_v2": _entry(_PUBLISHED, 32, 1280),
  "mobilenet_v2_mini": _entry(_MINI, 32, 64),
}
