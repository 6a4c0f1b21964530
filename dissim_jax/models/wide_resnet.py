"""Wide ResNets (Zagoruyko & Komodakis 2016): few pre-activation blocks with many features.

Named by depth and widening factor: `wide_resnet28_10` has 28 layers and stages of 160, 320 and 640
features after a stem of 16. Taps as in `preact_resnet`. Differs from the paper: no dropout inside
the blocks, so a network is a function of its variables alone. The paper's networks for 224 pixels
are of another form; here only the stem differs.
"""

from dissim_jax.models.layered import Design
from dissim_jax.models.preact_resnet import PreActBasicBlock, preact_entry

_STEM = 16


def _entry(depth: int, factor: int) -> Design:
  """`depth` 6 n + 4: the stem, three stages of n blocks of two layers and a projection."""
  blocks = (depth - 4) // 6
  widths = tuple(_STEM * factor * 2**stage for stage in range(3))
  return preact_entry(PreActBasicBlock, (blocks,) * 3, widths, _STEM, depth)


DESIGNS = {
  "wide_resnet16_8": _entry(16, 8),
  "wide_resnet28_10": _entry(28, 10),
  "wide_resnet40_4": _entry(40, 4),
  "wide_resnet_mini": preact_entry(PreActBasicBlock, (1, 2, 1), (24, 48, 96), 12, 12),
}
