"""Means, correlations, trend lines, and p-values for values of pairs."""

import math
from typing import NamedTuple

import numpy as np
import scipy.stats

from dissim_jax.render.words import Spread

_BATCH = 256  # permutations at a time


class Correlation(NamedTuple):
  """Pearson's r and Spearman's rho with their p-values, of `count` points; NaN if undefined."""

  r: float
  p: float
  rho: float
  rho_p: float
  count: int


class Trend(NamedTuple):
  """A least-squares line: float64 arrays of x, the line, and the edges of its band."""

  x: np.ndarray
  line: np.ndarray
  low: np.ndarray
  high: np.ndarray


def spread(values) -> Spread:
  """Mean and spread of the finite values."""
  values = np.asarray(values, np.float64)
  values = values[np.isfinite(values)]
  mean = float(values.mean()) if values.size else math.nan
  return Spread(mean, float(values.std(ddof=1)) if values.size > 1 else math.nan, values.size)


def _defined(x, y) -> tuple:
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  both = np.isfinite(x) & np.isfinite(y)
  return x[both], y[both]


def _varies(values: np.ndarray) -> bool:
  return bool(np.ptp(values) > 1e-9 * max(1.0, np.abs(values).max())) if values.size else False


def correlation(x, y) -> Correlation:
  """Pearson's and Spearman's correlation of the points of which both values are finite.

  The p-values take the points for independent, which pairs of models are not: see `mantel`.
  NaN of fewer than 3 points, or where x or y does not vary.
  """
  x, y = _defined(x, y)
  if x.size < 3 or not (_varies(x) and _varies(y)):
    return Correlation(*[math.nan] * 4, x.size)
  pearson, spearman = scipy.stats.pearsonr(x, y), scipy.stats.spearmanr(x, y)
  return Correlation(
    float(pearson.statistic),
    float(pearson.pvalue),
    float(spearman.statistic),
    float(spearman.pvalue),
    x.size,
  )


def trend(x, y, confidence: float, points: int = 60) -> Trend | None:
  """Least-squares line with the band that holds its mean with this confidence.

  `y^ ± t s sqrt(1/n + (x - x̄)² / sum (x_i - x̄)²)`, t of Student's distribution with n - 2 degrees
  of freedom, s² = SSE / (n - 2). None of fewer than 3 points or where x does not vary.
  """
  x, y = _defined(x, y)
  if x.size < 3 or not _varies(x):
    return None
  fit = scipy.stats.linregress(x, y)
  error = math.sqrt(np.sum((y - fit.intercept - fit.slope * x) ** 2) / (x.size - 2))
  at = np.linspace(x.min(), x.max(), points)
  line = fit.intercept + fit.slope * at
  half = error * np.sqrt(1 / x.size + (at - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
  half *= scipy.stats.t.ppf((1 + confidence) / 2, x.size - 2)
  return Trend(at, line, line - half, line + half)


def mantel(a: np.ndarray, b: np.ndarray, permutations: int, seed: int) -> float:
  """p-value of the correlation of two matrices over pairs, by permuting models (Mantel 1967).

  The models of b change places, rows and columns together, so pairs that share a model stay
  together: `(1 + #{|r_perm| >= |r|}) / (1 + permutations)`, r over pairs that both matrices have.
  With b of zeros and ones this is a test of the difference of two means.

  Args:
    a, b: [M, M], symmetric; NaN where there is no value; the diagonals do not count.

  Returns:
    In (0, 1]; NaN where r is not defined.
  """
  rows, columns = np.triu_indices(len(a), 1)
  values = np.asarray(a, np.float64)[rows, columns]
  rows, columns = (index[np.isfinite(values)] for index in (rows, columns))
  values, b = values[np.isfinite(values)], np.asarray(b, np.float64)
  x, y = _defined(values, b[rows, columns])
  if x.size < 3 or not (_varies(x) and _varies(y)):
    return math.nan
  observed = abs(_correlations(values, b[rows, columns][None])[0])
  rng, at_least = np.random.default_rng(seed), 0
  for start in range(0, permutations, _BATCH):
    orders = np.argsort(rng.random((min(_BATCH, permutations - start), len(b))), axis=1)
    correlations = np.abs(_correlations(values, b[orders[:, rows], orders[:, columns]]))
    at_least += int(np.sum(correlations >= observed - 1e-12))
  return (1 + at_least) / (1 + permutations)


def _correlations(x: np.ndarray, ys: np.ndarray) -> np.ndarray:
  """Pearson's r of x [P] with every row of ys [R, P], over the places where it is finite."""
  there = np.isfinite(ys)
  count = np.maximum(there.sum(1), 1)
  ys = np.where(there, ys, 0.0)
  centred_y = np.where(there, ys - (ys.sum(1) / count)[:, None], 0.0)
  centred_x = np.where(there, x - ((there * x).sum(1) / count)[:, None], 0.0)
  norm = np.sqrt((centred_x**2).sum(1) * (centred_y**2).sum(1))
  return np.divide((centred_x * centred_y).sum(1), norm, out=np.zeros(len(ys)), where=norm > 1e-12)
