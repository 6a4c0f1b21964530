"""AutoAugment's CIFAR-10 policy on uint8 batches, with the same bits on every device.

A policy draws one of 25 sub-policies for each image and runs its two ops in sequence, each with
its own probability. Under `vmap` a `switch` would run all 14 ops on every image. Instead each slot
runs the shared stages of `pixels`, of which an op sets one and leaves the others at the identity.

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

from dissim_jax.data.pixels import (
  DIFFERENCES,
  LEVELS,
  Stages,
  check_images,
  fixed_point,
  run_nhwc,
  stack,
)


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
  "ShearX": lambda m, h, w: Stages(matrix=fixed_point((1, m, 0, 0, 1, 0))),
  "ShearY": lambda m, h, w: Stages(matrix=fixed_point((1, 0, 0, m, 1, 0))),
  "TranslateX": lambda m, h, w: Stages(matrix=fixed_point((1, 0, -int(m), 0, 1, 0))),
  "TranslateY": lambda m, h, w: Stages(matrix=fixed_point((1, 0, 0, 0, 1, -int(m)))),
  "Rotate": lambda m, h, w: Stages(matrix=fixed_point(_rotation(m, h, w))),
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
  rows = stack([STAGES[op](magnitude, height, width)] * batch)
  return run_nhwc(images, [jax.tree.map(jnp.asarray, rows)], fill)


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
  return stack([*rows, Stages()])


def apply_draws(images, draws, fill, policy=CIFAR10):
  """The policy with its random choices given; arguments as in `apply_policy`."""
  check_images(images)
  every = _policy_stages(policy, *images.shape[1:3])
  slots = []
  for slot in range(2):
    row = 4 * draws.sub_policy + 2 * slot + draws.positive[:, slot]
    row = jnp.where(draws.applied[:, slot], row, 4 * len(policy))
    slots.append(jax.tree.map(lambda values, row=row: jnp.asarray(values)[row], every))
  return run_nhwc(images, slots, fill)


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
