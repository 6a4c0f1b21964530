"""Corrupting whole test sets: keys of examples, batches, one compilation a corruption."""

import functools
import math
import zlib

import jax
import numpy as np

from dissim_jax.data.pixels import check_images
from dissim_jax.errors import UserError
from dissim_jax.names import nearest
from dissim_jax.registry.corruptions import CORRUPTIONS, Corruption
from dissim_jax.seeds import folded


def get(name: str) -> Corruption:
  """The corruption of this name; UserError with the nearest name for another."""
  if name not in CORRUPTIONS:
    raise UserError(
      f"corruption {name!r}: must be one of {tuple(CORRUPTIONS)}{nearest(name, CORRUPTIONS)}"
    )
  return CORRUPTIONS[name]


def check_severity(severity: float) -> float:
  """The severity as a float; UserError unless it is finite and 0 or more."""
  try:
    value = float(severity)
  except (TypeError, ValueError) as error:
    raise UserError(f"severity={severity!r}: must be a number of 0 or more") from error
  if not math.isfinite(value) or value < 0:
    raise UserError(f"severity={severity}: must be a finite number of 0 or more")
  return value


@jax.jit
def _keys(stream, seed, indices):
  key = jax.random.fold_in(jax.random.key(seed), stream)
  return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)


def example_keys(name: str, seed: int, indices: np.ndarray) -> jax.Array:
  """One key for each example index [N], the same wherever the test set is split into batches."""
  stream = zlib.crc32(name.encode())  # A stable hash: Python's own changes from run to run.
  return _keys(np.uint32(stream), folded(seed), np.asarray(indices, np.uint32))


@functools.cache
def compiled(name: str):
  """The corruption's function, jitted (once for all severities) unless it runs on the host."""
  corruption = get(name)
  return corruption.function if corruption.host else jax.jit(corruption.function)


def rows(count: int, start: int, size: int) -> np.ndarray:
  """start … start + size - 1; beyond the last of `count` examples the last is repeated.

  So every batch has one shape, and nothing is compiled for a small rest.
  """
  return np.minimum(np.arange(start, start + size), count - 1)


def corrupt_batch(
  name: str, images: np.ndarray, severity: float, seed: int, start: int, size: int
) -> jax.Array:
  """Images `rows(len(images), start, size)` corrupted, uint8 [size, H, W, C], on the device."""
  indices = rows(len(images), start, size)
  keys = example_keys(name, seed, indices)
  return compiled(name)(keys, images[indices], severity)


def corrupt(
  name: str, images: np.ndarray, severity: float, seed: int, *, batch_size: int = 500
) -> np.ndarray:
  """A whole test set under one corruption.

  Example i depends on its pixels, the severity, the seed, the corruption's name and i alone, not on
  the batch size; but a value in the middle of two grey levels may be rounded the other way in a
  batch of another shape. A corruption is compiled once for a shape of batches, for all severities.

  Args:
    name: one of `CORRUPTIONS`.
    images: uint8 [N, H, W, C], C 1 or 3.
    severity: >= 0; 0 gives the images bit for bit, 1 … 5 the published levels, more is like 5.
    seed: of the random choices, which are the same at all severities.
    batch_size: images at once.

  Returns:
    uint8 [N, H, W, C].

  Raises:
    UserError: an unknown name, or a severity that is negative or not finite.
    ValueError: images of another shape or dtype, or a batch size below 1.
  """
  get(name)
  severity = check_severity(severity)
  images = np.asarray(images)
  check_images(images)
  if batch_size < 1:
    raise ValueError(f"batch_size={batch_size}: must be 1 or more")
  result = np.empty_like(images)
  size = min(batch_size, len(images))
  for start in range(0, len(images), max(size, 1)):
    batch = corrupt_batch(name, images, severity, seed, start, size)
    result[start : start + size] = np.asarray(batch)[: len(images) - start]
  return result
