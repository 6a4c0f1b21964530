"""Lost detail of CIFAR-10-C: coarse pixels and JPEG compression.

Reference: Hendrycks & Dietterich 2019 and their `make_cifar_c.py`; the filters are Pillow's.
"""

import io

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from dissim_jax.corruptions.blurs import apply_separable
from dissim_jax.corruptions.images import REFERENCE_SIDE, finish, pixels
from dissim_jax.corruptions.severities import constants
from dissim_jax.data.augment import check_batch


def box_matrix(size: int, coarse: jax.Array) -> jax.Array:
  """The [size, size] operator of Pillow's BOX filter from `size` to `coarse` pixels and back.

  A coarse pixel is the mean of the pixels whose middles it covers; on the way back each pixel
  takes the coarse pixel at its middle. In whole numbers, because middles fall on edges.

  Args:
    size: pixels of the line.
    coarse: int32 from 1 to `size`, may be traced.
  """
  index = jnp.arange(size, dtype=jnp.int32)
  middle = (2 * index + 1) * coarse
  inside = (middle > 2 * index[:, None] * size) & (middle <= 2 * (index[:, None] + 1) * size)
  down = inside / jnp.maximum(inside.sum(1, keepdims=True), 1)
  return down[middle // (2 * size)]


def pixelate(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """Shrunk to c / 32 of its size and enlarged again by the box filter; no random choice.

  As in the reference the smaller size is cut to a whole number of pixels, so that on small images
  neighbouring severities can be the same.
  """
  image = pixels(keys, images)
  (size,) = constants("pixelate", severity)
  # What interpolation rounds away must not cost a pixel.
  sides = [jnp.floor(size * side / REFERENCE_SIDE + 1e-3) for side in images.shape[1:3]]
  rows, columns = (
    box_matrix(side, jnp.maximum(coarse, 1).astype(jnp.int32))
    for side, coarse in zip(images.shape[1:3], sides, strict=True)
  )
  return finish(images, apply_separable(image, rows, columns), severity)


def jpeg(keys: jax.Array, images: np.ndarray, severity: float) -> np.ndarray:
  """Compressed by Pillow at quality c and decompressed, on the host; no random choice.

  Plain NumPy, unlike the other corruptions; `keys` are not looked at. c is rounded.
  """
  check_batch(keys, images)
  images = np.asarray(images)
  if severity == 0:
    return images.copy()
  (quality,) = constants("jpeg", severity)
  quality, grey = int(np.round(quality)), images.shape[-1] == 1
  result = np.empty_like(images)
  for i, image in enumerate(images[..., 0] if grey else images):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(file))
    result[i] = decoded[..., None] if grey else decoded
  return result
