"""The pictures of stitching experiments that have a panel for each tap, a block for each kind."""

import math
from typing import Any, NamedTuple

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from dissim_jax.render import plot
from dissim_jax.studies.stitching import looks as style
from dissim_jax.studies.stitching import matrices, record

MOST_TAPS, PER_ROW = 8, 4
LONGEST_NAME = 20  # letters of a tap's name that fit above a panel
# Inches: a block's heading, a row of panels with their texts, another line of a panel's title.
HEADING, HEIGHT, LINE = 0.34, 1.97, 0.17
TITLE = {"size": 9, "weight": "normal", "loc": "left"}  # of a panel


class Panel(NamedTuple):
  """One pair of axes: the pairs of one kind at one tap."""

  ax: Any
  pairs: list
  tap: int


def shown_taps(results, pairs) -> dict:
  """All taps, or `MOST_TAPS` of them: evenly spaced, then moved to the regularised ones."""
  taps = record.all_taps(pairs)
  if len(taps) <= MOST_TAPS:
    return taps
  numbers = list(taps)
  chosen = [numbers[round(place)] for place in np.linspace(0, len(numbers) - 1, MOST_TAPS)]
  for tap in results.regularised_taps:
    free = [other for other in chosen if other not in results.regularised_taps]
    if tap in taps and tap not in chosen and free:
      chosen[chosen.index(min(free, key=lambda other, tap=tap: abs(other - tap)))] = tap
  return {tap: taps[tap] for tap in sorted(chosen)}


def width(results, pairs) -> Figure:
  """Relative accuracy against the width multiplier."""

  def bands(group, tap, method):
    curves = {}
    for pair in group:
      accuracies = pair.results.get(method, {}).get("relative_accuracy", {})
      if tap in accuracies:
        curves.setdefault((pair.source, pair.target), {})[pair.width] = accuracies[tap]
    return record.band(curves.values())

  return _accuracy_against(results, pairs, "width multiplier", bands)


def low_rank(results, pairs) -> Figure:
  """Relative accuracy against the rank of the stitch."""
  return _accuracy_against(
    results,
    pairs,
    "rank",
    lambda group, tap, method: record.band(
      [pair.results.get(tap, {}).get(method, {}) for pair in group]
    ),
  )


def _accuracy_against(results, pairs, xlabel, bands):
  names = ("least_squares", "task_loss")
  figure, panels, _ = _grid(
    results, pairs, [style.METHODS[name] for name in names], xlabel=xlabel, ylabel=style.ACCURACY
  )
  for panel in panels:
    ticks = set()
    for name in names:
      band = bands(panel.pairs, panel.tap, name)
      style.draw_band(panel.ax, band, style.METHODS[name], 100)
      ticks |= set(band.x)
    _doubling(panel.ax, sorted(ticks))
  style.accuracy_limits([panel.ax for panel in panels])
  return figure


def indices(results, pairs) -> Figure:
  """Similarity at the seam and cross-entropy (own axis) while a stitch is trained."""
  names = [name for name in style.MEASURES if name != "relative_accuracy"]
  figure, panels, _ = _grid(
    results,
    pairs,
    [style.MEASURES[name] for name in names],
    xlabel="epoch",
    ylabel="similarity at the seam",
  )
  for panel in panels:
    for name in names[:-1]:
      style.draw_band(panel.ax, _over_epochs(panel, name), style.MEASURES[name], alpha=0.1)
    other = panel.ax.twinx()
    style.draw_band(other, _over_epochs(panel, names[-1]), style.MEASURES[names[-1]], alpha=0.1)
    other.set_ylim(0, 1.08 * style.reach([other])[1] or 1.0)
    other.grid(False)
    other.spines["right"].set_visible(True)
    other.yaxis.set_major_locator(MaxNLocator(4))
    other.tick_params(labelsize=7, pad=2, colors=style.INK)
    panel.ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
  style.similarity_limits([panel.ax for panel in panels])
  return figure


def low_cka(results, pairs) -> Figure:
  """CKA of S(z) with z and relative accuracy while the CKA is penalised."""
  names = ("relative_accuracy", "lincka")
  figure, panels, _ = _grid(
    results, pairs, [style.MEASURES[name] for name in names], xlabel="epoch", ylabel="accuracy, CKA"
  )
  for panel in panels:
    for name in names:
      style.draw_band(panel.ax, _over_epochs(panel, name), style.MEASURES[name])
    panel.ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
  style.accuracy_limits([panel.ax for panel in panels], full=1.0)
  return figure


def _over_epochs(panel, name):
  return record.band([pair.results.get(panel.tap, {}).get(name, {}) for pair in panel.pairs])


def connectivity(results, pairs) -> Figure:
  """Relative accuracy on the straight line between two solutions; the mean of all in bold."""
  look = style.METHODS["task_loss"] | {"label": "mean of all paths", "marker": None, "lw": 2.2}
  thin = look | {"label": "between two solutions", "lw": 0.7}
  figure, panels, _ = _grid(
    results,
    pairs,
    [look, thin],
    xlabel="from one solution to another",
    ylabel=style.ACCURACY,
    lines=2,
  )
  for panel in panels:
    rows = [pair.results[panel.tap] for pair in panel.pairs if panel.tap in pair.results]
    kept, tried = (sum(row[key] for row in rows) for key in ("kept", "tried"))
    panel.ax.set_title(f"{panel.ax.get_title('left')}\n{kept} of {tried} solutions kept", **TITLE)
    curves = [curve for row in rows for curve in row["curves"]]
    panel.ax.set_xlim(-0.02, 1.02)
    if not curves:
      panel.ax.text(
        0.5,
        0.5,
        "no two solutions kept",
        transform=panel.ax.transAxes,
        ha="center",
        va="center",
        color=style.INK,
      )
      continue
    panel.ax.add_collection(
      LineCollection(
        [[(x, 100 * y) for x, y in curve.items()] for curve in curves],
        colors=look["color"],
        lw=thin["lw"],
        alpha=min(0.6, max(0.05, 8 / len(curves))),
      )
    )
    mean = record.band(curves)
    panel.ax.plot(mean.x, 100 * mean.mean, **look)
  style.accuracy_limits([panel.ax for panel in panels])
  return figure


def sparsity(results, pairs) -> Figure:
  """Relative accuracy against sparsity, and examples of the stitching matrices."""
  names = ("direct", "task_loss")
  example = matrices.find(results, pairs, names)
  extra = matrices.height(names) if example else 0.0
  figure, panels, below = _grid(
    results,
    pairs,
    [style.METHODS[name] for name in names],
    xlabel="sparsity [%]",
    ylabel=style.ACCURACY,
    extra=extra,
  )
  for panel in panels:
    for name in names:
      rows = [pair.results.get(panel.tap, {}).get(name, {}) for pair in panel.pairs]
      accuracy, x = (
        record.band([row.get(key, {}) for row in rows]) for key in ("relative_accuracy", "sparsity")
      )
      style.draw_band(panel.ax, accuracy, style.METHODS[name], 100, 100 * x.mean)
    panel.ax.set_xlim(-4, 104)
  style.accuracy_limits([panel.ax for panel in panels])
  if example:
    matrices.draw(below[0], *example)
  return figure


def _grid(results, pairs, looks, *, xlabel, ylabel, lines=1, extra=0.0):
  """A block of panels for each kind of pair, a panel for each shown tap, a legend below.

  Args:
    looks: styles that the legend explains.
    xlabel, ylabel: of the lowest and the leftmost panels.
    lines: of a panel's title.
    extra: inches for more above the legend.

  Returns:
    (figure, [Panel], the subfigure for more, in a list; empty without `extra`).
  """
  groups, taps = record.by_kind(pairs), shown_taps(results, pairs)
  rows = math.ceil(len(taps) / PER_ROW)
  columns = max(2, math.ceil(len(taps) / rows))
  handles = [style.handle(look) for look in looks]
  if set(results.regularised_taps) & set(taps):
    handles.append(
      style.handle({"label": "regularised tap", "ls": "", "marker": "*", "color": style.INK})
    )
  heights = [HEADING + rows * (HEIGHT + LINE * lines)] * len(groups) + [extra] * bool(extra)
  legend_columns = len(handles) if len(handles) < 5 else 3
  foot = plot.legend_height(handles, legend_columns)
  figure = plot.blank(sum(heights) + foot)
  blocks = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
  panels = []
  for block, (kind, group) in zip(blocks, groups.items(), strict=False):
    block.suptitle(record.heading(kind, group), x=0.01, ha="left", weight="bold", size=10)
    axes = block.subplots(rows, columns, squeeze=False).flat
    for ax in axes[len(taps) :]:
      ax.remove()
    for place, (ax, (tap, name)) in enumerate(zip(axes, taps.items(), strict=False)):
      first = not place % columns
      ax.set_title(_tap_title(results, tap, name), **TITLE)
      ax.tick_params(labelleft=first)
      ax.set_ylabel(ylabel if first else "")
      ax.set_xlabel(xlabel if place + columns >= len(taps) else "")
      panels.append(Panel(ax, group, tap))
  plot.legend(figure, handles, legend_columns)
  return figure, panels, blocks[len(groups) :]


def _tap_title(results, tap, name):
  name = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
  return f"tap {tap} · {name}{' *' * (tap in results.regularised_taps)}"


def _doubling(ax, values):
  """A logarithmic axis with a tick at each value, or at some where they are many."""
  if not values or min(values) <= 0:
    return
  step = math.ceil(len(values) / 8)
  ax.set_xscale("log", base=2)
  ax.xaxis.set_minor_locator(NullLocator())
  ax.set_xticks(values[::step], [f"{value:g}" for value in values[::step]])
  ax.set_xlim(values[0] / 1.2, values[-1] * 1.2)


DRAW = {
  "width": width,
  "indices": indices,
  "low_cka": low_cka,
  "connectivity": connectivity,
  "sparsity": sparsity,
  "low_rank": low_rank,
}
