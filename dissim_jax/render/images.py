"""Pictures made of images and words, placed in inches; and how ensembles look in every picture."""

import numpy as np
from matplotlib.figure import Figure

from dissim_jax.registry.objectives import BASELINE
from dissim_jax.render import style

INK = "#4c5560"


def looks(sequences, markers: str = ".") -> dict:
  """{sequence: {"color", "marker"}}; the baseline is grey, the others have colours of their own."""
  others = [name for name in sequences if name != BASELINE]
  colours = dict(zip(others, style.colours(len(others) + 1)[1:], strict=True))
  return {
    name: {"color": colours.get(name, style.GREY), "marker": markers[index % len(markers)]}
    for index, name in enumerate(sequences)
  }


def blank(width: float, height: float) -> tuple:
  """(figure, axes) without ticks, whose coordinates are inches from the lower left."""
  figure = Figure(figsize=(width, height))
  ax = figure.add_axes((0, 0, 1, 1))
  ax.set(xlim=(0, width), ylim=(0, height), autoscale_on=False)
  ax.axis("off")
  return figure, ax


def image(ax, pixels: np.ndarray, left: float, bottom: float, side: float, **options) -> None:
  """Draws an image into a square, its longer side filling it, enlarged without smoothing.

  Args:
    ax: of `blank`.
    pixels: uint8 [H, W, 3] or [H, W, 1] (grey), or float [H, W] with `options` of imshow.
    left, bottom, side: of the square, in inches.
    **options: `cmap`, `vmin`, `vmax`.
  """
  grey = pixels.ndim == 3 and pixels.shape[-1] == 1
  if grey:
    pixels, options = pixels[..., 0], {"cmap": "gray", "vmin": 0, "vmax": 255, **options}
  high, wide = (side * size / max(pixels.shape[:2]) for size in pixels.shape[:2])
  x, y = left + (side - wide) / 2, bottom + (side - high) / 2
  smaller = max(pixels.shape[:2]) > side * style.DPI
  ax.imshow(
    pixels,
    extent=(x, x + wide, y, y + high),
    aspect="auto",
    interpolation="antialiased" if smaller else "nearest",
    **options,
  )
