"""Blurs of CIFAR-10-C: out of focus, in motion, zoomed while exposing.

Reference: Hendrycks & Dietterich 2019 and their `make_cifar_c.py`. Pixels beyond the border have
the value of the nearest pixel.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.corruptions.images import (
  REFERENCE_SIDE,
  between,
  block_mean,
  draw,
  enlarge,
  enlargement,
  finish,
  pixels,
  shorter_side,
)
from dissim_jax.corruptions.severities import constants, largest

_TRUNCATE = 4.0  # Standard deviations; scipy.ndimage's default.
_ZOOM_STEP = 0.01


def apply_separable(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
  """sum_ij rows[a, i] columns[b, j] images[n, i, j, c] -> [n, a, b, c] in full float32."""
  highest = jax.lax.Precision.HIGHEST
  across = jnp.einsum("bj,nijc->nibc", columns, images, precision=highest)
  return jnp.einsum("ai,nibc->nabc", rows, across, precision=highest)


def on_enlarged(matrix: jax.Array, factor: int) -> jax.Array:
  """The [size, size] operator: a line enlarged by the factor, `matrix`, means over blocks."""
  size = matrix.shape[0] // factor
  return matrix.reshape(size, factor, size, factor).sum(3).mean(1)


def gaussian_matrix(size: int, deviation: jax.Array, reach: int) -> jax.Array:
  """The [size, size] operator of a Gaussian filter of a line, as `scipy.ndimage` defines it.

  Args:
    size: pixels of the line.
    deviation: standard deviation in pixels, may be traced; 0 gives the identity.
    reach: static bound on the kernel's radius.
  """
  offset = jnp.arange(-reach, reach + 1, dtype=jnp.float32)
  weight = jnp.exp(-0.5 * (offset / jnp.maximum(deviation, 1e-6)) ** 2)
  weight = jnp.where(jnp.abs(offset) <= jnp.floor(_TRUNCATE * deviation + 0.5), weight, 0.0)
  weight /= weight.sum()
  source = np.clip(np.arange(size)[:, None] + np.arange(-reach, reach + 1), 0, size - 1)
  return jnp.zeros((size, size)).at[np.arange(size)[:, None], source].add(weight)


def gaussian_blur(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """Gaussian filter of standard deviation c; no random choice.

  Below severity 1 the image is mixed with that of severity 1: a narrower kernel, sampled at whole
  pixels, would be none at all.
  """
  image = pixels(keys, images)
  factor = enlargement(images)
  scale = factor * shorter_side(images) / REFERENCE_SIDE
  deviation, share = constants("gaussian_blur", severity)
  reach = int(np.ceil(_TRUNCATE * scale * largest("gaussian_blur", "deviation")))
  rows, columns = (
    on_enlarged(gaussian_matrix(size * factor, scale * deviation, reach), factor)
    for size in images.shape[1:3]
  )
  blurred = apply_separable(image, rows, columns)
  return finish(images, (1 - share) * image + share * blurred, severity)


def motion_blur(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """Mean along a ray at a random angle within 45 degrees of the horizontal.

  Weights exp(-i^2 / (2 c^2)) of the pixels nearest to i (cos, sin) of the angle, i = 0, 1, …, as in
  ImageMagick. Differs from it: the kernel is cut at four standard deviations whatever the radius.
  """
  factor = enlargement(images)
  image = enlarge(pixels(keys, images), factor)
  scale = shorter_side(image) / REFERENCE_SIDE
  (deviation,) = constants("motion_blur", severity)
  steps = int(np.ceil(_TRUNCATE * scale * largest("motion_blur", "deviation"))) + 1
  distance = jnp.arange(steps, dtype=jnp.float32)
  weight = jnp.exp(-0.5 * (distance / jnp.maximum(scale * deviation, 1e-6)) ** 2)
  weight /= weight.sum()
  angle = between(draw(jax.random.uniform, keys, ()), -np.pi / 4, np.pi / 4)
  down = jnp.round(distance[:, None] * jnp.sin(angle)).astype(jnp.int32)
  right = jnp.round(distance[:, None] * jnp.cos(angle)).astype(jnp.int32)

  def add(step, total):
    return total + weight[step] * _shift(image, down[step], right[step])

  blurred = jax.lax.fori_loop(0, steps, add, jnp.zeros_like(image))
  return finish(images, block_mean(blurred, factor), severity)


def _shift(images, down, right):
  """images[n, y + down[n], x + right[n]], the border repeated."""
  height, width = images.shape[1:3]
  rows = jnp.clip(jnp.arange(height) + down[:, None], 0, height - 1)
  columns = jnp.clip(jnp.arange(width) + right[:, None], 0, width - 1)
  take = lambda image, y, x: image.at[y[:, None], x].get(mode="promise_in_bounds")  # noqa: E731
  return jax.vmap(take)(images, rows, columns)


def zoom_line(size: int, factor: float) -> tuple[float, float]:
  """Where the zoom of a line of `size` pixels looks: pixel i at first + i step, (first, step).

  The authors' `clipped_zoom`: the middle ceil(size / factor) pixels are stretched end to end over
  round(factor times as many), as `scipy.ndimage.zoom` does, and of these the middle `size` are
  kept. What is too much is cut in whole pixels, of an odd number fewer before than after, so that
  small images move: at 32 pixels and factor 1.02 nothing is cut before the line, one pixel after.
  """
  crop = math.ceil(size / factor)
  stretched = round(crop * factor)
  top, trim = (size - crop) // 2, (stretched - size) // 2
  step = (crop - 1) / (stretched - 1)
  return top + trim * step, step


def zoom(lines: jax.Array, first: jax.Array, step: jax.Array) -> jax.Array:
  """The leading axis of [size >= 2, ...] at the places first + i step, linearly; all inside."""
  size = lines.shape[0]
  place = first + step * jnp.arange(size, dtype=jnp.float32)
  low = jnp.clip(jnp.floor(place), 0, size - 2).astype(jnp.int32)
  share = (place - low).reshape(size, *[1] * (lines.ndim - 1))
  take = lambda at: lines.at[at].get(mode="promise_in_bounds")  # noqa: E731
  return (1 - share) * take(low) + share * take(low + 1)


def zoom_blur(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """Mean of the image and of its zooms by 1, 1.01, 1.02, …, see `zoom_line`; no random choice.

  Between severities the last zoom has the weight of the fraction. Differs from the reference, which
  knows square images only: here rows and columns are each cut by their own number.
  """
  factor = enlargement(images)
  # Images last: on CPU copying rows of neighbours is ten times as fast as matrix products.
  image = jnp.moveaxis(enlarge(pixels(keys, images), factor), 0, 2)
  (count,) = constants("zoom_blur", severity)
  zooms = np.arange(1, 1 + _ZOOM_STEP * (largest("zoom_blur", "count") - 0.5), _ZOOM_STEP)
  rows, columns = (
    jnp.array([zoom_line(size, by) for by in zooms], jnp.float32) for size in image.shape[:2]
  )

  def add(index, total):
    down = jnp.swapaxes(zoom(image, *rows[index]), 0, 1)
    zoomed = jnp.swapaxes(zoom(down, *columns[index]), 0, 1)
    return total + jnp.clip(count - index, 0, 1) * zoomed

  total = jax.lax.fori_loop(0, jnp.ceil(count).astype(jnp.int32), add, image)
  blurred = jnp.moveaxis(total / (1 + count), 2, 0)
  return finish(images, block_mean(blurred, factor), severity)
