"""The pictures of matrices and bars: similarity by cluster, spectral features, components.

Figures are built without pyplot: no global state, and the Agg canvas needs no display.
"""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dissim_jax.render import plot, style
from dissim_jax.render.heat_map import NO_VALUE
from dissim_jax.render.images import INK
from dissim_jax.render.style import COLOURS
from dissim_jax.studies.pool.analysis import Analysis

LONGEST = 30  # letters of a name in a picture
# Inches: right of the map, above it, features' columns, largest side of a cell, of a bar.
BAR, TOP, COLUMN, GAP, CELL, ROW = 0.75, 0.3, 0.21, 0.12, 0.42, 0.27
_LETTER = 0.0092  # inches a letter is wide, for each point of its size
NUMBERS = 30  # models up to which the map has numbers


def short(name: str) -> str:
  """A name for a picture; of long ones the middle is left out."""
  half = LONGEST // 2
  name = "".join(letter if letter.isprintable() else "?" for letter in name)
  return name if len(name) <= LONGEST else f"{name[:half]}…{name[-half + 1 :]}"


def labels(names: list) -> list:
  """Names for a picture, without the last parts that all of them share."""
  parts = [name.split("/") for name in names]
  while min(map(len, parts)) > 1 and len({part[-1] for part in parts}) == 1:
    parts = [part[:-1] for part in parts]
  return [short("/".join(part)) for part in parts]


def heat_map(analysis: Analysis) -> Figure:
  """Similarity of all pairs and the spectral features, by cluster (Figures D.2 and C.1)."""
  order, count = analysis.order, len(analysis.order)
  names = labels(analysis.pool.names)
  names = [names[i] for i in order]
  features = analysis.features[order]
  # Margin and strip depend on the cells, these on what is left of the width: twice is enough.
  size, column, longest = 8.0, COLUMN, max(map(len, names))
  for _ in range(2):
    margin = longest * size * _LETTER + 0.2
    strip = GAP + column * features.shape[1]
    cell = min(CELL, (style.WIDTH - margin - strip - BAR) / count)
    size, column = max(5.0, min(8.5, 72 * cell * 0.82)), min(COLUMN, max(0.12, cell))
  side = cell * count
  height = TOP + side + margin
  figure = Figure(figsize=(style.WIDTH, height))
  box = lambda left, width: [  # noqa: E731
    left / style.WIDTH,
    margin / height,  # noqa: E731
    width / style.WIDTH,
    side / height,
  ]
  ax = figure.add_axes(box(margin, side))
  image = _square(ax, analysis.pool.similarity[np.ix_(order, order)], cell, size)
  ax.set_xticks(range(count), names, rotation=90, size=size)
  ax.set_yticks(range(count), names, size=size)
  ax.set_title("similarity s", loc="left")
  _frames(ax, analysis.clusters[order])
  if features.shape[1]:
    _strip(
      figure.add_axes(box(margin + side + GAP, strip - GAP)),
      features,
      analysis.clusters[order],
      size,
    )
  bar = figure.add_axes(box(margin + side + strip + 0.12, 0.13))
  figure.colorbar(image, cax=bar).outline.set_visible(False)
  bar.tick_params(labelsize=7)
  return figure


def _square(ax, values, cell, size):
  """The map; its scale is that of the pairs, as a model with itself is far above most of them."""
  off = values[~np.eye(len(values), dtype=bool)]
  off = off[np.isfinite(off)]
  low, high = (off.min(), off.max()) if off.size else (0.0, 1.0)
  if high - low < 1e-6:  # a scale needs two ends
    low, high = low - 0.5, high + 0.5
  colours = matplotlib.colormaps[COLOURS].with_extremes(bad=NO_VALUE)
  image = ax.imshow(
    values, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
  )
  _bare(ax)
  for (row, column), value in np.ndenumerate(values) if len(values) <= NUMBERS else ():
    if np.isfinite(value):
      bright = (value - low) / (high - low) > 0.62
      ax.text(
        column,
        row,
        f"{value:.1f}".replace("-", "−"),
        ha="center",
        va="center",
        size=min(7.0, 72 * cell * 0.33),
        color="#14181d" if bright else "white",
      )
  return image


def _strip(ax, features, clusters, size):
  """A column for each eigenvector."""
  most = max(float(np.abs(features).max()), 1e-12)
  ax.imshow(features, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
  _bare(ax)
  ax.set_yticks([])
  ax.set_xticks(
    range(features.shape[1]), [str(i + 1) for i in range(features.shape[1])], size=min(size, 6.5)
  )
  ax.set_xlabel("eigen-\nvector", size=7)
  for edge in _edges(clusters)[1:-1]:
    ax.axhline(edge - 0.5, color=INK, lw=1.0)


def _bare(ax):
  ax.grid(False)
  ax.tick_params(length=0, pad=3)
  for spine in ax.spines.values():
    spine.set_visible(False)


def _edges(clusters) -> list:
  """Where clusters begin in an order by cluster, and the end."""
  return [0, *(np.flatnonzero(np.diff(clusters)) + 1).tolist(), len(clusters)]


def _frames(ax, clusters):
  edges = _edges(clusters)
  for start, end in zip(edges[:-1], edges[1:], strict=True):
    for width, colour in ((3.4, "#14181d"), (1.6, "white")):
      ax.add_patch(
        Rectangle(
          (start - 0.5, start - 0.5),
          end - start,
          end - start,
          fill=False,
          ec=colour,
          lw=width,
          clip_on=False,
          zorder=4,
        )
      )


def importances(importance) -> Figure:
  """A bar for each component, the most important above (Figure 1)."""
  order = np.argsort(importance.mean, kind="stable")
  names = [short(importance.names[i].replace("_", " ")) for i in order]
  figure, (ax,) = plot.panels(1, ROW * len(names) + 0.65)
  ax.barh(
    range(len(names)),
    importance.mean[order],
    xerr=importance.std[order],
    height=0.62,
    color=style.PALETTE[0],
    error_kw={"ecolor": INK, "lw": 1.0, "capsize": 2},
  )
  ax.set_yticks(range(len(names)), names)
  ax.set(ylim=(-0.6, len(names) - 0.4), xlabel="fall of R² when the component is permuted")
  ax.axvline(0, color=INK, lw=0.8)
  ax.grid(axis="y", visible=False)
  return figure
