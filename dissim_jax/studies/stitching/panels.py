"""The pictures of stitching experiments that have a panel for each tap, a block for each kind."""

import math
from typing import Any, NamedTuple

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from dissim_jax.render.style import WIDTH
from dissim_jax.studies.stitching import looks as style
from dissim_jax.studies.stitching import matrices, record

MOST_TAPS, PER_ROW = 8, 4
LONGEST_NAME = 20  # letters of a tap's name that fit above a panel
# Inches: left of the panels, between them, right of an axis with its own scale, a block's heading,
# a line of a panel's title, a panel, its tick labels, the label of x, a row of the legend.
LEFT, GAP, SECOND, HEADING, LINE, HEIGHT, FOOT, LABEL, LEGEND_ROW = (
  0.62,
  0.2,
  0.34,
  0.34,
  0.17,
  1.6,
  0.27,
  0.2,
  0.2,
)
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
  figure, panels = _grid(
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
  figure, panels = _grid(
    results,
    pairs,
    [style.MEASURES[name] for name in names],
    xlabel="epoch",
    ylabel="similarity at the seam",
    second=True,
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
  figure, panels = _grid(
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
  figure, panels = _grid(
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
  figure, panels = _grid(
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
    matrices.draw(
      figure, *example, left=LEFT, top=extra + _legend_height(len(figure.legends[0].get_texts()))
    )
  return figure


def _grid(results, pairs, looks, *, xlabel, ylabel, lines=1, second=False, extra=0.0):
  """A block of panels for each kind of pair, a panel for each shown tap, a legend below.

  Args:
    looks: styles that the legend explains.
    xlabel, ylabel: of the lowest and the leftmost panels.
    lines: of a panel's title.
    second: whether panels have another axis on their right.
    extra: inches left free above the legend.

  Returns:
    (figure, [Panel]).
  """
  groups, taps = record.by_kind(pairs), shown_taps(results, pairs)
  rows = math.ceil(len(taps) / PER_ROW)
  columns = max(2, math.ceil(len(taps) / rows))
  handles = [style.handle(look) for look in looks]
  if set(results.regularised_taps) & set(taps):
    handles.append(
      style.handle({"label": "regularised tap", "ls": "", "marker": "*", "color": style.INK})
    )
  pitch = LINE * lines + 0.1 + HEIGHT + FOOT
  block = HEADING + rows * pitch + LABEL
  foot = _legend_height(len(handles))
  height = len(groups) * block + extra + foot
  step = (WIDTH - LEFT - (SECOND - GAP if second else -0.1)) / columns
  wide = step - GAP - (SECOND if second else 0.0)
  figure, panels = Figure(figsize=(WIDTH, height)), []
  for index, (kind, group) in enumerate(groups.items()):
    top = height - index * block
    figure.text(
      LEFT / WIDTH,
      (top - 0.22) / height,
      record.heading(kind, group),
      weight="bold",
      size=10,
    )
    for place, (tap, name) in enumerate(taps.items()):
      row, column = divmod(place, columns)
      bottom = top - HEADING - (row + 1) * pitch + FOOT
      ax = figure.add_axes(
        [
          (LEFT + column * step) / WIDTH,
          bottom / height,
          wide / WIDTH,
          HEIGHT / height,
        ]
      )
      ax.set_title(_tap_title(results, tap, name), **TITLE)
      ax.tick_params(labelleft=not column)
      ax.set_ylabel("" if column else ylabel)
      ax.set_xlabel(xlabel if place + columns >= len(taps) else "")
      panels.append(Panel(ax, group, tap))
  figure.legend(
    handles=handles,
    loc="lower center",
    handlelength=2.8,
    ncols=len(handles) if len(handles) < 5 else 3,
  )
  return figure, panels


def _legend_height(entries):
  return LEGEND_ROW * (1 if entries < 5 else math.ceil(entries / 3)) + 0.12


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
