"""What the pictures of stitching experiments share: colours, bands, limits, ticks."""

import math

import numpy as np
from matplotlib.lines import Line2D

from dissim_jax.render.style import GREY, PALETTE

INK = "#4c5560"
RED, BLUE, AMBER, GREEN, PURPLE, BROWN, PINK = (PALETTE[i] for i in (1, 0, 2, 3, 4, 5, 7))
ACCURACY = "relative accuracy [%]"
MARK = {"color": "#14181d", "lw": 1.0, "ls": (0, (1, 1.5)), "zorder": 1.5}  # of regularised taps


def _style(label, color, ls="-", marker="."):
  return {"label": label, "color": color, "ls": ls, "marker": marker, "lw": 1.7, "ms": 5}


METHODS = {
  "least_squares": _style("least squares", BLUE),
  "linear": _style("linear (no bias)", GREEN, "-."),
  "orthogonal": _style("orthogonal", AMBER, "--"),
  "task_loss": _style("task loss", RED),
  "identity": _style("no transformation", GREY, ":"),
}
METHODS["direct"] = METHODS["least_squares"] | {"label": "direct"}
MEASURES = {
  "lincka": _style("LinCKA", PURPLE),
  "r2": _style("R²", GREEN, "--"),
  "cca": _style("CCA", BROWN, "-."),
  "svcca": _style("SVCCA", PINK, (0, (4, 1, 1, 1, 1, 1))),
  "cross_entropy": _style("cross-entropy to the target (right)", INK, ":"),
  "relative_accuracy": _style("relative accuracy", RED),
}
STARTS = {
  "random": _style("from random starts", AMBER, "", "o"),
  "least_squares": _style("from least squares", BLUE, "", "o"),
}


def handle(style) -> Line2D:
  """An entry of a legend."""
  return Line2D([], [], **style)


def draw_band(ax, band, style, scale=1.0, x=None, alpha=0.15):
  """The mean as a line and, of several pairs, mean ± one standard deviation as an area.

  Args:
    ax: where.
    band: a `stitching.Band`.
    style: one of the tables above.
    scale: 100 for percent.
    x: positions instead of the band's own.
    alpha: opacity of the area.
  """
  x = band.x if x is None else x
  mean, std = scale * band.mean, scale * band.std
  shown = style | {"marker": None} if len(x) > 20 else style
  ax.plot(x, mean, **shown)
  if band.count > 1:
    ax.fill_between(x, mean - std, mean + std, color=style["color"], alpha=alpha, lw=0)


def reach(axes) -> tuple:
  """(lowest, highest) y of everything drawn, bands as well; (0, 0) where nothing is."""
  bounds = [bound for ax in axes for bound in (ax.dataLim.y0, ax.dataLim.y1) if np.isfinite(bound)]
  return min(bounds, default=0.0), max(bounds, default=0.0)


def accuracy_limits(axes, full=100.0):
  """From 0 to a little above the target's own accuracy, or to what surpasses it."""
  lowest, highest = reach(axes)
  for ax in axes:
    ax.set_ylim(min(0.0, lowest) - 0.03 * full, max(full, highest) + 0.05 * full)


def similarity_limits(axes):
  """From 0, or from the least value down to -1, to 1."""
  lowest, highest = reach(axes)
  for ax in axes:
    ax.set_ylim(max(-1.0, min(0.0, lowest)) - 0.04, max(1.0, highest) + 0.05)


def tap_ticks(ax, taps, width, marked=()):
  """Numbers every tap, with its name where all fit, else every few.

  Args:
    ax: the taps are at x = 0, 1, 2, ...
    taps: {tap: name}.
    width: of the panel in inches.
    marked: taps that get the line of a regularised tap.
  """
  numbers, count = list(taps), len(taps)
  step = math.ceil(count / (3.6 * width))
  fits = sum(max(len(name), 3) + 2 for name in taps.values()) < 14.5 * width
  ticks = range(0, count, step)
  ax.set_xticks(
    list(ticks), [f"{numbers[i]}\n{taps[numbers[i]]}" if fits else str(numbers[i]) for i in ticks]
  )
  margin = 0.03 * count + (0.2 if count < 4 else 0.0)
  ax.set(xlabel="" if fits else "tap", xlim=(-margin, count - 1 + margin))
  for tap in marked:
    if tap in taps:
      ax.axvline(numbers.index(tap), **MARK)
