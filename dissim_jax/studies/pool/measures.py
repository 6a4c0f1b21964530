"""What two models do together: errors they share, what their ensemble gains."""

import dataclasses
import math

import numpy as np
import scipy.special

from dissim_jax.studies.pool.record import Pool, architecture

RULES = ("logits", "probs")  # what an ensemble averages
GAINS = {
  f"gain_{over}_{rule}": (over, rule) for rule in ("probs", "logits") for over in ("mean", "best")
}


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Values of the pairs a < b of a pool; arrays of one length.

  Attributes:
    first, second: places of the two models.
    similarity: NaN where it was not computed.
    one_sided: bool.
    images: that both get right.
    same_architecture: bool.
    values: {name: float64}: `error_inconsistency`, `error_consistency`, `err_<rule>` (the error
      reduction rate) and the gains in accuracy `gain_<mean|best>_<rule>` of their ensemble.
  """

  first: np.ndarray
  second: np.ndarray
  similarity: np.ndarray
  one_sided: np.ndarray
  images: np.ndarray
  same_architecture: np.ndarray
  values: dict

  def matrix(self, values: np.ndarray, models: int) -> np.ndarray:
    """float64 [M, M] of values of the pairs, symmetric; NaN on the diagonal."""
    square = np.full((models, models), math.nan)
    square[self.first, self.second] = square[self.second, self.first] = values
    return square


def error_reduction_rate(ensemble_error: float, member_errors) -> float:
  """`ERR = 1 - Err_ens / mean_i Err_i`; at most 1, higher is better, 0 = no better than the mean.

  Hwang et al., section 4.1. NaN where no member errs.
  """
  mean = float(np.mean(member_errors))
  return 1 - float(ensemble_error) / mean if mean > 0 else math.nan


def error_inconsistency(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
  """Share of images that exactly one of two models gets right; in [0, 1], higher = less alike.

  Gontijo-Lopes et al. 2022, section 4.
  """
  return float(np.mean(correct_a != correct_b))


def error_consistency(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
  """Cohen's kappa of being right (Geirhos et al. 2020); at most 1, 1 = errors on the same images.

  `1 - d_obs / d_exp`, d the observed share of images that exactly one gets right and that expected
  of independent errors, `p_a (1 - p_b) + (1 - p_a) p_b`. NaN where that is 0.
  """
  a, b = float(np.mean(correct_a)), float(np.mean(correct_b))
  expected = a * (1 - b) + (1 - a) * b
  observed = error_inconsistency(correct_a, correct_b)
  return 1 - observed / expected if expected > 0 else math.nan


def outputs(pool: Pool) -> dict:
  """{rule: float64 [M, N, K]} of what ensembles average."""
  return {"logits": pool.logits, "probs": scipy.special.softmax(pool.logits, axis=-1)}


def measure_pairs(pool: Pool) -> Pairs:
  """Every pair's values."""
  first, second = np.triu_indices(len(pool.members), 1)
  correct, error, averaged = pool.correct, 1 - pool.accuracy, outputs(pool)
  names = ["error_inconsistency", "error_consistency", *(f"err_{rule}" for rule in RULES), *GAINS]
  values = {name: np.full(len(first), math.nan) for name in names}
  for place, (a, b) in enumerate(zip(first, second, strict=True)):
    values["error_inconsistency"][place] = error_inconsistency(correct[a], correct[b])
    values["error_consistency"][place] = error_consistency(correct[a], correct[b])
    together = {
      rule: float(np.mean((scores[a] + scores[b]).argmax(-1) != pool.labels))
      for rule, scores in averaged.items()
    }
    for rule in RULES:
      values[f"err_{rule}"][place] = error_reduction_rate(together[rule], error[[a, b]])
    for name, (over, rule) in GAINS.items():
      alone = error[[a, b]].mean() if over == "mean" else error[[a, b]].min()
      values[name][place] = alone - together[rule]
  kinds = [architecture(member) for member in pool.members]
  same = np.array([kinds[a] == kinds[b] for a, b in zip(first, second, strict=True)], bool)
  square = first, second
  return Pairs(
    first,
    second,
    pool.similarity[square],
    pool.one_sided[square],
    pool.counts[square],
    same,
    values,
  )
