"""AutoAugment's CIFAR-10 policy on uint8 batches, with the same bits on every device.

A policy draws one of 25 sub-policies for each image and runs its two ops in sequence, each with
its own probability. Under `vmap` a `switch` would run all 14 ops on every image. Instead each slot
runs three shared stages, of which an op sets one and leaves the others at the identity:

  warp    nearest neighbour, a 16.16 fixed-point affine matrix
  table   256 entries a channel: brightness, contrast, posterize, solarize, invert, autocontrast,
          equalize
  blend   with the grey image (colour) or the smoothed image (sharpness)

What an op asks of the stages is worked out in NumPy at trace time; only autocontrast, equalize and
contrast look at the image. Pixels are integers throughout, but for one float32 sum in `_blend`, so
every device gives the same bits, and they are Pillow's, with one exception that is named at
`_autocontrast_table`.

The semantics are those of torchvision's `AutoAugment(CIFAR10)` on Pillow images with nearest
interpolation: shears leave the top left corner in place (as the original code does too), rotations
are about the centre, positive angles turn counter-clockwise.

Reference: Cubuk et al. 2019, "AutoAugment: Learning Augmentation Strategies from Data", appendix.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LEVELS = np.arange(256, dtype=np.int32)
DIFFERENCES = np.arange(-255, 256, dtype=np.float32)


class SubOp(NamedTuple):
  """An op, the probability that it is applied, and the index 0..9 of its magnitude."""

  op: str
  probability: float
  magnitude_index: int = 0


CIFAR10 = tuple(
  (SubOp(*first), SubOp(*second))
  for first, second in (
    (("Invert", 0.1), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5), ("Equalize", 0.9)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6), ("Equalize", 0.5)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3), ("AutoContrast", 0.4)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0)),
    (("Equalize", 0.2), ("AutoContrast", 0.6)),
    (("Equalize", 0.2), ("Equalize", 0.6)),
    (("Color", 0.9, 9), ("Equalize", 0.6)),
    (("AutoContrast", 0.8), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8), ("Invert", 0.1)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9)),
  )
)


def _fixed_point(matrix):
  """16.16 fixed point of (a, b, c, d, e, f): output pixel centre (x, y) -> input (x, y)."""
  a, b, c, d, e, f = matrix
  centred = np.array([a, b, c + (a + b) / 2, d, e, f + (d + e) / 2])
  return np.floor(centred * 2**16 + 0.5).astype(np.int32)


class Stages(NamedTuple):
  """What an op asks of the shared stages; the defaults leave the image as it is."""

  matrix: np.ndarray = _fixed_point((1, 0, 0, 0, 1, 0))
  table: np.ndarray = LEVELS
  products: np.ndarray = DIFFERENCES  # the blend's factor times -255..255
  contrast: bool = False
  autocontrast: bool = False
  equalize: bool = False
  colour: bool = False
  sharpness: bool = False


def _rotation(degrees, height, width):
  """The inverse affine map of a counter-clockwise rotation about the image's centre."""
  cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
  x, y = width / 2, height / 2
  return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


def _products(magnitude):
  """1 + magnitude times every difference of two levels, rounded to float32 as Pillow does."""
  return np.float32(1 + magnitude) * DIFFERENCES


# op -> (magnitude of an index k in 0..9 for an image of height h and width w, random sign?)
MAGNITUDES = {
  "ShearX": (lambda k, h, w: 0.3 * k / 9, True),
  "ShearY": (lambda k, h, w: 0.3 * k / 9, True),
  "TranslateX": (lambda k, h, w: int(150 / 331 * w * k / 9), True),
  "TranslateY": (lambda k, h, w: int(150 / 331 * h * k / 9), True),
  "Rotate": (lambda k, h, w: 30 * k / 9, True),
  "Brightness": (lambda k, h, w: 0.1 * k, True),
  "Color": (lambda k, h, w: 0.1 * k, True),
  "Contrast": (lambda k, h, w: 0.1 * k, True),
  "Sharpness": (lambda k, h, w: 0.1 * k, True),
  "Posterize": (lambda k, h, w: 8 - round(k * 4 / 9), False),
  "Solarize": (lambda k, h, w: 255 * (9 - k) / 9, False),
  "AutoContrast": (lambda k, h, w: 0, False),
  "Equalize": (lambda k, h, w: 0, False),
  "Invert": (lambda k, h, w: 0, False),
}

# op -> what magnitude m asks of the stages for an image of height h and width w.
STAGES = {
  "ShearX": lambda m, h, w: Stages(matrix=_fixed_point((1, m, 0, 0, 1, 0))),
  "ShearY": lambda m, h, w: Stages(matrix=_fixed_point((1, 0, 0, m, 1, 0))),
  "TranslateX": lambda m, h, w: Stages(matrix=_fixed_point((1, 0, -int(m), 0, 1, 0))),
  "TranslateY": lambda m, h, w: Stages(matrix=_fixed_point((1, 0, 0, 0, 1, -int(m)))),
  "Rotate": lambda m, h, w: Stages(matrix=_fixed_point(_rotation(m, h, w))),
  "Brightness": lambda m, h, w: Stages(table=_products(m)[255:].clip(0, 255).astype(np.int32)),
  "Color": lambda m, h, w: Stages(products=_products(m), colour=True),
  "Contrast": lambda m, h, w: Stages(products=_products(m), contrast=True),
  "Sharpness": lambda m, h, w: Stages(products=_products(m), sharpness=True),
  "Posterize": lambda m, h, w: Stages(table=LEVELS & (256 - 2 ** (8 - int(m)))),
  "Solarize": lambda m, h, w: Stages(table=np.where(LEVELS < m, LEVELS, 255 - LEVELS)),
  "AutoContrast": lambda m, h, w: Stages(autocontrast=True),
  "Equalize": lambda m, h, w: Stages(equalize=True),
  "Invert": lambda m, h, w: Stages(table=255 - LEVELS),
}


def check_images(images):
  """Raises ValueError unless `images` is uint8 [B, H, W, 1 or 3] with at most 2^20 pixels each."""
  if images.ndim != 4 or images.shape[-1] not in (1, 3):
    raise ValueError(f"images: shape {images.shape}, expected [B, H, W, C] with C 1 or 3")
  if images.dtype != jnp.uint8:
    raise ValueError(f"images: dtype {images.dtype}, expected uint8")
  if images.shape[1] * images.shape[2] > 2**20:
    raise ValueError(f"images: shape {images.shape}, expected at most 2^20 pixels an image")


def _stack(stages):
  """A list of `Stages` as one, with a leading axis."""
  return Stages(*map(np.stack, zip(*stages, strict=True)))


def _blend(first, second, products):
  """trunc(first + factor * (second - first)) in 0..255 of int32 [B, ...] images.

  The products [B, 511] are looked up: a compiler that fused the multiplication with the sum would
  round once where Pillow rounds twice: at factor 1.2, a level off for 2 % of the pairs of levels.
  """
  index = (second - first + 255).reshape(len(products), -1)
  change = jnp.take_along_axis(products, index, axis=1, mode="promise_in_bounds")
  return jnp.clip(first + change.reshape(second.shape), 0, 255).astype(jnp.int32)


def _divide(dividend, divisor):
  """dividend // divisor, exact for quotients below 2^8 and divisors from 1 to 2^13.

  The half keeps quotients off the whole numbers by more than float32 errs, even with a division
  that is two units off in the last place. An integer division is not vectorised, and the compiler
  repeats it wherever a result is used.
  """
  return jnp.floor((dividend + 0.5) / divisor).astype(jnp.int32)


def _warp(images, matrix, fill):
  """Nearest neighbour warp of [B, C, H, W]; pixels from outside the image are `fill`."""
  batch, channels, height, width = images.shape
  a, b, c, d, e, f = (column[:, None, None] for column in matrix.T)
  row = jnp.arange(height, dtype=jnp.int32)[:, None]
  column = jnp.arange(width, dtype=jnp.int32)
  x, y = (a * column + b * row + c) >> 16, (d * column + e * row + f) >> 16
  inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
  source = jnp.where(inside, y * width + x, 0).reshape(batch, 1, -1)
  flat = images.reshape(batch, channels, -1)
  moved = jnp.take_along_axis(flat, source, axis=2, mode="promise_in_bounds")
  return jnp.where(inside[:, None], moved.reshape(images.shape), fill)


def _grey(images):
  """ITU-R 601-2 luma of int32 [B, C, H, W] -> [B, 1, H, W], rounded as Pillow does."""
  if images.shape[1] == 1:
    return images
  red, green, blue = (images[:, i : i + 1] for i in range(3))
  return (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16


def _contrast_table(grey, products):
  """Blend of every level with the mean grey level (halves round up) -> [B, 1, 256]."""
  pixels = grey.size // grey.shape[0]
  total = grey.sum((1, 2, 3), dtype=jnp.int32)
  mean = (2 * total + pixels) // (2 * pixels)
  levels = jnp.broadcast_to(LEVELS, (len(grey), 1, 256))
  return _blend(mean[:, None, None], levels, products)


def _autocontrast_table(images):
  """floor(255 (v - low) / (high - low)) -> [B, C, 256]; the identity on a channel of one level.

  Pillow computes this in float64 and truncates. Where the quotient is whole, its product can land
  just below it, and Pillow's level is then one less: 0.4 % of the entries over all (low, high).
  """
  low = images.min((2, 3))[..., None]
  span = images.max((2, 3))[..., None] - low
  stretched = jnp.clip(_divide(255 * (LEVELS - low), jnp.maximum(span, 1)), 0, 255)
  return jnp.where(span > 0, stretched, LEVELS)


def _equalize_table(images):
  """Pillow's histogram equalisation -> [B, C, 256].

  level v -> (step // 2 + #pixels below v) // step, step = #pixels below the highest level // 255;
  the identity where step is 0.
  """
  batch, channels, height, width = images.shape
  rows = batch * channels
  # One flat scatter: measured twice as fast as a batched one, 50 times as one-hot products.
  bins = images.reshape(rows, -1) + 256 * jnp.arange(rows, dtype=jnp.int32)[:, None]
  histogram = jnp.zeros(rows * 256, jnp.int32).at[bins.reshape(-1)]
  histogram = histogram.add(1, mode="promise_in_bounds").reshape(batch, channels, 256)
  below = jnp.cumsum(histogram, -1) - histogram
  brightest = (images == images.max((2, 3), keepdims=True)).sum((2, 3), dtype=jnp.int32)
  step = ((height * width - brightest) // 255)[..., None]
  spread = jnp.minimum(_divide(step // 2 + below, jnp.maximum(step, 1)), 255)
  return jnp.where(step > 0, spread, LEVELS)


def _smooth(images):
  """3x3 smoothing with weights [1 1 1; 1 5 1; 1 1 1] / 13, rounded; the border stays as it is."""
  height, width = images.shape[2:]
  padded = jnp.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
  across = sum(padded[..., i : i + width] for i in range(3))
  total = 4 * images + sum(across[..., i : i + height, :] for i in range(3))
  border = np.ones((height, width), bool)
  border[1:-1, 1:-1] = False
  return jnp.where(border, images, _divide(2 * total + 13, 26))


def _run(images, stages, fill):
  """Runs the stages, one row of them an image, on uint8 [B, C, H, W].

  An op sets one stage and leaves the others at the identity, so the statistics of the image are
  taken once, and every stage may assume that it comes first.
  """
  levels = images.astype(jnp.int32)
  grey = _grey(levels)
  per_image = {
    name: getattr(stages, name).reshape(-1, *[1] * axes)
    for name, axes in dict(contrast=2, autocontrast=2, equalize=2, colour=3, sharpness=3).items()
  }
  table = stages.table[:, None]
  table = jnp.where(per_image["contrast"], _contrast_table(grey, stages.products), table)
  table = jnp.where(per_image["autocontrast"], _autocontrast_table(levels), table)
  table = jnp.where(per_image["equalize"], _equalize_table(levels), table)

  levels = _warp(levels, stages.matrix, fill)
  flat = levels.reshape(*levels.shape[:2], -1)
  levels = jnp.take_along_axis(table, flat, axis=2, mode="promise_in_bounds").reshape(levels.shape)
  other = jnp.where(per_image["colour"], grey, levels)
  other = jnp.where(per_image["sharpness"], _smooth(levels), other)
  return _blend(other, levels, stages.products).astype(jnp.uint8)


def _run_nhwc(images, slots, fill):
  images = jnp.moveaxis(images, -1, 1)
  for stages in slots:
    images = _run(images, stages, fill)
  return jnp.moveaxis(images, 1, -1)


def apply_op(images, op, magnitude, fill):
  """One op, the same for every image of a batch.

  Args:
    images: uint8 [B, H, W, C], C 1 or 3.
    op: a key of `STAGES`; static.
    magnitude: with its sign, static. Shear: slope; Translate: pixels; Rotate: degrees; Brightness,
      Color, Contrast, Sharpness: factor - 1; Posterize: bits; Solarize: threshold; else unused.
    fill: grey level 0..255 of pixels from outside the image.

  Returns:
    uint8 [B, H, W, C].
  """
  check_images(images)
  if op not in STAGES:
    raise ValueError(f"op={op!r}: must be one of {tuple(STAGES)}")
  batch, height, width, _ = images.shape
  rows = _stack([STAGES[op](magnitude, height, width)] * batch)
  return _run_nhwc(images, [jax.tree.map(jnp.asarray, rows)], fill)


class Draws(NamedTuple):
  """The random choices for a batch: sub_policy int32 [B], applied and positive bool [B, 2]."""

  sub_policy: jax.Array
  applied: jax.Array
  positive: jax.Array


def draw(keys, policy=CIFAR10):
  """`Draws` from B keys: a uniform sub-policy, each op by its probability, each sign by 1/2."""
  probabilities = np.array([[sub_op.probability for sub_op in pair] for pair in policy], np.float32)

  def one(key):
    index_key, applied_key, sign_key = jax.random.split(key, 3)
    index = jax.random.randint(index_key, (), 0, len(policy))
    applied = jax.random.bernoulli(applied_key, jnp.asarray(probabilities)[index])
    return Draws(index, applied, jax.random.bernoulli(sign_key, shape=(2,)))

  return jax.vmap(one)(keys)


def _policy_stages(policy, height, width):
  """`Stages` of every (sub-policy, slot, positive) in this order, then the identity."""
  rows = []
  for op, _, index in (sub_op for pair in policy for sub_op in pair):
    magnitude_of, signed = MAGNITUDES[op]
    magnitude = magnitude_of(index, height, width)
    for positive in (False, True):
      signed_magnitude = -magnitude if signed and not positive else magnitude
      rows.append(STAGES[op](signed_magnitude, height, width))
  return _stack([*rows, Stages()])


def apply_draws(images, draws, fill, policy=CIFAR10):
  """The policy with its random choices given; arguments as in `apply_policy`."""
  check_images(images)
  every = _policy_stages(policy, *images.shape[1:3])
  slots = []
  for slot in range(2):
    row = 4 * draws.sub_policy + 2 * slot + draws.positive[:, slot]
    row = jnp.where(draws.applied[:, slot], row, 4 * len(policy))
    slots.append(jax.tree.map(lambda values, row=row: jnp.asarray(values)[row], every))
  return _run_nhwc(images, slots, fill)


def apply_policy(keys, images, fill, policy=CIFAR10):
  """Runs a random sub-policy on each image, as torchvision's `AutoAugment` does.

  Args:
    keys: B PRNG keys, typed [B] or raw [B, 2].
    images: uint8 [B, H, W, C], C 1 or 3 (with C 1, Color is the identity).
    fill: grey level 0..255 of pixels that shear, translate and rotate bring in from outside.
    policy: pairs of `SubOp`; static.

  Returns:
    uint8 [B, H, W, C].
  """
  return apply_draws(images, draw(keys, policy), fill, policy)
