"""LinCKA of equal taps as in Wald et al. 2023, Figures 7, 8 and 9."""

import math

import numpy as np
from matplotlib.figure import Figure

from dissim_jax.pages.sweep.rows import Row
from dissim_jax.render import plot, style

LEGEND_COLUMNS = 5


def diagonal(baseline: Row | None, rows: list) -> Figure | None:
  """Tap l against tap l of the first two members, a line for each set of taps, mean over seeds.

  A band shows ± one standard deviation (n - 1) where there are several seeds. The regularised taps
  are marked on their line.
  """
  curves = [
    (row, curve)
    for row in [baseline, *rows]
    if row is not None and (curve := diagonals(row)) is not None
  ]
  if not any(row.key.taps for row, _ in curves):
    return None
  figure, (ax,) = plot.panels(1, 3.3 + plot.legend_height(curves, LEGEND_COLUMNS))
  colours = iter(style.colours(len(curves)))
  lowest, count = 0.0, 0
  for row, values in curves:
    colour = next(colours) if row.key.taps else style.GREY
    draw_curve(ax, row, values, colour)
    lowest, count = min(lowest, np.nanmin(values)), max(count, values.shape[1])
  step = math.ceil(count / 20)
  ax.set_xticks(range(0, count, step))
  ax.set(
    xlabel="tap",
    ylabel="LinCKA of equal taps",
    ylim=(lowest - 0.03, 1.03),
    xlim=(-0.02 * count, 1.02 * count - 1),
  )
  plot.legend(figure, ax.get_legend_handles_labels()[0], LEGEND_COLUMNS)
  return figure


def diagonals(row: Row) -> np.ndarray | None:
  """LinCKA of equal taps [seeds, taps]; None if there is none."""
  maps = list(row.lincka(0, 1).values())
  if len({values.shape for values in maps}) != 1 or maps[0].shape[0] != maps[0].shape[1]:
    return None
  equal_taps = np.array([values.diagonal() for values in maps])
  return None if np.isnan(equal_taps).all() else equal_taps


def draw_curve(ax, row: Row, values: np.ndarray, colour: str) -> None:
  """The mean over seeds, its band, and marks at the regularised taps."""
  taps, mean = np.arange(values.shape[1]), values.mean(axis=0)
  plural = "s" * (len(row.key.taps) > 1)
  label = f"tap{plural} {row.key.layer}" if row.key.taps else "baseline"
  ax.plot(taps, mean, color=colour, lw=1.8, label=label)
  if len(values) > 1:
    std = values.std(axis=0, ddof=1)
    ax.fill_between(taps, mean - std, mean + std, color=colour, alpha=0.18, lw=0)
  marked = [tap for tap in row.key.taps if 0 <= tap < len(mean)]
  ax.plot(
    marked, mean[marked], ls="none", marker="o", ms=7, color=colour, mec="white", mew=1.2, zorder=4
  )
