"""One heat map of taps against taps, and its scale; who draws many says where each goes."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from dissim_jax.render.style import COLOURS

NO_VALUE = "#d8dbdf"
_DIGITS = 0.27  # inches that a tap's number takes
_STEPS = (1, 2, 4, 5, 8, 10, 20, 50)


def draw(ax: Axes, values: np.ndarray, low: float = 0.0, high: float = 1.0) -> AxesImage:
  """Values [taps on x, taps on y], tap 0 at the lower left; what has no value is grey."""
  colours = matplotlib.colormaps[COLOURS].with_extremes(bad=NO_VALUE)
  image = ax.imshow(
    values.T,
    origin="lower",
    cmap=colours,
    vmin=low,
    vmax=high,
    aspect="auto",
    interpolation="nearest",
  )
  ax.grid(False)
  ax.tick_params(length=2, pad=1.5, labelsize=7)
  ax.spines[:].set_visible(False)
  return image


def set_ticks(axis, taps: list, side: float, labelled: bool) -> None:
  """Numbers of taps, thinned to what fits into `side` inches; without labels only tick marks."""
  fitting, last = max(2, int(side / _DIGITS)), len(taps) - 1
  step = next(step for step in (*_STEPS, len(taps)) if last / step < fitting)
  places = list(range(0, len(taps), step))
  axis.set_ticks(places, [str(taps[place]) if labelled else "" for place in places])


def colour_bar(
  figure: Figure,
  image: AxesImage,
  box: tuple[float, float, float, float],
  ticks: Sequence[float] = (0, 0.25, 0.5, 0.75, 1),
) -> None:
  """The scale of an image in a box (left, bottom, width, height) of shares of the figure."""
  bar = figure.add_axes(box)
  figure.colorbar(image, cax=bar, ticks=list(ticks)).outline.set_visible(False)
  bar.grid(False)
