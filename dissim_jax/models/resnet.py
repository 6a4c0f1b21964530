"""ResNets (He et al. 2016a), on the layered interface.

Tap 0 is the stem (convolution, batch norm), tap i the output of residual block i after the sum and
before its ReLU. The last batch norm of a block starts with scale zero, so that a fresh block is the
identity.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dissim_jax.models.components import Components
from dissim_jax.models.convolution import convolution
from dissim_jax.models.layered import Design, Layered

conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Ops(NamedTuple):
  """The convolution and batch norm a network is made of: activation dtype, batch-norm axis."""

  dtype: Any = jnp.float32
  axis_name: str | None = None

  def conv(self, features: int, size: int, stride: int = 1, name: str | None = None) -> nn.Conv:
    """A convolution without bias, "same" padding as in PyTorch (size // 2 on each side)."""
    return nn.Conv(
      features,
      (size, size),
      (stride, stride),
      padding=size // 2,
      use_bias=False,
      dtype=self.dtype,
      kernel_init=conv_init,
      conv_general_dilated=convolution,
      name=name,
    )

  def norm(self, train: bool, zero: bool = False, name: str | None = None) -> nn.BatchNorm:
    """Batch norm over the global batch; statistics in float32."""
    return nn.BatchNorm(
      use_running_average=not train,
      momentum=0.9,
      epsilon=1e-5,
      dtype=self.dtype,
      scale_init=nn.initializers.zeros if zero else nn.initializers.ones,
      axis_name=self.axis_name,
      name=name,
    )


class Stem(nn.Module):
  """A convolution and batch norm, 3x3 with stride 1 for small images.

  For those of 224 pixels 7x7 with stride 2 and 3x3 max-pooling with stride 2, which is the same
  before the ReLU as after it.
  """

  features: int
  ops: Ops
  size: int = 32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H, W, features]`, or a quarter as high and wide."""
    large = self.size > 32
    x = self.ops.conv(self.features, *((7, 2) if large else (3, 1)), name="conv")(
      x.astype(self.ops.dtype)
    )
    x = self.ops.norm(train, name="norm")(x)
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))) if large else x


class BasicBlock(nn.Module):
  """ReLU, then two 3x3 convolutions beside a shortcut (projection where the shape changes)."""

  features: int
  stride: int
  ops: Ops
  expansion = 1

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/stride, W/stride, features]`."""
    x = nn.relu(x)
    y = self.ops.conv(self.features, 3, self.stride, name="conv1")(x)
    y = nn.relu(self.ops.norm(train, name="norm1")(y))
    y = self.ops.conv(self.features, 3, name="conv2")(y)
    y = self.ops.norm(train, zero=True, name="norm2")(y)
    return y + shortcut(self.ops, x, y, self.stride, train)


class BottleneckBlock(nn.Module):
  """ReLU, then 1x1, 3x3 and 1x1 convolutions to four times the features, beside a shortcut."""

  features: int
  stride: int
  ops: Ops
  expansion = 4

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/stride, W/stride, 4 * features]`."""
    x = nn.relu(x)
    y = self.ops.conv(self.features, 1, name="conv1")(x)
    y = nn.relu(self.ops.norm(train, name="norm1")(y))
    y = self.ops.conv(self.features, 3, self.stride, name="conv2")(y)
    y = nn.relu(self.ops.norm(train, name="norm2")(y))
    y = self.ops.conv(self.expansion * self.features, 1, name="conv3")(y)
    y = self.ops.norm(train, zero=True, name="norm3")(y)
    return y + shortcut(self.ops, x, y, self.stride, train)


def shortcut(ops: Ops, x: jax.Array, y: jax.Array, stride: int, train: bool) -> jax.Array:
  """The input itself, or its 1x1 projection where the residual branch changed the shape."""
  if x.shape == y.shape:
    return x
  x = ops.conv(y.shape[-1], 1, stride, name="shortcut_conv")(x)
  return ops.norm(train, name="shortcut_norm")(x)


class Head(nn.Module):
  """ReLU, mean over space, dense layer; logits in float32."""

  num_classes: int
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> logits `[B, num_classes]`."""
    del train
    x = jnp.mean(nn.relu(x), axis=(1, 2), dtype=jnp.float32)
    return nn.Dense(self.num_classes, name="dense")(x)


def resnet(
  num_classes: int,
  *,
  block: type[nn.Module],
  depths: tuple[int, ...],
  widths: tuple[int, ...],
  width_multiplier: float = 1.0,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  stem: int = 32,
) -> Layered:
  """A ResNet of `depths[s]` blocks with `widths[s]` features in stage s; stages halve the size.

  `width_multiplier` scales every stage (rounded, at least one feature).
  """
  ops = Ops(dtype, axis_name)
  widths = tuple(max(1, round(width * width_multiplier)) for width in widths)
  layers: list[nn.Module] = [Stem(widths[0], ops, stem)]
  for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
    for index in range(depth):
      layers.append(block(width, 2 if stage > 0 and index == 0 else 1, ops))
  names = ("stem", *(f"block {i}" for i in range(1, len(layers))))
  return Layered(tuple(layers), Head(num_classes, ops), names)


def stem_words(stem: int) -> dict[str, str]:
  """The components that `Stem` decides."""
  if stem > 32:
    return {"stem": "7x7 conv s2", "stem_pooling": "yes"}
  return {"stem": "3x3 conv s1"}


def _entry(block: type[nn.Module], depths: tuple[int, ...], widths: tuple[int, ...]):
  """A ResNet of this form; its depth counts the stem, the dense layer and no shortcut."""
  layers = 2 + sum(depths) * (2 if block is BasicBlock else 3)

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

  build = functools.partial(resnet, block=block, depths=depths, widths=widths)
  return Design(build, describe)


_NARROW, _WIDE = (16, 32, 64), (64, 128, 256, 512)

DESIGNS = {
  "resnet8": _entry(BasicBlock, (1, 1, 1), _NARROW),
  "resnet14": _entry(BasicBlock, (2, 2, 2), _NARROW),
  "resnet20": _entry(BasicBlock, (3, 3, 3), _NARROW),
  "resnet18": _entry(BasicBlock, (2, 2, 2, 2), _WIDE),
  "resnet34": _entry(BasicBlock, (3, 4, 6, 3), _WIDE),
  "resnet50": _entry(BottleneckBlock, (3, 4, 6, 3), _WIDE),
  "resnet101": _entry(BottleneckBlock, (3, 4, 23, 3), _WIDE),
}
