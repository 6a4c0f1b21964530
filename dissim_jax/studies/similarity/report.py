"""The pictures of representations tap by tap; see also training (curves) and maps (heat maps).

Figures are built without pyplot: no global state, and the Agg canvas needs no display.
"""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dissim_jax.files import run
from dissim_jax.render import plot
from dissim_jax.render.style import GREY, PALETTE, colours

MANY_PAIRS = 6  # above this, pairs are drawn by relation, with a mean, rather than one by one


def diagonal(results) -> Figure | None:
  """LinCKA of tap l against tap l, example-wise and position-wise (Wald et al. 2023, Figure 7)."""
  diagonals = {pair: results.equal_taps(*pair) for pair in results.pairs}
  equal = {pair: values for pair, values in diagonals.items() if values is not None}
  panels = [
    ("LinCKA, samples = examples", equal),
    ("LinCKA, samples = positions", results.arrays["lincka_position"]),
  ]
  return _tap_panels(results, panels, lower=0.0)


def least_squares(results) -> Figure | None:
  """R² of linear regression between equal taps, in both directions."""
  r2 = results.arrays["r2"]
  panels = [
    ("R²: later member from earlier", {pair: r2[pair] for pair in results.pairs if pair in r2}),
    ("R²: earlier member from later", {(a, b): r2[b, a] for a, b in results.pairs if (b, a) in r2}),
  ]
  return _tap_panels(results, panels, lower=-1.0)


def _tap_panels(results, panels, lower):
  """Panels of lines over taps; values below `lower` leave the picture."""
  panels = [
    (
      title,
      {
        pair: curves[pair]
        for pair in results.pairs
        if pair in curves and not np.isnan(curves[pair]).all()
      },
    )
    for title, curves in panels
  ]
  panels = [panel for panel in panels if panel[1]]
  if not panels:
    return None
  pairs = [pair for pair in results.pairs if any(pair in curves for _, curves in panels)]
  handles = _pair_handles(results, pairs)
  if results.regularised_taps:
    handles.append(
      Line2D(
        [],
        [],
        color="#14181d",
        lw=1.0,
        ls=(0, (1, 1.5)),
        label=f"regularised {results.tap_label()}",
      )
    )
  figure, axes = plot.panels(len(panels), 3.2, handles, legend_columns=3)
  for ax, (title, curves) in zip(axes, panels, strict=True):
    _tap_lines(ax, results, curves, pairs)
    bottom = min((np.nanmin(values) for values in curves.values()), default=0.0)
    ax.set(title=title, ylim=(max(lower, min(0.0, bottom)) - 0.03, 1.03))
    _tap_ticks(ax, results.tap_names(max(curves, key=lambda pair: len(curves[pair]))[1]))
    for tap in results.regularised_taps:
      ax.axvline(tap, color="#14181d", lw=1.0, ls=(0, (1, 1.5)), zorder=1.5)
  return figure


def _tap_lines(ax, results, curves, pairs):
  styles = pair_styles(results, pairs)
  for pair, values in curves.items():
    ax.plot(range(len(values)), values, marker=".", ms=4, **styles[pair])
  if len(pairs) <= MANY_PAIRS:
    return
  for relation in run.RELATION_NAMES:
    alike = [values for pair, values in curves.items() if results.relation(*pair) == relation]
    if alike and len({len(values) for values in alike}) == 1:
      ax.plot(
        range(len(alike[0])),
        np.mean(alike, axis=0),
        lw=2.6,
        color=_RELATION[relation][0],
        ls=_RELATION[relation][1],
        zorder=3,
      )


_RELATION = {
  "independent": (GREY, "-"),
  "against": (PALETTE[1], "-"),
  "joint": (PALETTE[2], "-"),
  "other": (PALETTE[0], "--"),
}


def pair_styles(results, pairs) -> dict:
  """Line style per pair: its own colour for few pairs, the relation's for many."""
  if len(pairs) > MANY_PAIRS:
    return {
      pair: {"color": _RELATION[results.relation(*pair)][0], "lw": 0.7, "alpha": 0.4}
      for pair in pairs
    }
  pair_colours = iter(colours(len(pairs) + 1)[1:])
  some = any(results.relation(*pair) != "independent" for pair in results.pairs)
  styles = {}
  for pair in pairs:
    relation = results.relation(*pair)
    alone = relation == "independent" and some
    styles[pair] = {
      "color": GREY if alone else next(pair_colours),
      "lw": 1.7,
      "ls": _RELATION[relation][1],
    }
  return styles


def _pair_handles(results, pairs):
  if len(pairs) <= MANY_PAIRS:
    styles = pair_styles(results, pairs)
    return [
      Line2D(
        [], [], **styles[a, b], label=f"{a} – {b} ({run.RELATION_NAMES[results.relation(a, b)]})"
      )
      for a, b in pairs
    ]
  counts = {}
  for pair in pairs:
    counts[results.relation(*pair)] = counts.get(results.relation(*pair), 0) + 1
  return [
    Line2D(
      [],
      [],
      color=_RELATION[relation][0],
      ls=_RELATION[relation][1],
      lw=2.6,
      label=f"mean of {counts[relation]} pairs: {name}",
    )
    for relation, name in run.RELATION_NAMES.items()
    if relation in counts
  ]


def _tap_ticks(ax, names):
  """Tap number and name where they fit, else every few numbers."""
  step = math.ceil(len(names) / 18)
  ticks = range(0, len(names), step)
  fits = sum(max(len(name), 3) + 2 for name in names) < 72
  ax.set_xticks(list(ticks), [f"{tap}\n{names[tap]}" if fits else str(tap) for tap in ticks])
  ax.set(xlabel="" if fits else "tap", xlim=(-0.03 * len(names), 1.03 * len(names) - 1))
