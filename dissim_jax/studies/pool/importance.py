"""Which component makes models differ: boosted trees on differences of components."""

import math
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.inspection import permutation_importance
from sklearn.metrics import r2_score

from dissim_jax.seeds import folded
from dissim_jax.studies.pool.settings import Settings

FEWEST_PAIRS, FEWEST_ARCHITECTURES = 3, 4  # to fit; to hold some out


class Importance(NamedTuple):
  """How much each component matters.

  Attributes:
    names: components that differ in some pair.
    constant: components that never differ.
    mean, std: float64, fall of the in-sample R² when a component's differences are permuted.
    r2: in-sample.
    held_out_r2: of pairs with a model of an architecture that was held out; NaN of few.
  """

  names: list
  constant: list
  mean: np.ndarray
  std: np.ndarray
  r2: float
  held_out_r2: float


def differences(components: list, first: np.ndarray, second: np.ndarray) -> tuple:
  """Hamming distance of the components of each pair.

  Args:
    components: {component: word} of each model.
    first, second: int [P], places of the models of the pairs.

  Returns:
    (names of all components, float64 [P, F] of zeros and ones).
  """
  names = list(dict.fromkeys(name for model_components in components for name in model_components))
  table = np.array(
    [[str(model_components.get(name, "")) for name in names] for model_components in components]
  )
  return names, (table[first] != table[second]).astype(np.float64)


def importance(
  components: list,
  architectures: list,
  first: np.ndarray,
  second: np.ndarray,
  similarity: np.ndarray,
  settings: Settings,
) -> Importance | None:
  """Gradient boosting of the similarity on differences of components, and what permuting one costs.

  `GradientBoostingRegressor(500 stages, depth 12, rate 0.02)` and `permutation_importance` (10
  times), Hwang et al., section 3 and appendix B. "Minimum number of samples 4" is taken for
  `min_samples_split`, as in scikit-learn's own example of this regressor. Both R² and importance
  are of the pairs that were fitted, as in the paper.

  Args:
    components: {component: word} of each model.
    architectures: hashable, of each model; pairs with a held-out one are predicted for
      `held_out_r2`.
    first, second: int [P].
    similarity: float64 [P]; pairs of NaN do not count.
    settings: stages, max_depth, rate, least_samples, repeats, folds, seed.

  Returns:
    None if no component differs, or too few pairs have a value.
  """
  names, table = differences(components, first, second)
  known = np.isfinite(similarity)
  table, target = table[known], similarity[known]
  varies = np.ptp(table, axis=0) > 0 if len(table) else np.zeros(len(names), bool)
  constant = [name for name, kept in zip(names, varies, strict=True) if not kept]
  if len(target) < FEWEST_PAIRS or not varies.any():
    return None
  table = table[:, varies]
  model = _regressor(settings).fit(table, target)
  permuted = permutation_importance(
    model,
    table,
    target,
    n_repeats=settings.repeats,
    random_state=folded(settings.seed),
    scoring="r2",
  )
  held_out = _held_out_r2(table, target, architectures, first[known], second[known], settings)
  return Importance(
    [name for name in names if name not in constant],
    constant,
    permuted.importances_mean,
    permuted.importances_std,
    _r2(target, model.predict(table)),
    held_out,
  )


def _regressor(settings: Settings) -> GradientBoostingRegressor:
  return GradientBoostingRegressor(
    n_estimators=settings.stages,
    max_depth=settings.max_depth,
    learning_rate=settings.rate,
    min_samples_split=settings.least_samples,
    random_state=folded(settings.seed),
  )


def _r2(target: np.ndarray, predicted: np.ndarray) -> float:
  """NaN where the target does not vary."""
  return float(r2_score(target, predicted)) if np.ptp(target) > 1e-12 else math.nan


def _held_out_r2(table, target, architectures, first, second, settings) -> float:
  """R² of pairs predicted by trees that saw no model of one of their architectures.

  The architectures are dealt into `folds` parts; a pair of two parts is predicted twice, and the
  mean counts.
  """
  kinds = list(dict.fromkeys(architectures))
  if len(kinds) < FEWEST_ARCHITECTURES:
    return math.nan
  folds = min(settings.folds, len(kinds) // 2)
  order = np.random.default_rng(settings.seed).permutation(len(kinds)) % folds
  fold = np.array([order[kinds.index(kind)] for kind in architectures])
  sums, counts = np.zeros(len(target)), np.zeros(len(target))
  for part in range(folds):
    out = (fold[first] == part) | (fold[second] == part)
    if not out.any() or np.sum(~out) < FEWEST_PAIRS:
      continue
    sums[out] += _regressor(settings).fit(table[~out], target[~out]).predict(table[out])
    counts[out] += 1
  seen = counts > 0
  return _r2(target[seen], sums[seen] / counts[seen]) if seen.sum() > 1 else math.nan
