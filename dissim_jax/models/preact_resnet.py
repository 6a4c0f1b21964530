"""Pre-activation ResNets (He et al. 2016b, "Identity mappings in deep residual networks").

Tap 0 is the stem's bare convolution, tap i the output of residual block i, a plain sum: batch norm
and ReLU belong to the next block's branch, the last ones to the head, so where shapes stay the
difference of two taps is the branch. Differs from the paper: in the first block too the shortcut
passes its input by the activation, which the paper moves before the fork; where the shape
changes, the projection takes the activated input, as there.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dissim_jax.models.components import Components
from dissim_jax.models.layered import Design, Layered
from dissim_jax.models.resnet import Head, Ops, stem_words


class ConvStem(nn.Module):
  """A convolution alone, 3x3 with stride 1 for small images.

  For those of 224 pixels 7x7 with stride 2 and 3x3 max-pooling with stride 2.
  """

  features: int
  ops: Ops
  size: int = 32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H, W, features]`, or a quarter as high and wide."""
    del train
    large = self.size > 32
    x = self.ops.conv(self.features, *((7, 2) if large else (3, 1)), name="conv")(
      x.astype(self.ops.dtype)
    )
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))) if large else x


class PreActBasicBlock(nn.Module):
  """Two times batch norm, ReLU, 3x3 convolution, beside a shortcut."""

  features: int
  stride: int
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/stride, W/stride, features]`."""
    active = nn.relu(self.ops.norm(train, name="norm1")(x))
    y = self.ops.conv(self.features, 3, self.stride, name="conv1")(active)
    y = nn.relu(self.ops.norm(train, name="norm2")(y))
    y = self.ops.conv(self.features, 3, name="conv2")(y)
    return y + preact_shortcut(self.ops, x, active, y, self.stride)


class PreActBottleneckBlock(nn.Module):
  """Batch norm, ReLU and a convolution: 1x1, 3x3, 1x1 to four times the features."""

  features: int
  stride: int
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/stride, W/stride, 4 * features]`."""
    active = nn.relu(self.ops.norm(train, name="norm1")(x))
    y = self.ops.conv(self.features, 1, name="conv1")(active)
    y = nn.relu(self.ops.norm(train, name="norm2")(y))
    y = self.ops.conv(self.features, 3, self.stride, name="conv2")(y)
    y = nn.relu(self.ops.norm(train, name="norm3")(y))
    y = self.ops.conv(4 * self.features, 1, name="conv3")(y)
    return y + preact_shortcut(self.ops, x, active, y, self.stride)


def preact_shortcut(
  ops: Ops, x: jax.Array, active: jax.Array, y: jax.Array, stride: int
) -> jax.Array:
  """The input itself, or a 1x1 projection of the activated input where the shape changed."""
  if x.shape == y.shape:
    return x
  return ops.conv(y.shape[-1], 1, stride, name="shortcut_conv")(active)


class NormHead(nn.Module):
  """Batch norm, ReLU, mean over space, dense layer; logits in float32."""

  num_classes: int
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> logits `[B, num_classes]`."""
    x = self.ops.norm(train, name="norm")(x)
    return Head(self.num_classes, self.ops, name="head")(x, train)


def preact_resnet(
  num_classes: int,
  *,
  block: type[nn.Module],
  depths: Sequence[int],
  widths: Sequence[int],
  stem_width: int,
  width_multiplier: float = 1.0,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  stem: int = 32,
) -> Layered:
  """`depths[s]` blocks with `widths[s]` features in stage s; stages halve the size.

  `width_multiplier` scales the stem and every stage (rounded, at least one feature).
  """
  ops = Ops(dtype, axis_name)
  scaled = [max(1, round(width * width_multiplier)) for width in (stem_width, *widths)]
  layers: list[nn.Module] = [ConvStem(scaled[0], ops, stem)]
  for stage, (depth, width) in enumerate(zip(depths, scaled[1:], strict=True)):
    for index in range(depth):
      layers.append(block(width, 2 if stage > 0 and index == 0 else 1, ops))
  names = ("stem", *(f"block {i}" for i in range(1, len(layers))))
  return Layered(tuple(layers), NormHead(num_classes, ops), names)


def preact_entry(
  block: type[nn.Module],
  depths: Sequence[int],
  widths: Sequence[int],
  stem_width: int,
  layers: int,
) -> Design:
  """A network of this form, with `layers` layers in its name."""

  def describe(stem: int) -> Components:
    return Components(
      "CNN",
      normalisation="BN",
      hierarchical="yes",
      activation="ReLU",
      width=str(widths[0]),
      depth=str(layers),
      **stem_words(stem),
    )

  build = functools.partial(
    preact_resnet, block=block, depths=depths, widths=widths, stem_width=stem_width
  )
  return Design(build, describe)


_WIDE = (64, 128, 256, 512)

DESIGNS = {
  "preact_resnet18": preact_entry(PreActBasicBlock, (2, 2, 2, 2), _WIDE, 64, 18),
  "preact_resnet34": preact_entry(PreActBasicBlock, (3, 4, 6, 3), _WIDE, 64, 34),
  "preact_resnet50": preact_entry(PreActBottleneckBlock, (3, 4, 6, 3), _WIDE, 64, 50),
  "preact_resnet_mini": preact_entry(PreActBasicBlock, (2, 2, 1), (16, 32, 64), 16, 12),
}
