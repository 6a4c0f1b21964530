"""The order of examples, and parts of a data set that stand for the whole of it."""

import hashlib

import numpy as np

_SALT = b"dissim_jax"  # a fixed seed: another one would be another order, and other results


def canonical_order(images: np.ndarray) -> np.ndarray:
  """The order in which a data set is used: random, and the same however it is stored.

  Data sets are often stored class by class, and minibatch measures of images of one class say
  little about images of many. So examples are sorted by a seeded hash of their pixels: as good as a
  random permutation, but neither the names of files nor of classes, nor their order, have a say.

  Args:
    images: uint8 `[N, H, W, C]`.

  Returns:
    int64 `[N]`, positions in `images`; equal images keep their order.
  """
  images = np.ascontiguousarray(images)
  digests = [hashlib.blake2b(image, digest_size=16, salt=_SALT).digest() for image in images]
  return np.argsort(np.array(digests, "S16"), kind="stable")


def balanced_part(labels: np.ndarray, wanted: int) -> np.ndarray:
  """Some of the examples of every class: as large a share of one class as of another.

  The first `wanted` examples when those of every class are spread evenly over 0..1; the number
  taken of a class differs by less than one from its share.

  Args:
    labels: integer `[N]`.
    wanted: how many examples.

  Returns:
    int64 `[min(wanted, N)]`, positions in increasing order.
  """
  labels = np.asarray(labels)
  _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
  by_class = np.argsort(inverse, kind="stable")
  starts = np.cumsum(counts) - counts
  place = np.empty(len(labels))
  place[by_class] = (np.arange(len(labels)) - np.repeat(starts, counts) + 0.5) / np.repeat(
    counts, counts
  )
  return np.sort(np.argsort(place, kind="stable")[:wanted])


def first_of_each_class(labels: np.ndarray, wanted: int) -> np.ndarray:
  """The first `wanted` examples of every class: int64 positions in increasing order."""
  labels = np.asarray(labels)
  positions = [np.flatnonzero(labels == k)[:wanted] for k in np.unique(labels)]
  return np.sort(np.concatenate(positions))
