"""Ensembles of N models from exactly k clusters (Hwang et al., section 4.1, Figure 3)."""

import itertools
import math
from typing import NamedTuple

import numpy as np

from dissim_jax.render.words import Spread
from dissim_jax.seeds import folded
from dissim_jax.studies.pool.statistics import spread

_CHUNK = 2**24  # numbers of averaged outputs at a time


class Draw(NamedTuple):
  """Ensembles: int [E, N] places of models, and how many there are in all."""

  members: np.ndarray
  total: int


class Measured(NamedTuple):
  """What ensembles of one kind do: errors, error reduction rates, images that all get wrong."""

  error: Spread
  reduction: Spread
  all_wrong: Spread


def draw(clusters: np.ndarray, size: int, spread_over: int, most: int, seed: int) -> Draw:
  """Ensembles of `size` models of exactly `spread_over` clusters.

  All if there are at most `most`, else `most` of them, each drawn uniformly and independently.

  Args:
    clusters: int [M], the cluster of each model.
    size: N.
    spread_over: k.
    most: ensembles at the most.
    seed: of the draw.

  Returns:
    `Draw`; members of each row ascend.
  """
  groups = [np.flatnonzero(clusters == cluster).tolist() for cluster in np.unique(clusters)]
  ways = _Ways([len(group) for group in groups])
  total = ways(0, size, spread_over)
  if total <= most:
    rows = list(_all(groups, ways, 0, size, spread_over))
  else:
    rng = np.random.default_rng([folded(seed), size, spread_over])
    rows = [_one(groups, ways, size, spread_over, rng) for _ in range(most)]
  return Draw(np.sort(np.array(rows, int).reshape(-1, size), axis=1), total)


class _Ways:
  """How many sets of n models of exactly k of the groups from `start` on there are."""

  def __init__(self, sizes: list):
    self.sizes, self._known, self._shares = sizes, {}, {}

  def __call__(self, start: int, n: int, k: int) -> int:
    if start == len(self.sizes) or k < 0:
      return int(n == 0 and k == 0)
    key = start, n, k
    if key not in self._known:
      self._known[key] = sum(self.parts(*key))
    return self._known[key]

  def parts(self, start: int, n: int, k: int) -> list:
    """The same, by how many of the n are of the group `start`: 0, 1, ..."""
    return [
      math.comb(self.sizes[start], part) * self(start + 1, n - part, k - (part > 0))
      for part in range(min(n, self.sizes[start]) + 1)
    ]

  def shares(self, start: int, n: int, k: int) -> np.ndarray:
    """The share of those sets with at most 0, 1, ... of the group `start`."""
    key = start, n, k
    if key not in self._shares:
      self._shares[key] = np.array(list(itertools.accumulate(self.parts(*key)))) / self(*key)
    return self._shares[key]


def _all(groups: list, ways: _Ways, start: int, n: int, k: int):
  """Every set of n models of exactly k of the groups from `start` on."""
  if not n and not k:
    yield ()
  elif start < len(groups) and ways(start, n, k):
    for part in range(min(n, len(groups[start])) + 1):
      rest = list(_all(groups, ways, start + 1, n - part, k - (part > 0)))
      for chosen in itertools.combinations(groups[start], part) if rest else ():
        yield from (chosen + other for other in rest)


def _one(groups: list, ways: _Ways, n: int, k: int, rng: np.random.Generator) -> list:
  """One of those sets, all with the same probability."""
  members = []
  for start, group in enumerate(groups):
    part = int(np.searchsorted(ways.shares(start, n, k), rng.random(), side="right"))
    members += rng.permutation(group)[:part].tolist()
    n, k = n - part, k - (part > 0)
    if not n:
      break
  return members


def measure(members: np.ndarray, outputs: np.ndarray, labels: np.ndarray) -> Measured:
  """Errors of ensembles that average `outputs`.

  Args:
    members: int [E, N].
    outputs: float64 [M, images, K].
    labels: int [images].
  """
  correct = outputs.argmax(-1) == labels
  alone = 1 - correct.mean(-1)
  step = max(1, _CHUNK // (outputs.shape[1] * outputs.shape[2]))
  flat = outputs.reshape(len(outputs), -1)
  errors, wrong = [], []
  for start in range(0, len(members), step):
    rows = members[start : start + step]
    chosen = np.zeros((len(rows), len(outputs)))
    np.put_along_axis(chosen, rows, 1.0, axis=1)
    summed = (chosen @ flat).reshape(len(rows), *outputs.shape[1:])
    errors.append(np.mean(summed.argmax(-1) != labels, axis=1))
    wrong.append(np.mean(chosen @ correct < 0.5, axis=1))
  error, wrong = np.concatenate(errors or [[]]), np.concatenate(wrong or [[]])
  mean = alone[members].mean(1) if len(members) else np.zeros(0)
  reduction = 1 - np.divide(error, mean, out=np.full(len(error), math.nan), where=mean > 0)
  return Measured(spread(error), spread(reduction), spread(wrong))
