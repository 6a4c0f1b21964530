"""Plasma noise, checkerboard cutout, water drop and lines: the four of Rosales et al. 2023.

Reference: Mintun et al. 2021, "On interaction between augmentations and corruptions in natural
corruption robustness" (ImageNet-C-bar, CIFAR-10-C-bar), and their `corrupt.py`. Strength s in 0..10
is their unit; grey is 128.
"""

from typing import Any

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
  pixel_grid,
  pixels,
  shorter_side,
  take_pixels,
  uniforms,
)
from dissim_jax.corruptions.severities import constants, largest

_STRONGEST = 10
_GREY = 128.0
# Ranges that parameters are drawn from; lengths in shares of the shorter side.
_PLASMA_ITERATIONS = (4, 7)
_PLASMA_SCALE = (0.075, 0.2)
_PLASMA_SHARPNESS = (0.5, 1.0)
_PLASMA_INTENSITY = 64 / 255
_SQUARE = (0.1, 0.25)
_DROP_CENTRE = (0.25, 0.75)
_DROP_AMPLITUDE = 0.25
_DROP_WAVELENGTH = (0.05, 0.2)
_LINE_VARIATION = (0.1, 1.0)


def plasma_noise(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """(1 - a) x + 255 a p, a = 64 s / 2550, p coloured sine waves in [-1, 1] whose phases are warped.

  A grey image takes the first of the three colours.
  """
  image = pixels(keys, images)
  (strength,) = constants("plasma_noise", severity)
  share = _PLASMA_INTENSITY * strength / _STRONGEST
  plasma = plasma_waves(keys, images)[..., : images.shape[-1]]
  return finish(images, (1 - share) * image + 255 * share * plasma, severity)


def plasma_waves(keys: jax.Array, images: jax.Array) -> jax.Array:
  """Three colours of sines of (x, y), bent four to six times by finer and weaker waves."""
  time, iterations, sharpness, scale = uniforms(keys, 4)
  time = between(time, 0, 6 * np.pi)
  iterations = jnp.floor(between(iterations, *_PLASMA_ITERATIONS))
  sharpness = between(sharpness, *_PLASMA_SHARPNESS)
  scale = between(scale, *_PLASMA_SCALE) * shorter_side(images)
  rows, columns = pixel_grid(images)
  shape = (len(keys), *images.shape[1:3])
  x = jnp.broadcast_to(columns / scale, shape)
  y = jnp.broadcast_to(rows / scale, shape)
  frequency, slowness, weakness = 1.0, 1.0, jnp.ones_like(sharpness)
  for iteration in range(_PLASMA_ITERATIONS[1] - 1):
    first = fast_sine(y * frequency + time / slowness + np.pi / 2) / weakness
    second = fast_sine(x * frequency + time / slowness) / weakness
    active = iteration < iterations
    x = jnp.where(active, x + first - 0.3 * second, x)
    y = jnp.where(active, y + second + 0.3 * first, y)
    frequency, slowness, weakness = frequency * 1.93, slowness * 1.15, weakness * (2.25 - sharpness)
  # Without the barrier the waves are computed again for each colour.
  x, y = jax.lax.optimization_barrier((x, y))
  green = fast_sine((x + y + fast_sine(time)) / 2)
  return jnp.stack((fast_sine(x - time), green, fast_sine(y + time)), axis=-1)


def fast_sine(x: jax.Array) -> jax.Array:
  """sin(x) to 1e-5 for |x| up to 300, in arithmetic that vectorises.

  On CPU `jnp.sin` is a call for each number: measured 20 times as slow, most of the plasma's time.
  """
  turns = jnp.round(x / np.pi)
  rest = x - turns * np.pi
  square = rest * rest
  series = 1 / 120 + square * (-1 / 5040 + square / 362880)
  sine = rest * (1 + square * (-1 / 6 + square * series))
  return jnp.where(turns % 2 == 0, sine, -sine)


def checkerboard_cutout(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """Each black square of a turned chessboard is filled with grey with probability s / 10."""
  image = pixels(keys, images)
  (strength,) = constants("checkerboard_cutout", severity)
  angle, scale = uniforms(keys, 2)
  angle = between(angle, 0, 2 * np.pi)
  side = shorter_side(images)
  scale = jnp.maximum(between(scale, *_SQUARE) * side, 1)
  rows, columns = pixel_grid(images)
  first = jnp.floor((jnp.cos(angle) * rows + jnp.sin(angle) * columns) / scale).astype(jnp.int32)
  second = jnp.floor((jnp.cos(angle) * columns - jnp.sin(angle) * rows) / scale).astype(jnp.int32)
  height, width = images.shape[1:3]
  reach = int(np.hypot(height, width) / max(_SQUARE[0] * side, 1)) + 1
  # A stream of its own: the squares must not repeat the numbers that turn the board.
  squares_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
  squares = draw(jax.random.uniform, squares_keys, (2 * reach, 2 * reach, 1))
  chosen = take_pixels(squares, first + reach, second + reach) < strength / _STRONGEST
  filled = chosen & ((first - second) % 2 == 0)[..., None]
  return finish(images, jnp.where(filled, _GREY, image), severity)


def water_drop(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """Circular waves refract a disc: pixels move radially by s / 40 w sin(2 pi d / w - phase).

  d is the distance from the centre, w the wavelength; the disc's radius is half the shorter side.
  Bilinear interpolation; black beyond the border.
  """
  factor = enlargement(images)
  image = enlarge(pixels(keys, images), factor)
  (strength,) = constants("water_drop", severity)
  amplitude = _DROP_AMPLITUDE * strength / _STRONGEST
  top, left, wavelength, phase = uniforms(keys, 4)
  side = shorter_side(image)
  wavelength = between(wavelength, *_DROP_WAVELENGTH) * side
  rows, columns = pixel_grid(image)
  down = rows - between(top, *_DROP_CENTRE) * image.shape[1]
  right = columns - between(left, *_DROP_CENTRE) * image.shape[2]
  distance = jnp.hypot(down, right)
  wave = jnp.sin(2 * np.pi * distance / wavelength - 2 * np.pi * phase)
  move = amplitude * wave * jnp.where(distance > 0, wavelength / jnp.maximum(distance, 1e-6), 1.0)
  move = jnp.where(distance <= side // 2, move, 0.0)
  moved = bilinear(image, rows + move * down, columns + move * right)
  return finish(images, block_mean(moved, factor), severity)


def bilinear(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
  """Values of [N, H, W, C] at float [N, H, W] places; black beyond the border."""
  height, width = images.shape[1:3]
  total = 0.0
  for y in (jnp.floor(rows), jnp.floor(rows) + 1):
    for x in (jnp.floor(columns), jnp.floor(columns) + 1):
      inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
      weight = jnp.where(inside, (1 - jnp.abs(rows - y)) * (1 - jnp.abs(columns - x)), 0.0)
      row = jnp.clip(y, 0, height - 1).astype(jnp.int32)
      column = jnp.clip(x, 0, width - 1).astype(jnp.int32)
      total += weight[..., None] * take_pixels(images, row, column)
  return total


def lines(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """n grey lines, anti-aliased, of 1/32 of the shorter side in width, in similar directions.

  A line reaches one side length in both directions from a random point; its opacity falls
  linearly from 1 in its middle to 0 at its width. The angles scatter about a common one by a share
  of the circle that is drawn for each image.
  Differs from the reference: its n = s / 10 side lines are always one pixel wide; between
  severities the last line has the opacity of the fraction.
  """
  image = pixels(keys, images)
  (count,) = constants("lines", severity)
  factor, most = enlargement(images), int(largest("lines", "count"))
  height, width = (size * factor for size in images.shape[1:3])
  side = min(height, width)
  common, variation, *places = uniforms(keys, 2 + 3 * most)
  variation = between(variation, *_LINE_VARIATION)
  rows = jnp.arange(height, dtype=jnp.float32)[:, None]
  columns = jnp.arange(width, dtype=jnp.float32)
  clear: Any = 1.0
  for i in range(most):
    down, right, turn = places[3 * i : 3 * i + 3]
    angle = 2 * np.pi * (common + variation * (turn - 0.5))
    down, right = rows - down * height, columns - right * width
    along = down * jnp.cos(angle) + right * jnp.sin(angle)
    across = right * jnp.cos(angle) - down * jnp.sin(angle)
    beyond = jnp.maximum(jnp.abs(along) - side, 0)
    distance = jnp.hypot(across, beyond) * (REFERENCE_SIDE / side)
    clear *= 1 - jnp.clip(count - i, 0, 1) * jnp.maximum(0, 1 - distance)
  clear = block_mean(clear, factor)[..., None]
  return finish(images, clear * image + (1 - clear) * _GREY, severity)
