"""Image augmentation as pure functions of one key per image, to run inside a jitted step.

Every image has its own key, so a batch that is split over devices is augmented exactly as the
whole batch would be. Images stay uint8 in 0..255 until `normalise`: the reference libraries
round to uint8 after every operation, and a quarter of the memory moves.
"""

import jax
import jax.numpy as jnp

from dissim_jax.config.blocks import check_block
from dissim_jax.data.autoaugment import CIFAR10, apply_policy
from dissim_jax.data.pixels import check_images

POLICIES = {"none": None, "cifar10": CIFAR10}


def check_batch(keys, images):
  """Raises ValueError unless `images` is uint8 [B, H, W, 1 or 3] with one key per image."""
  check_images(images)
  typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
  if keys.ndim != (1 if typed else 2) or keys.shape[0] != images.shape[0]:
    raise ValueError(
      f"keys: shape {keys.shape}, expected one key for each of {images.shape[0]} images"
    )


def random_crop(keys, images, padding, fill):
  """Pads every side by `padding` pixels of `fill` and cuts the original size at a random place.

  The offset is uniform over the (2 * padding + 1)^2 places, as in torchvision's `RandomCrop`.

  Args:
    keys: B PRNG keys, typed [B] or raw [B, 2].
    images: uint8 [B, H, W, C].
    padding: pixels added to each side; static.
    fill: grey level 0..255 of the added pixels.

  Returns:
    uint8 [B, H, W, C].
  """
  check_batch(keys, images)
  spatial = ((padding, padding), (padding, padding))
  padded = jnp.pad(images, ((0, 0), *spatial, (0, 0)), constant_values=fill)

  def crop(key, image):
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(image, (top, left, 0), images.shape[1:])

  return jax.vmap(crop)(keys, padded)


def random_flip(keys, images):
  """Mirrors each image left-right with probability 1/2; uint8 [B, H, W, C] in and out."""
  check_batch(keys, images)
  flip = jax.vmap(jax.random.bernoulli)(keys)
  return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)


def cutout(keys, images, size, fill):
  """Fills a square centred at a uniformly random pixel, clipped at the border.

  The square covers rows y - size // 2 <= row < y - size // 2 + size of the centre (y, x), and the
  same of columns, so up to three quarters of it can lie outside the image.
  Reference: DeVries & Taylor 2017, section 3.2. Differs from their code for odd sizes only, where
  theirs is one pixel smaller than asked.

  Args:
    keys: B PRNG keys, typed [B] or raw [B, 2].
    images: uint8 [B, H, W, C].
    size: side of the square in pixels; static.
    fill: grey level 0..255 of the square.

  Returns:
    uint8 [B, H, W, C].
  """
  check_batch(keys, images)
  height, width = images.shape[1:3]

  def mask(key):
    y, x = jax.random.randint(key, (2,), 0, jnp.array([height, width])) - size // 2
    row, column = jnp.arange(height)[:, None], jnp.arange(width)[None]
    return (y <= row) & (row < y + size) & (x <= column) & (column < x + size)

  return jnp.where(jax.vmap(mask)(keys)[..., None], jnp.uint8(fill), images)


def augment(keys, images, config):
  """Random crop, horizontal flip, AutoAugment and Cutout, in this order.

  Reference: Wald et al. 2023, appendix A.1. Differs from the paper: the flip is not in its text.
  Each stage has its own stream derived from the image's key, so switching one stage off leaves
  the draws of the others as they were.

  Args:
    keys: B PRNG keys, typed [B] or raw [B, 2].
    images: uint8 [B, H, W, C], C 1 or 3.
    config: static object with the attributes `crop_padding` (pixels, 0 off), `crop_fill` (0..255),
      `flip` (bool), `autoaugment` ("none" or "cifar10"), `autoaugment_fill` (0..255), `cutout`
      (side in pixels, 0 off), `cutout_fill` (0..255).

  Returns:
    uint8 [B, H, W, C], still in 0..255; `normalise` makes floats of it.

  Raises:
    UserError: a field of `config` has a value that is not allowed.
    ValueError: shapes or dtypes do not fit.
  """
  check_block("augment", config)
  check_batch(keys, images)
  crop_key, flip_key, policy_key, cutout_key = jnp.moveaxis(
    jax.vmap(lambda key: jax.random.split(key, 4))(keys), 1, 0
  )
  if config.crop_padding:
    images = random_crop(crop_key, images, config.crop_padding, config.crop_fill)
  if config.flip:
    images = random_flip(flip_key, images)
  policy = POLICIES[config.autoaugment]
  if policy:
    images = apply_policy(policy_key, images, config.autoaugment_fill, policy)
  if config.cutout:
    images = cutout(cutout_key, images, config.cutout, config.cutout_fill)
  return images


def normalise(images, mean, std):
  """(images / 255 - mean) / std, for training and evaluation alike.

  Args:
    images: uint8 or float [..., C] in 0..255.
    mean: C channel means in [0, 1] units.
    std: C channel standard deviations in [0, 1] units.

  Returns:
    float32 [..., C].
  """
  channels = images.shape[-1]
  if len(mean) != channels or len(std) != channels:
    raise ValueError(
      f"mean has {len(mean)} and std {len(std)} values, expected one for each of "
      f"{channels} channels"
    )
  unit = jnp.asarray(images, jnp.float32) / 255
  return (unit - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)
