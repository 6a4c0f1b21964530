"""The pictures of robustness: errors by severity, gains by corruption, examples of corruptions."""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dissim_jax.render import images, plot, style
from dissim_jax.studies.corruption import record
from dissim_jax.studies.corruption.record import CLEAN, GAIN, MEAN

COLUMNS = 4  # of panels
MARKERS = "osD^vPX*"
ROW = 0.27  # inches of a corruption among the gains
CELL, NAME, HEAD = 0.66, 1.28, 0.3  # inches: an example, the corruption's name, the severities


def looks(sequences) -> dict:
  """Colour and marker of every ensemble; the baseline is grey."""
  return images.looks(sequences, MARKERS)


def errors(robustness, curves, sequences) -> Figure:
  """Ensemble error against severity, a panel a corruption, all with one y axis.

  Args:
    robustness: a `Robustness`, for names and severities.
    curves: {(corruption or `MEAN`, sequence): (x, mean, std or None)} in percent.
    sequences: names of the ensembles.
  """
  panels = [*robustness.corruptions, MEAN]
  columns = min(COLUMNS, len(panels))
  highest = max(
    (
      np.nanmax(mean + (0 if std is None else np.nan_to_num(std)))
      for _, mean, std in curves.values()
      if not np.isnan(mean).all()
    ),
    default=1.0,
  )
  shown = looks(sequences)
  figure, axes = plot.panels(len(panels), 1.82, _handles(shown), columns=columns)
  for index, (ax, corruption) in enumerate(zip(axes, panels, strict=True)):
    for name in sequences:
      x, mean, std = curves[corruption, name]
      ax.plot(x, mean, color=shown[name]["color"], marker=shown[name]["marker"], ms=3, lw=1.4)
      if std is not None:
        ax.fill_between(x, mean - std, mean + std, color=shown[name]["color"], alpha=0.15, lw=0)
    title = robustness.corruptions.get(corruption, MEAN)
    ax.set_title(title, size=9, weight="bold" if corruption == MEAN else "normal", loc="left")
    ax.set(
      ylim=(0, 1.06 * highest or 1.0),
      xlim=(-0.15, max(robustness.severities) + 0.15),
      ylabel="" if index % columns else "error [%]",
    )
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(labelleft=not index % columns, labelsize=7, pad=2)
  return figure


def error_curves(robustness) -> dict:
  """The curves of one run, for `errors`."""
  curves = {}
  for corruption in (*robustness.corruptions, MEAN):
    for name in robustness.sequences:
      x, y = np.array(robustness.by_severity(corruption, name, "ensemble_accuracy")).T
      curves[corruption, name] = x, 100 * (1 - y), None
  return curves


def gains(robustness) -> Figure | None:
  """Accuracy of the ensemble minus that of its best member, a row a corruption."""
  rows = list(robustness.rows)
  values = {
    (row, name): 100 * robustness.mean(row, name, GAIN).value
    for row in rows
    for name in robustness.sequences
  }
  if all(math.isnan(value) for value in values.values()):
    return None
  shown = looks(robustness.sequences)
  figure, (ax,) = plot.panels(1, ROW * len(rows) + 0.5, _handles(shown, ls=""))
  spread = 0.5 / max(1, len(robustness.sequences) - 1)
  for index, name in enumerate(robustness.sequences):
    offset = (index - (len(robustness.sequences) - 1) / 2) * spread
    ax.plot(
      [values[row, name] for row in rows],
      np.arange(len(rows)) + offset,
      ls="",
      ms=5,
      mew=0,
      **shown[name],
    )
  ax.axvline(0, color=images.INK, lw=0.8)
  for border in (0.5, len(rows) - 1.5):
    ax.axhline(border, color=images.INK, lw=0.5)
  ax.set_yticks(range(len(rows)), list(robustness.rows.values()))
  ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="gain over the best member [points]")
  ax.grid(axis="y", visible=False)
  return figure


def examples(robustness) -> Figure | None:
  """One image under every corruption (rows) and severity (columns), the original at the left."""
  if robustness.images is None:
    return None
  names = list(robustness.corruptions)
  cell = min(CELL, (style.WIDTH - NAME) / (1 + len(robustness.severities)))
  across = NAME + (1 + len(robustness.severities)) * cell
  blocks = max(1, min(len(names), int((style.WIDTH + 0.3) / (across + 0.3))))
  each = math.ceil(len(names) / blocks)
  height = HEAD + each * cell
  figure, ax = images.blank(style.WIDTH, height)
  for index, corruption in enumerate(names):
    block, row = divmod(index, each)
    left, top = block * (across + 0.3), height - HEAD - row * cell
    if not row:
      heads = ["original", *(f"{severity:g}" for severity in robustness.severities)]
      for column, head in enumerate(heads):
        ax.text(left + NAME + (column + 0.5) * cell, height - 0.2, head, size=8, ha="center")
    ax.text(
      left + NAME - 0.08,
      top - cell / 2,
      robustness.corruptions[corruption],
      size=8,
      ha="right",
      va="center",
    )
    for column, image in enumerate([robustness.original, *robustness.images[index]]):
      images.image(ax, image, left + NAME + column * cell, top - cell, cell * 0.94)
  return figure


def _handles(shown, ls="-"):
  return [Line2D([], [], label=name, lw=1.4, ms=4, ls=ls, **look) for name, look in shown.items()]


def titles(robustness) -> str:
  """The rows of a figure in words."""
  return ", ".join([CLEAN, *robustness.corruptions.values(), record.MEAN])
