"""Squeeze-and-excitation ResNets (Hu et al. 2018): every branch weighs its channels by the image.

The gate is at the end of the branch, before the sum. Taps as in `resnet`: the stem (convolution,
batch norm), then the output of each block after the sum and before its ReLU.
Differs from the paper: the last batch norm of a block starts with scale zero.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from dissim_jax.models.components import Components
from dissim_jax.models.layered import Design
from dissim_jax.models.resnet import Ops, resnet, shortcut, stem_words

_REDUCTION = 16  # the paper's r


class SqueezeExcitation(nn.Module):
  """y * sigmoid(W2 relu(W1 mean(y) + b1) + b2), the mean over space, Eq. 2-4; gate in float32.

  W1 reduces C channels to C / `_REDUCTION` (rounded down, at least one).
  """

  @nn.compact
  def __call__(self, y: jax.Array) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H, W, C]`."""
    channels = y.shape[-1]
    gate = jnp.mean(y, axis=(1, 2), keepdims=True, dtype=jnp.float32)
    gate = nn.relu(nn.Dense(max(1, channels // _REDUCTION), name="reduce")(gate))
    gate = nn.sigmoid(nn.Dense(channels, name="expand")(gate))
    return y * gate.astype(y.dtype)


class SEBasicBlock(nn.Module):
  """ReLU, then two 3x3 convolutions and the channels' gate, beside a shortcut."""

  features: int
  stride: int
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/stride, W/stride, features]`."""
    x = nn.relu(x)
    y = self.ops.conv(self.features, 3, self.stride, name="conv1")(x)
    y = nn.relu(self.ops.norm(train, name="norm1")(y))
    y = self.ops.conv(self.features, 3, name="conv2")(y)
    y = self.ops.norm(train, zero=True, name="norm2")(y)
    return SqueezeExcitation(name="se")(y) + shortcut(self.ops, x, y, self.stride, train)


class SEBottleneckBlock(nn.Module):
  """ReLU, then 1x1, 3x3, 1x1 convolutions and the channels' gate, beside a shortcut."""

  features: int
  stride: int
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/stride, W/stride, 4 * features]`."""
    x = nn.relu(x)
    y = self.ops.conv(self.features, 1, name="conv1")(x)
    y = nn.relu(self.ops.norm(train, name="norm1")(y))
    y = self.ops.conv(self.features, 3, self.stride, name="conv2")(y)
    y = nn.relu(self.ops.norm(train, name="norm2")(y))
    y = self.ops.conv(4 * self.features, 1, name="conv3")(y)
    y = self.ops.norm(train, zero=True, name="norm3")(y)
    return SqueezeExcitation(name="se")(y) + shortcut(self.ops, x, y, self.stride, train)


def _entry(block: type[nn.Module], depths: tuple[int, ...], widths: tuple[int, ...]) -> Design:
  """An SE-ResNet of this form; its depth counts the stem, the dense layer, no shortcut or gate."""
  layers = 2 + sum(depths) * (2 if block is SEBasicBlock else 3)

  def describe(stem: int) -> Components:
    return Components(
      "CNN",
      normalisation="BN",
      hierarchical="yes",
      activation="ReLU",
      channel_attention="SE",
      channel_attention_place="block end",
      width=str(widths[0]),
      depth=str(layers),
      **stem_words(stem),
    )

  build = functools.partial(resnet, block=block, depths=depths, widths=widths)
  return Design(build, describe)


_NARROW, _WIDE = (16, 32, 64), (64, 128, 256, 512)

DESIGNS = {
  "se_resnet20": _entry(SEBasicBlock, (3, 3, 3), _NARROW),
  "se_resnet18": _entry(SEBasicBlock, (2, 2, 2, 2), _WIDE),
  "se_resnet50": _entry(SEBottleneckBlock, (3, 4, 6, 3), _WIDE),
  "se_resnet_mini": _entry(SEBasicBlock, (2, 2, 1), _NARROW),
}
