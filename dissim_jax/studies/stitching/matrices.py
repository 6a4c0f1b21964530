"""Examples of stitching matrices, as in Csiszárik et al. 2021, Figure 8 (left)."""

import math

import numpy as np
from matplotlib.figure import SubFigure

from dissim_jax.studies.stitching import looks as style
from dissim_jax.studies.stitching import record

MOST = 5  # in a row
HEADING, ROW = 0.34, 1.95  # inches: the text above, a picture and its title


def find(results, pairs, names) -> tuple | None:
  """Matrices to show: at a regularised tap, or else in the middle, of the first pair that has them.

  Args:
    pairs: of the experiment `sparsity`.
    names: the methods wanted.

  Returns:
    (pair, tap, {method: float [strengths, C_source, C_target]}), or None.
  """
  for group in record.by_kind(pairs).values():
    for pair in group:
      marked = [tap for tap in results.regularised_taps if tap in pair.taps] or list(pair.taps)
      tap = marked[len(marked) // 2]
      arrays = record.matrices(pair, [f"{name}/{tap}/kernels" for name in names])
      if arrays and all(kernels.ndim == 3 and kernels.size for kernels in arrays):
        return pair, tap, dict(zip(names, arrays, strict=True))
  return None


def height(names) -> float:
  """Inches that `draw` needs."""
  return HEADING + len(names) * ROW


def draw(block: SubFigure, pair, tap, matrices) -> None:
  """A row of matrices for each method, from the weakest to the strongest regularisation.

  Args:
    block: where.
    pair, tap, matrices: see `find`.
  """
  block.suptitle(
    f"Matrices at tap {tap}, {record.heading(pair.kind, [pair])}: source channels "
    "down, target channels across",
    x=0.01,
    ha="left",
    weight="bold",
    size=9,
  )
  axes = block.subplots(len(matrices), MOST, squeeze=False)
  for row, (name, kernels) in zip(axes, matrices.items(), strict=True):
    row[0].set_ylabel(style.METHODS[name]["label"], size=9)
    places = np.linspace(0, len(kernels) - 1, min(MOST, len(kernels)))
    for ax, index in zip(row, np.round(places).astype(int), strict=False):
      _matrix(
        ax,
        kernels[index],
        {key: values.get(int(index), math.nan) for key, values in pair.results[tap][name].items()},
      )
    for ax in row[len(places) :]:
      ax.remove()


def _matrix(ax, kernel, numbers):
  largest = np.abs(kernel[np.isfinite(kernel)]).max(initial=0.0) or 1.0
  ax.imshow(
    kernel, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest"
  )
  ax.set(xticks=[], yticks=[])
  for spine in ax.spines.values():
    spine.set_visible(True)
  ax.set_title(
    "\n".join(
      f"{word} {100 * numbers[key]:.0f} %"
      for word, key in (("sparsity", "sparsity"), ("accuracy", "relative_accuracy"))
    ),
    size=8,
    weight="normal",
    loc="left",
    pad=3,
  )
