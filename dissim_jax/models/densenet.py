"""DenseNet-BC (Huang et al. 2017): every layer adds features and sees those of all layers before.

A tap is the concatenation of all features so far, after the stem, after every dense layer and after
every transition: the state that the rest of the network is a function of. (The output of one layer
alone is bypassed by the concatenation.) Batch norm and ReLU belong to the next layer, the last ones
to the head. Named by depth and growth; 121 grows by 32. Transitions round odd sizes up.
Differs from the paper: no dropout.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dissim_jax.models.components import Components
from dissim_jax.models.layered import Design, Layered
from dissim_jax.models.preact_resnet import ConvStem, NormHead
from dissim_jax.models.resnet import Ops, Stem, stem_words

_BOTTLENECK = 4  # features of the 1x1 convolution, times the growth
_COMPRESSION = 0.5  # features that a transition keeps: the paper's theta
_STEM = 2  # features of the stem, times the growth


class LargeStem(nn.Module):
  """7x7 convolution with stride 2, batch norm, max-pooling with stride 2 and ReLU."""

  features: int
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/4, W/4, features]`, not negative: features are kept after it."""
    return nn.relu(Stem(self.features, self.ops, 224, name="stem")(x, train))


class DenseLayer(nn.Module):
  """Batch norm, ReLU, 1x1 convolution, again with 3x3; the result is appended to the input."""

  growth: int
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H, W, C + growth]`; the first C are the input."""
    y = nn.relu(self.ops.norm(train, name="norm1")(x))
    y = self.ops.conv(_BOTTLENECK * self.growth, 1, name="conv1")(y)
    y = nn.relu(self.ops.norm(train, name="norm2")(y))
    y = self.ops.conv(self.growth, 3, name="conv2")(y)
    return jnp.concatenate([x, y], axis=-1)


class Transition(nn.Module):
  """Batch norm, ReLU, 1x1 convolution to half the features, 2x2 mean."""

  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/2, W/2, C/2]`; C/2 rounded down."""
    features = max(1, int(x.shape[-1] * _COMPRESSION))
    x = nn.relu(self.ops.norm(train, name="norm")(x))
    x = self.ops.conv(features, 1, name="conv")(x)
    pooled = nn.avg_pool(x, (2, 2), (2, 2), "SAME", count_include_pad=False)
    return pooled.astype(x.dtype)  # It divides by float32 counts.


def densenet(
  num_classes: int,
  *,
  blocks: Sequence[int],
  growth: int,
  width_multiplier: float = 1.0,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  stem: int = 32,
) -> Layered:
  """Dense blocks of `blocks[s]` layers, transitions between them.

  `width_multiplier` scales the growth (rounded, at least one feature), and with it all layers.
  """
  ops = Ops(dtype, axis_name)
  growth = max(1, round(growth * width_multiplier))
  large = stem > 32
  layers = [LargeStem(_STEM * growth, ops) if large else ConvStem(_STEM * growth, ops, stem)]
  names = ["stem"]
  for block, depth in enumerate(blocks, 1):
    if block > 1:
      layers.append(Transition(ops))
      names.append(f"transition {block - 1}")
    layers.extend(DenseLayer(growth, ops) for _ in range(depth))
    names.extend(f"block {block} layer {i}" for i in range(1, depth + 1))
  return Layered(tuple(layers), NormHead(num_classes, ops), tuple(names))


def _entry(blocks: Sequence[int], growth: int) -> Design:
  """A DenseNet-BC of this form; its depth counts every convolution and the dense layer."""

  def describe(stem: int) -> Components:
    return Components(
      "CNN",
      normalisation="BN",
      hierarchical="yes",
      activation="ReLU",
      width=str(_STEM * growth),
      depth=str(2 * sum(blocks) + len(blocks) + 1),
      **stem_words(stem),
    )

  return Design(functools.partial(densenet, blocks=blocks, growth=growth), describe)


DESIGNS = {
  "densenet100_12": _entry((16, 16, 16), 12),
  "densenet121": _entry((6, 12, 24, 16), 32),
  "densenet_mini": _entry((2, 2), 16),
}
