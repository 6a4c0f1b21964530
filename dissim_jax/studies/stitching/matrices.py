"""Examples of stitching matrices, as in Csiszárik et al. 2021, Figure 8 (left)."""

import math

import numpy as np

from dissim_jax.render.style import WIDTH
from dissim_jax.studies.stitching import looks as style
from dissim_jax.studies.stitching import record

MOST = 5  # in a row
HEADING, SIDE, ROW = 0.34, 1.5, 1.95  # inches: the text above, a picture, a picture and its title


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


def draw(figure, pair, tap, matrices, *, left, top) -> None:
  """A row of matrices for each method, from the weakest to the strongest regularisation.

  Args:
    pair, tap, matrices: see `find`.
    left, top: inches from the left and the bottom of the figure.
  """
  wide, high = figure.get_size_inches()
  pitch = (WIDTH - left) / MOST
  figure.text(
    left / wide,
    (top - 0.2) / high,
    f"Matrices at tap {tap}, {record.heading(pair.kind, [pair])}: source channels "
    "down, target channels across",
    weight="bold",
    size=9,
  )
  for row, (name, kernels) in enumerate(matrices.items()):
    bottom = top - HEADING - (row + 1) * ROW + 0.1
    figure.text(
      0.3 / wide,
      (bottom + SIDE / 2) / high,
      style.METHODS[name]["label"],
      rotation=90,
      va="center",
      ha="center",
      size=9,
    )
    places = np.linspace(0, len(kernels) - 1, min(MOST, len(kernels)))
    for column, index in enumerate(np.round(places).astype(int)):
      ax = figure.add_axes(
        [(left + column * pitch) / wide, bottom / high, SIDE / wide, SIDE / high]
      )
      _matrix(
        ax,
        kernels[index],
        {key: values.get(int(index), math.nan) for key, values in pair.results[tap][name].items()},
      )


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
