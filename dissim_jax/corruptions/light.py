"""Weather and light of CIFAR-10-C: fog, brightness, contrast.

Reference: Hendrycks & Dietterich 2019 and their `make_cifar_c.py`.
"""

import jax
import jax.numpy as jnp

from dissim_jax.corruptions.images import draw, finish, pixels
from dissim_jax.corruptions.severities import constants


def fog(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """(x + c f) m / (m + c): f a height map in [0, 1], m the image's brightest value, x in [0, 1]."""
  image = pixels(keys, images)
  thickness, decay = constants("fog", severity)
  height, width = images.shape[1:3]
  levels = (max(height, width, 2) - 1).bit_length()  # 2^levels covers the longer side.
  clouds = height_map(keys, levels, decay)[:, :height, :width, None]
  brightest = image.max((1, 2, 3), keepdims=True)
  total = brightest + 255 * thickness
  faded = brightest / jnp.where(total > 0, total, 1.0)
  return finish(images, (image + 255 * thickness * clouds) * faded, severity)


def height_map(keys: jax.Array, levels: int, decay: jax.Array) -> jax.Array:
  """Fractal clouds by the diamond-square method on a torus of side 2^levels.

  Every level halves the distance of the known points: the middle of each square, then of each
  edge, is the mean of its four neighbours plus a uniform wobble, whose amplitude is divided by
  decay^2 from level to level (the reference multiplies the wobble by itself).

  Args:
    keys: N PRNG keys.
    levels: of halving; static.
    decay: > 1; greater is smoother. May be traced.

  Returns:
    float32 [N, 2^levels, 2^levels], each from 0 to 1.
  """
  side = 2**levels
  wobbles = draw(lambda key, shape: jax.random.uniform(key, shape, minval=-1), keys, (side, side))
  heights = jnp.zeros((len(keys), 1, 1))
  amplitude = 1.0  # Any: the map is normalised in the end.
  for level in range(levels):
    step = side >> level
    wobble = (  # noqa: E731
      lambda top, left, step=step, amplitude=amplitude: (
        amplitude * wobbles[:, top::step, left::step]
      )
    )
    # The barrier keeps levels from being fused, which takes long to compile.
    heights = jax.lax.optimization_barrier(_halve(heights, wobble, step // 2))
    amplitude = amplitude / decay**2
  low = heights.min((1, 2), keepdims=True)
  return (heights - low) / (heights.max((1, 2), keepdims=True) - low)


def _halve(heights, wobble, half):
  """[N, n, n] heights -> [N, 2n, 2n] with the middles of squares and edges between them."""
  pair = heights + jnp.roll(heights, -1, 1)
  centre = (pair + jnp.roll(pair, -1, 2)) / 4 + wobble(half, half)
  across = heights + jnp.roll(heights, -1, 2) + centre + jnp.roll(centre, 1, 1)
  down = heights + jnp.roll(heights, -1, 1) + centre + jnp.roll(centre, 1, 2)
  even = _interleave(heights, across / 4 + wobble(0, half), 3)
  odd = _interleave(down / 4 + wobble(half, 0), centre, 3)
  return _interleave(even, odd, 2)


def _interleave(first, second, axis):
  """Two [N, a, b] arrays with their rows (axis 2) or columns (axis 3) taken in turn."""
  both = jnp.stack((first, second), axis)
  count, height, width = first.shape
  return both.reshape((count, 2 * height, width) if axis == 2 else (count, height, 2 * width))


def brightness(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """HSV value plus c, at most 1, with hue and saturation kept; no random choice.

  Scaling a pixel keeps both, and black has neither: it becomes grey.
  """
  image = pixels(keys, images)
  (shift,) = constants("brightness", severity)
  value = image.max(-1, keepdims=True)
  raised = jnp.minimum(value + 255 * shift, 255)
  brighter = jnp.where(value > 0, image * (raised / jnp.maximum(value, 1)), raised)
  return finish(images, brighter, severity)


def contrast(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """(x - m) c + m, m the mean of each image's channel; no random choice."""
  image = pixels(keys, images)
  (factor,) = constants("contrast", severity)
  mean = image.mean((1, 2), keepdims=True)
  return finish(images, (image - mean) * factor + mean, severity)
