"""Minibatch LinCKA of all pairs of taps: how fast, how exact, how much memory.

  python -m benchmarks.cka_speed

Two sets of activations in the shapes of a ResNet34 (17 taps without the stem's repetition), four
batches of 128. Compared in one run, interleaved: all pairs by `hsic_matrix`, the same pair by pair,
and the PyPI package pytorch-cka where torch and it can be imported. Errors are against float64
NumPy. Then position-wise CKA of 8192 positions and 256 channels, in feature space and by Gram
matrix.
"""

import functools
import math
import statistics
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks.device.cka import activations, all_pairs, make_package, reference, u_centred
from benchmarks.device.setting import RESNET34
from benchmarks.device.timing import Budget, Case, interleaved
from dissim_jax.similarity import cka_from_hsic, hsic_matrix, lincka

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


def seconds_of(programs: dict[str, Callable], repeats: int) -> dict[str, float]:
  """Median seconds of each program, run in turns after one warm-up."""
  cases = [Case(name, lambda p=p: p, 1, 1, "float32") for name, p in programs.items()]
  tell = functools.partial(print, file=sys.stderr)
  rows = interleaved("cka", cases, Budget(math.inf), repeats, tell)
  return {row.name: statistics.median(row.seconds) for row in rows}


def report_exactness(package: Callable | None, batches: int) -> None:
  """Largest error of one entry against float64, for features of several kinds."""
  print("\n| largest error | this package | pytorch-cka |\n|---|---|---|")
  for index, (name, kind) in enumerate(CASES.items()):
    data = activations(batches, index, RESNET34, batch=BATCH, **kind)
    exact = reference(data)
    ours = np.max(np.abs(all_pairs(data) - exact))
    theirs = np.max(np.abs(package(package.prepare(data)) - exact)) if package else None
    print(f"| {name} | {ours:.1e} | {'–' if theirs is None else f'{theirs:.1e}'} |", flush=True)


def report_speed(package: Callable | None, batches: int, repeats: int) -> None:
  """Seconds, ratios and the memory that XLA sets aside for one batch."""
  data = activations(batches, 0, RESNET34, batch=BATCH)
  on_device = jax.device_put(data)
  programs = {
    "all pairs at once": lambda: all_pairs(on_device),
    "pair by pair": lambda: pair_by_pair(on_device),
  }
  if package:
    tensors = package.prepare(data)
    programs["pytorch-cka"] = lambda: package(tensors)
  seconds = seconds_of(programs, repeats)
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
  seconds = seconds_of(
    {
      "feature space": lambda: float(features(*on_device)),
      "Gram matrix": lambda: float(cka_from_hsic(gram(on_device))[0, 1]),
    },
    repeats,
  )
  k, m = u_centred(x), u_centred(y)
  exact = float(np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m)))
  print("\n| 8192 positions, 256 channels | seconds | ratio | error |\n|---|---|---|---|")
  values = float(features(*on_device)), float(cka_from_hsic(gram(on_device))[0, 1])
  for (name, value), cka in zip(seconds.items(), values, strict=True):
    ratio = value / seconds["feature space"]
    print(f"| {name} | {value:.3f} | {ratio:.1f} | {abs(cka - exact):.1e} |")


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
