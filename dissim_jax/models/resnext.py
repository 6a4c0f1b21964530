"""ResNeXt (Xie et al. 2017, "Aggregated residual transformations"): ResNets of grouped bottlenecks.

Named by depth, cardinality (number of groups) and features of a group in the first stage, which
double at each stage: `resnext29_8x64`, `resnext50_32x4`. Taps as in `resnet`: the stem
(convolution, batch norm), then the output of each block after the sum and before its ReLU.
Differs from the paper: the last batch norm of a block starts with scale zero.
"""

import functools

import flax.linen as nn
import jax

from dissim_jax.models.components import Components
from dissim_jax.models.grouped import GroupedConv
from dissim_jax.models.layered import Design
from dissim_jax.models.resnet import Ops, resnet, shortcut, stem_words

_BASE = 64  # features at which a group has its nominal width


class ResNeXtBlock(nn.Module):
  """ReLU, then 1x1, grouped 3x3 and 1x1 convolutions to `4 * features`, beside a shortcut.

  In between there are `groups` groups of `group_width` features where `features` is 64, and in
  proportion elsewhere (rounded, at least one).
  """

  features: int
  stride: int
  ops: Ops
  groups: int
  group_width: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/stride, W/stride, 4 * features]`."""
    inner = max(1, round(self.features * self.group_width / _BASE)) * self.groups
    x = nn.relu(x)
    y = self.ops.conv(inner, 1, name="conv1")(x)
    y = nn.relu(self.ops.norm(train, name="norm1")(y))
    y = GroupedConv(inner, self.groups, 3, self.stride, dtype=self.ops.dtype, name="conv2")(y)
    y = nn.relu(self.ops.norm(train, name="norm2")(y))
    y = self.ops.conv(4 * self.features, 1, name="conv3")(y)
    y = self.ops.norm(train, zero=True, name="norm3")(y)
    return y + shortcut(self.ops, x, y, self.stride, train)


def _entry(
  depths: tuple[int, ...], widths: tuple[int, ...], groups: int, group_width: int
) -> Design:
  """A ResNeXt of this form; its depth counts the stem, the dense layer and no shortcut."""

  def describe(stem: int) -> Components:
    return Components(
      "CNN",
      normalisation="BN",
      hierarchical="yes",
      activation="ReLU",
      grouped="yes",
      width=str(widths[0]),
      depth=str(2 + 3 * sum(depths)),
      **stem_words(stem),
    )

  block = functools.partial(ResNeXtBlock, groups=groups, group_width=group_width)
  build = functools.partial(resnet, block=block, depths=depths, widths=widths)
  return Design(build, describe)


DESIGNS = {
  "resnext29_32x4": _entry((3, 3, 3), (64, 128, 256), 32, 4),
  "resnext29_8x64": _entry((3, 3, 3), (64, 128, 256), 8, 64),
  "resnext50_32x4": _entry((3, 4, 6, 3), (64, 128, 256, 512), 32, 4),
  "resnext_mini": _entry((1, 2, 1), (16, 24, 32), 4, 32),
}
