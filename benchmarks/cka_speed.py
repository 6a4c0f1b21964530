"""Minibatch LinCKA of all pairs of taps: how fast, how exact, how much memory.

  python -m benchmarks.cka_speed

Two sets of activations in the shapes of a ResNet34 (17 taps without the stem's repetition), four
batches of 128. Compared in one run, interleaved: all pairs by `hsic_matrix`, the same pair by pair,
and the PyPI package pytorch-cka where torch and it can be imported. Errors are against float64
NumPy. Then position-wise CKA of 8192 positions and 256 channels, in feature space and by Gram
matrix.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from dissim_jax.similarity import cka_from_hsic, hsic_matrix, lincka

SHAPES = [(32, 32, 64)] * 4 + [(16, 16, 128)] * 4 + [(8, 8, 256)] * 6 + [(4, 4, 512)] * 3
BATCH = 128
CASES = {
  "features of mean 0": dict(mean=0.0, scale=1.0, shared=0.7),
  "features of mean 10": dict(mean=10.0, scale=1.0, shared=0.7),
  "features of mean 100": dict(mean=100.0, scale=1.0, shared=0.7),
  "features scaled by 0.01": dict(mean=0.0, scale=0.01, shared=0.7),
  "independent features": dict(mean=0.0, scale=1.0, shared=0.0),
}

_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each; the median counts.")
_BATCHES = flags.DEFINE_integer("batches", 4, "Batches of 128 examples.")


def activations(batches: int, seed: int, *, mean: float, scale: float, shared: float) -> list:
  """`[batch][tap]` of both sets, float32 `[128, features]`; examples share some of their features.

  The shared part has 30 dimensions, so that taps are similar to a middling degree.
  """
  rng = np.random.default_rng(seed)
  sizes = [int(np.prod(shape)) for shape in SHAPES]
  mixing = [rng.standard_normal((30, size), np.float32) / 30**0.5 for size in sizes]
  result = []
  for _ in range(batches):
    common = rng.standard_normal((BATCH, 30), np.float32)
    result.append([
      (shared * common @ mix + rng.standard_normal((BATCH, mix.shape[1]), np.float32) + mean)
      * np.float32(scale)
      for _ in range(2)
      for mix in mixing
    ])  # fmt: skip
  return result


def reference(data: list) -> np.ndarray:
  """Minibatch CKA `[17, 17]` in float64, Eq. 12 and 13 of Wald et al. 2023."""
  total, taps = 0.0, len(data[0])
  for batch in data:
    vectors = np.empty((taps, BATCH * BATCH))
    for i, x in enumerate(batch):
      x = x.astype(np.float64)
      gram = (x - x.mean(0)) @ (x - x.mean(0)).T  # HSIC does not see the mean; float64 does.
      np.fill_diagonal(gram, 0.0)
      rows = gram.sum(1) / (BATCH - 2)
      gram -= rows[:, None] + rows[None] - rows.sum() / (BATCH - 1)
      np.fill_diagonal(gram, 0.0)
      vectors[i] = gram.ravel()
    total = total + vectors @ vectors.T
  root = np.sqrt(np.diagonal(total))
  return (total / root / root[:, None])[: taps // 2, taps // 2 :]


def all_pairs(data: list) -> np.ndarray:
  """The way of this package."""
  compute = jax.jit(hsic_matrix)
  total = sum(np.asarray(compute(batch), np.float64) for batch in data)
  half = len(data[0]) // 2
  return cka_from_hsic(total)[:half, half:]


_one_pair = jax.jit(lambda x, y: hsic_matrix([x, y]))


def pair_by_pair(data: list) -> np.ndarray:
  """Every pair of taps on its own."""
  half = len(data[0]) // 2
  cka = np.empty((half, half))
  for i in range(half):
    for j in range(half):
      pairs = [_one_pair(batch[i], batch[half + j]) for batch in data]
      cka[i, j] = cka_from_hsic(np.sum(jax.device_get(pairs), axis=0, dtype=np.float64))[0, 1]
  return cka


def make_package() -> Callable | None:
  """pytorch-cka on the same arrays, accumulated over batches as its `CKA` class does."""
  if not all(importlib.util.find_spec(name) for name in ("torch", "cka")):
    return None
  import torch
  from cka.hsic import hsic

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
    return torch.clamp(xy / torch.where(scale == 0, 1e-6, scale), min=0.0, max=1.0).numpy()

  run.prepare = lambda data: [[torch.from_numpy(tap) for tap in batch] for batch in data]
  return run


def interleaved(programs: dict[str, Callable], repeats: int) -> dict[str, float]:
  """Median seconds of each program, run in turns after one warm-up."""
  for program in programs.values():
    program()
  times = {name: [] for name in programs}
  for _ in range(repeats):
    for name, program in programs.items():
      began = time.perf_counter()
      program()
      times[name].append(time.perf_counter() - began)
  return {name: statistics.median(values) for name, values in times.items()}


def report_exactness(package: Callable | None, batches: int) -> None:
  """Largest error of one entry against float64, for features of several kinds."""
  print("\n| largest error | this package | pytorch-cka |\n|---|---|---|")
  for index, (name, kind) in enumerate(CASES.items()):
    data = activations(batches, index, **kind)
    exact = reference(data)
    ours = np.max(np.abs(all_pairs(data) - exact))
    theirs = np.max(np.abs(package(package.prepare(data)) - exact)) if package else None
    print(f"| {name} | {ours:.1e} | {'–' if theirs is None else f'{theirs:.1e}'} |", flush=True)


def report_speed(package: Callable | None, batches: int, repeats: int) -> None:
  """Seconds, ratios and the memory that XLA sets aside for one batch."""
  data = activations(batches, 0, **CASES["features of mean 0"])
  on_device = jax.device_put(data)
  programs = {
    "all pairs at once": lambda: all_pairs(on_device),
    "pair by pair": lambda: pair_by_pair(on_device),
  }
  if package:
    tensors = package.prepare(data)
    programs["pytorch-cka"] = lambda: package(tensors)
  seconds = interleaved(programs, repeats)
  ours = seconds["all pairs at once"]
  print("\n| 17 x 17 taps | seconds | to all pairs at once |\n|---|---|---|")
  for name, value in seconds.items():
    print(f"| {name} | {value:.2f} | {value / ours:.2f} |")
  analysis = jax.jit(hsic_matrix).lower(on_device[0]).compile().memory_analysis()
  print(f"\nextra memory of one batch: {analysis.temp_size_in_bytes / 2**20:.1f} MiB")


def report_positions(repeats: int) -> None:
  """Position-wise CKA: feature space against Gram matrix."""
  rng = np.random.default_rng(0)
  x = rng.standard_normal((8192, 256), np.float32) * 2 + 3
  mixed = x @ rng.standard_normal((256, 256), np.float32) / 16
  y = mixed + rng.standard_normal(x.shape, np.float32)
  on_device = jnp.asarray(x), jnp.asarray(y)
  features, gram = jax.jit(lambda a, b: lincka(a, b, samples="position")), jax.jit(hsic_matrix)
  seconds = interleaved({
    "feature space": lambda: float(features(*on_device)),
    "Gram matrix": lambda: float(cka_from_hsic(gram(on_device))[0, 1]),
  }, repeats)  # fmt: skip
  a, b = (z.astype(np.float64) - z.astype(np.float64).mean(0) for z in (x, y))
  exact = _exact_positions(a, b)
  print("\n| 8192 positions, 256 channels | seconds | ratio | error |\n|---|---|---|---|")
  values = float(features(*on_device)), float(cka_from_hsic(gram(on_device))[0, 1])
  for (name, value), cka in zip(seconds.items(), values, strict=True):
    ratio = value / seconds["feature space"]
    print(f"| {name} | {value:.3f} | {ratio:.1f} | {abs(cka - exact):.1e} |")


def _exact_positions(a: np.ndarray, b: np.ndarray) -> float:
  """Unbiased CKA in float64 by Gram matrices."""
  n = len(a)

  def u_centered(x):
    gram = x @ x.T
    np.fill_diagonal(gram, 0.0)
    rows = gram.sum(1) / (n - 2)
    gram -= rows[:, None] + rows[None] - rows.sum() / (n - 1)
    np.fill_diagonal(gram, 0.0)
    return gram

  k, m = u_centered(a), u_centered(b)
  return float(np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m)))


def main(argv: list[str]) -> None:
  """Measures and prints Markdown tables."""
  del argv
  device = jax.devices()[0]
  print(f"jax {jax.__version__} on {device.device_kind}, {_BATCHES.value} batches of {BATCH}")
  package = make_package()
  report_speed(package, _BATCHES.value, _REPEATS.value)
  report_positions(_REPEATS.value)
  report_exactness(package, _BATCHES.value)


if __name__ == "__main__":
  app.run(main)
