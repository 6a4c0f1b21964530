"""The pictures of stitching experiments: those with taps on x, and the list of all.

A column of panels for each kind of pair. Pictures with a panel for each tap are in
`panels`.
"""

import textwrap

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dissim_jax.render import plot
from dissim_jax.render.style import STYLE, WIDTH
from dissim_jax.studies.stitching import looks as style
from dissim_jax.studies.stitching import panels, record

MARGIN, HEIGHT = 0.8, 3.3  # inches: of a panel's width for its texts, and its height with them
LETTERS = 11  # of a title that fit into an inch
MOST_STRIPS = 10  # taps beside each other in a column of panels
STRIP, SPREAD = 0.17, 0.1  # of a start beside its tap, and of its points


def draw(results, experiment: str, pairs) -> Figure:
  """The figure of one experiment."""
  functions = {"matching": matching, "initialisation": initialisation, **panels.DRAW}
  with matplotlib.rc_context(STYLE):
    return functions[experiment](results, pairs)


def matching(results, pairs) -> Figure:
  """Relative accuracy of every method; below it, or beside it for one kind, the seam's similarity.

  The similarity is that of what least squares made of the source's tap to the target's tap. The
  table has the methods that the picture leaves out.
  """
  groups, known = record.by_kind(pairs), record.methods_of(pairs)
  methods = [name for name in style.METHODS if name in known and name != "linear"]
  measures = [
    name
    for name in ("lincka", "r2")
    if any(name in pair.results.get("least_squares", {}) for pair in pairs)
  ]
  handles = [style.handle(style.METHODS[name]) for name in methods]
  handles += [style.handle(style.MEASURES[name] | {"marker": "s", "ms": 3.5}) for name in measures]
  figure, upper, lower = _columns(results, groups, handles, bool(measures))
  for index, group in enumerate(groups.values()):
    for name in methods:
      band = record.method_band(group, name)
      style.draw_band(upper[index], band, style.METHODS[name], 100, _places(group, band))
    for name in measures:
      band = record.method_band(group, "least_squares", name)
      style.draw_band(
        lower[index],
        band,
        style.MEASURES[name] | {"marker": "s", "ms": 3.5},
        x=_places(group, band),
      )
      lower[index].set_title("similarity at the seam, least squares", weight="normal")
  style.accuracy_limits(upper)
  style.similarity_limits(lower)
  upper[0].set_ylabel(style.ACCURACY)
  if lower:
    lower[0].set_ylabel("similarity")
  return figure


def initialisation(results, pairs) -> Figure:
  """Relative accuracy of every solution, a strip for each start at each tap; a line at its mean."""
  groups = record.by_kind(pairs)
  known = {start for pair in pairs for rows in pair.results.values() for start in rows}
  starts = [start for start in style.STARTS if start in known]
  handles = [style.handle(style.STARTS[start]) for start in starts]
  stacked = len(record.all_taps(pairs)) > MOST_STRIPS
  figure, axes, _ = _columns(results, groups, handles, False, stacked)
  for ax, group in zip(axes, groups.values(), strict=True):
    for place, tap in enumerate(record.all_taps(group)):
      for side, start in zip((-1, 1), starts, strict=False):
        values = 100 * np.array(
          [value for pair in group for value in pair.results.get(tap, {}).get(start, ())]
        )
        _strip(ax, place + side * STRIP, values, style.STARTS[start])
    ax.set_xlim(-0.5, len(record.all_taps(group)) - 0.5)
  style.accuracy_limits(axes)
  for ax in axes if stacked else axes[:1]:
    ax.set_ylabel(style.ACCURACY)
  return figure


def _strip(ax, x, values, look):
  spread = np.linspace(-SPREAD, SPREAD, len(values)) if len(values) > 1 else np.zeros(len(values))
  ax.plot(x + spread, values, **look | {"ms": 3.5 if len(values) < 20 else 2}, mew=0, alpha=0.7)
  known = values[np.isfinite(values)]
  if len(known):
    ax.plot([x - 1.3 * SPREAD, x + 1.3 * SPREAD], [known.mean()] * 2, color=look["color"], lw=1.6)


def _places(group, band):
  """Where the taps of a band are on an axis of all taps of the group."""
  order = list(record.all_taps(group))
  return [order.index(tap) for tap in band.x]


def _columns(results, groups, handles, second, stacked=False):
  """A panel for each kind, and with `second` another below it, or beside it for a single kind.

  Args:
    groups: {kind: pairs}; panels are titled and ticked with their taps.
    handles: of the legend below, to which the line of regularised taps is added.
    second: whether a kind has two panels.
    stacked: one panel of one kind a row.

  Returns:
    (figure, the first panels, the second panels).
  """
  count = len(groups)
  columns, rows = (2, 1) if count == 1 and second else (count, 1 + second)
  columns, rows = (1, count) if stacked else (columns, rows)
  width = WIDTH / columns - MARGIN
  titles = [textwrap.fill(record.heading(*item), int(LETTERS * width)) for item in groups.items()]
  if any(set(results.regularised_taps) & set(record.all_taps(group)) for group in groups.values()):
    handles = [*handles, style.handle(style.MARK | {"label": f"regularised {results.tap_label()}"})]
  figure, axes = plot.panels(columns * rows, HEIGHT, handles, columns=columns)
  for ax, text in zip(axes[:count], titles, strict=True):
    ax.set_title(text)
  for index, ax in enumerate(axes):
    group = list(groups.values())[index % count]
    style.tap_ticks(ax, record.all_taps(group), width, results.regularised_taps)
  return figure, axes[:count], axes[count:]
