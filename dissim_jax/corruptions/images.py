"""What the corruptions share: pixels in and out, draws per image, lengths, small images.

Lengths are given for images of 32 pixels and scale with the shorter side. Below 32 pixels a blur
of one pixel of 32 would be far less than a pixel, and a kernel sampled at whole pixels would do
nothing; so such an image is thought of as enlarged by a whole factor to 32 pixels or more, with
equal pixels in each block, corrupted there, and averaged over the blocks.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dissim_jax.data.augment import check_batch

REFERENCE_SIDE = 32


def pixels(keys: jax.Array, images: jax.Array) -> jax.Array:
  """The images as float32 in 0..255, checked to be uint8 [N, H, W, 1 or 3] with N keys."""
  check_batch(keys, images)
  return images.astype(jnp.float32)


def finish(images: jax.Array, corrupted: jax.Array, severity: jax.Array) -> jax.Array:
  """Rounds to uint8; at severity 0 gives the images bit for bit.

  Differs from the reference codes: they cut off the fraction, which darkens by half a level.
  """
  levels = jnp.clip(jnp.round(corrupted), 0, 255).astype(jnp.uint8)
  return jnp.where(jnp.asarray(severity) > 0, levels, images)


def shorter_side(images: jax.Array) -> int:
  """min(H, W) of images [N, H, W, C]."""
  return min(images.shape[1:3])


def enlargement(images: jax.Array) -> int:
  """The whole factor that takes the shorter side to 32 pixels or more; 1 for larger images."""
  return -(-REFERENCE_SIDE // shorter_side(images))


def enlarge(images: jax.Array, factor: int) -> jax.Array:
  """Every pixel of [N, H, W, ...] as a block of factor x factor."""
  return jnp.repeat(jnp.repeat(images, factor, axis=1), factor, axis=2)


def block_mean(images: jax.Array, factor: int) -> jax.Array:
  """The mean of every block of factor x factor pixels of [N, H, W, ...]."""
  count, height, width = images.shape[0], images.shape[1] // factor, images.shape[2] // factor
  return images.reshape(count, height, factor, width, factor, *images.shape[3:]).mean((2, 4))


def draw(
  sampler: Callable[[jax.Array, tuple[int, ...]], jax.Array],
  keys: jax.Array,
  shape: tuple[int, ...],
) -> jax.Array:
  """`sampler(key, shape)` for each of N keys -> [N, *shape]."""
  return jax.vmap(lambda key: sampler(key, shape))(keys)


def uniforms(keys: jax.Array, count: int) -> list[jax.Array]:
  """`count` uniform numbers in [0, 1) for each image, each [N, 1, 1] to go with [N, H, W]."""
  drawn = draw(jax.random.uniform, keys, (count,))
  return [drawn[:, i, None, None] for i in range(count)]


def between(uniform: jax.Array, low: float, high: float) -> jax.Array:
  """A uniform number in [0, 1) stretched to [low, high)."""
  return low + (high - low) * uniform


def pixel_grid(images: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Row and column numbers, float32 [H, 1] and [1, W]."""
  height, width = images.shape[1:3]
  return jnp.arange(height, dtype=jnp.float32)[:, None], jnp.arange(width, dtype=jnp.float32)[None]


def take_pixels(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
  """Pixels of [N, H, W, C] at int32 [N, h, w] rows and columns -> [N, h, w, C]; all inside."""
  at = jax.vmap(lambda image, row, column: image.at[row, column].get(mode="promise_in_bounds"))
  return at(images, rows, columns)
