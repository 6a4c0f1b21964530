"""Which taps hold NaN or infinity, told by what they left in streamed sums, and said aloud."""

import sys
from collections.abc import Iterable, Sequence

import numpy as np


def broken(products: np.ndarray) -> np.ndarray:
  """Which of L taps are not finite, by their own term of summed products `[L, L]`: bool `[L]`."""
  return ~np.isfinite(np.diagonal(products))


def warn(broken_taps: Iterable[tuple[str, Sequence[int]]]) -> None:
  """One sentence on stderr for every (member, taps that hold NaN or infinity)."""
  for name, taps in broken_taps:
    if len(taps):
      which, these = ("tap", "this tap") if len(taps) == 1 else ("taps", "these taps")
      print(
        f"warning: {name}, {which} {', '.join(map(str, taps))}: the activations hold NaN or inf; "
        f"measures of {these} are NaN",
        file=sys.stderr,
      )
