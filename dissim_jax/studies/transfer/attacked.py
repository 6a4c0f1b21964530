"""Members under attack: adversarial images of one member, and what others say of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from dissim_jax.attacks import Attack, perturb
from dissim_jax.attacks.inputs import check_arrays


def in_unit(images: np.ndarray) -> np.ndarray:
  """float32 in 0..1 of uint8 images; float images, which must be in 0..1, as they are.

  Raises:
    ValueError: images of another dtype, or values beyond 0..1.
  """
  if images.dtype == np.uint8:
    return images.astype(np.float32) / 255
  if not np.issubdtype(images.dtype, np.floating):
    raise ValueError(f"images: dtype {images.dtype}, expected uint8, or floating in 0..1")
  if images.size and not (images.min() >= 0 and images.max() <= 1):  # Of NaN neither holds.
    raise ValueError(f"images: values in {images.min():g}..{images.max():g}, expected 0..1")
  return images


def _rows(count: int, batch_size: int) -> np.ndarray:
  """Images of every batch `[batches, batch_size]`, the last filled up so that one program does."""
  parts = -(-count // batch_size)
  return np.resize(np.arange(count), (parts, batch_size))


@functools.partial(jax.jit, static_argnames="size")
def _logits(network: Partial, images: jax.Array, size: tuple[int, int]) -> jax.Array:
  if images.shape[1:3] != size:
    shape = (len(images), *size, images.shape[-1])
    images = jnp.clip(jax.image.resize(images, shape, "bilinear", antialias=True), 0.0, 1.0)
  return network(images)


def logits_on(
  network: Partial, images: np.ndarray, batch_size: int, size: tuple[int, int] | None = None
) -> np.ndarray:
  """Logits float32 `[N, K]` of a `classifier`.

  Args:
    network: see `classifier`.
    images: uint8, or float in 0..1, `[N, H, W, C]`.
    batch_size: images at once.
    size: height and width that the images are resized to (bilinear, antialiased); None: as they
      are.
  """
  size = tuple(size or images.shape[1:3])
  logits = [
    np.asarray(_logits(network, in_unit(images[rows]), size))
    for rows in _rows(len(images), batch_size)
  ]
  return np.concatenate(logits)[: len(images)]


def predictions_on(
  network: Partial, images: np.ndarray, batch_size: int, size: tuple[int, int] | None = None
) -> np.ndarray:
  """Predicted classes int16 `[N]`; see `logits_on`."""
  return logits_on(network, images, batch_size, size).argmax(-1).astype(np.int16)


def attack_member(
  network: Partial,
  images: np.ndarray,
  labels: np.ndarray,
  attack: Attack,
  batch_size: int,
  attacked: np.ndarray | None = None,
) -> np.ndarray:
  """Images that are to fool a `classifier`: float32 `[N, H, W, C]` in 0..1.

  Args:
    network: see `classifier`.
    images: uint8, or float in 0..1, `[N, H, W, C]`.
    labels: integer `[N]`.
    attack: which, and how.
    batch_size: images at once.
    attacked: bool `[N]`, which ones; others are returned as they are. None attacks all.

  Raises:
    ValueError: an argument does not fit the others, or holds what it may not.
  """
  adversarial, labels = np.array(in_unit(images), np.float32), np.asarray(labels)
  check_arrays(adversarial, labels, attacked)
  chosen = np.flatnonzero(np.ones(len(images), bool) if attacked is None else attacked)
  clean = adversarial.copy()
  for batch in _rows(len(chosen), batch_size):
    rows = chosen[batch]
    adversarial[rows] = perturb(attack, network, clean[rows], labels[rows], indices=rows)
  return adversarial
