"""Minibatch LinCKA of all pairs of taps: this package, pytorch-cka, and float64 NumPy."""

import importlib.util
from collections.abc import Callable, Sequence

import jax
import numpy as np

from dissim_jax.similarity import cka_from_hsic, hsic_matrix

Data = list  # `[batch][tap]`, float32 `[examples, features]`, the taps of both networks.


def activations(
  batches: int,
  seed: int,
  shapes: Sequence[tuple[int, ...]],
  *,
  batch: int = 128,
  mean: float = 0.0,
  scale: float = 1.0,
  shared: float = 0.7,
) -> Data:
  """Random activations of two networks; examples share some of their features.

  The shared part has 30 dimensions, so that taps are similar to a middling degree.
  """
  rng = np.random.default_rng(seed)
  sizes = [int(np.prod(shape)) for shape in shapes]
  mixing = [rng.standard_normal((30, size), np.float32) / 30**0.5 for size in sizes]
  result = []
  for _ in range(batches):
    common = rng.standard_normal((batch, 30), np.float32)
    result.append(
      [
        (shared * common @ mix + rng.standard_normal((batch, mix.shape[1]), np.float32) + mean)
        * np.float32(scale)
        for _ in range(2)
        for mix in mixing
      ]
    )
  return result


def u_centred(x: np.ndarray) -> np.ndarray:
  """The U-centred Gram matrix of features `[n, p]` in float64."""
  x, n = x.astype(np.float64), len(x)
  gram = (x - x.mean(0)) @ (x - x.mean(0)).T  # HSIC does not see the mean; float64 does.
  np.fill_diagonal(gram, 0.0)
  rows = gram.sum(1) / (n - 2)
  gram -= rows[:, None] + rows[None] - rows.sum() / (n - 1)
  np.fill_diagonal(gram, 0.0)
  return gram


def reference(data: Data) -> np.ndarray:
  """Minibatch CKA `[taps, taps]` in float64, Eq. 12 and 13 of Wald et al. 2023."""
  total, half = 0.0, len(data[0]) // 2
  for batch in data:
    vectors = np.stack([u_centred(x).ravel() for x in batch])
    total = total + vectors @ vectors.T
  root = np.sqrt(np.diagonal(total))
  return (total / root / root[:, None])[:half, half:]


def all_pairs(data: Data) -> np.ndarray:
  """The way of this package."""
  compute = jax.jit(hsic_matrix)
  total = sum(np.asarray(compute(batch), np.float64) for batch in data)
  half = len(data[0]) // 2
  return cka_from_hsic(total)[:half, half:]


def make_package() -> Callable | None:
  """pytorch-cka on the same arrays, accumulated over batches as its `CKA` class does.

  On CUDA where torch finds it. None where torch or the package (`pip install pytorch-cka`) is not
  installed.
  """
  if not all(importlib.util.find_spec(name) for name in ("torch", "cka")):
    return None
  import torch
  from cka import hsic

  device = "cuda" if torch.cuda.is_available() else "cpu"

  def run(data):
    terms = None
    with torch.inference_mode():
      for batch in data:
        grams = [tap @ tap.T for tap in batch]
        half = len(grams) // 2
        new = hsic(torch.stack(grams[:half]), torch.stack(grams[half:]))
        terms = new if terms is None else [a + b for a, b in zip(terms, new, strict=True)]
    xy, xx, yy = terms
    scale = torch.sqrt(torch.clamp(xx.unsqueeze(1) * yy.unsqueeze(0), min=0.0))
    cka = torch.clamp(xy / torch.where(scale == 0, 1e-6, scale), min=0.0, max=1.0)
    return cka.cpu().numpy()

  run.prepare = lambda data: [[torch.from_numpy(tap).to(device) for tap in b] for b in data]
  return run
