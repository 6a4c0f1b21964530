"""How alike the predicted classes and the errors of two models are."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dissim_jax.metrics import checks
from dissim_jax.metrics.scores import fraction


def _one_right(correct_a: jax.Array, correct_b: jax.Array) -> jax.Array:
  """Fraction expected to be right in exactly one of two independent models of these accuracies.

  `1 - e_exp`, from the rates of right and wrong answers, without the cancellation in 1 - e_exp.
  """
  right_wrong = fraction(correct_a) * fraction(~correct_b)
  return right_wrong + fraction(~correct_a) * fraction(correct_b)


def _kappa(disagreement: jax.Array, expected_disagreement: jax.Array) -> jax.Array:
  """`(obs - exp) / (1 - exp)` in terms of 1 - obs and 1 - exp; nan where exp is 1."""
  defined = expected_disagreement > 0
  ratio = disagreement / jnp.where(defined, expected_disagreement, 1.0)
  return jnp.where(defined, 1.0 - ratio, jnp.nan)


def error_consistency(pred_a: jax.Array, pred_b: jax.Array, labels: jax.Array) -> jax.Array:
  """Cohen's kappa of being right: `(c_obs - c_exp) / (1 - c_exp)`.

  `c_obs`: fraction of examples on which both are right or both are wrong. `c_exp = p_a p_b +
  (1 - p_a)(1 - p_b)`, p the accuracies: the same for independent errors. Geirhos et al. 2020;
  Wald et al. 2023, Eq. 14.

  Returns:
    at most 1; 1 = errors on the same examples, 0 = independent errors, negative = disjoint errors.
    nan where c_exp is 1: both models are right everywhere or both are wrong everywhere.
  """
  checks.check_indices(pred_a=pred_a, pred_b=pred_b, labels=labels)
  correct_a, correct_b = pred_a == labels, pred_b == labels
  return _kappa(fraction(correct_a != correct_b), _one_right(correct_a, correct_b))


def cohens_kappa_label(pred_a: jax.Array, pred_b: jax.Array, labels: jax.Array) -> jax.Array:
  """Kappa of the predicted labels against the agreement expected of correctness.

  `(obs - exp) / (1 - exp)`, `obs` the fraction of examples with the same predicted label, `exp =
  p_a p_b + (1 - p_a)(1 - p_b)`. This is what the authors' code computes and the tables of Wald et
  al. 2023 follow; two models that are wrong in different ways count as disagreeing, so it is at
  most `error_consistency`.

  Differs from the paper: Eq. 14 speaks of the overlap of errors, which is `error_consistency`. Nor
  is it Cohen's (1960) kappa of two raters' labels, whose expectation is over labels.

  Returns:
    at most 1, higher = more alike; nan where exp is 1 (as in `error_consistency`).
  """
  checks.check_indices(pred_a=pred_a, pred_b=pred_b, labels=labels)
  return _kappa(fraction(pred_a != pred_b), _one_right(pred_a == labels, pred_b == labels))


def error_inconsistency(pred_a: jax.Array, pred_b: jax.Array, labels: jax.Array) -> jax.Array:
  """Fraction of examples that exactly one of two models gets right; in [0, 1], higher = less alike.

  Gontijo-Lopes et al. 2022, section 4 ("observed error inconsistency").
  """
  checks.check_indices(pred_a=pred_a, pred_b=pred_b, labels=labels)
  return fraction((pred_a == labels) != (pred_b == labels))


def label_disagreement(pred_a: jax.Array, pred_b: jax.Array) -> jax.Array:
  """Fraction of examples with different predicted labels; in [0, 1], higher = less alike."""
  checks.check_indices(pred_a=pred_a, pred_b=pred_b)
  return fraction(pred_a != pred_b)


def error_disagreement_ratio(pred_a: jax.Array, pred_b: jax.Array, labels: jax.Array) -> jax.Array:
  """Different over identical errors among the examples that both models get wrong.

  Wald et al. 2023, Eq. 17-18.

  Returns:
    >= 0, higher = less alike; 1 = joint errors agree as often as they differ. inf where no joint
    error is identical, nan where there is no joint error.
  """
  checks.check_indices(pred_a=pred_a, pred_b=pred_b, labels=labels)
  joint_error = (pred_a != labels) & (pred_b != labels)
  same = jnp.sum(joint_error & (pred_a == pred_b), dtype=jnp.float32)
  different = jnp.sum(joint_error, dtype=jnp.float32) - same
  undefined = jnp.where(different > 0, jnp.inf, jnp.nan)
  return jnp.where(same > 0, different / jnp.maximum(same, 1.0), undefined)


def _joint_shares(
  pred_a: jax.Array, pred_b: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Shares of examples that both get right, only a, only b, and neither: n11, n10, n01, n00."""
  checks.check_indices(pred_a=pred_a, pred_b=pred_b, labels=labels)
  right_a, right_b = pred_a == labels, pred_b == labels
  groups = (right_a & right_b, right_a & ~right_b, ~right_a & right_b, ~right_a & ~right_b)
  n11, n10, n01, n00 = map(fraction, groups)
  return n11, n10, n01, n00


def q_statistic(pred_a: jax.Array, pred_b: jax.Array, labels: jax.Array) -> jax.Array:
  """Yule's Q of being right: `(n11 n00 - n01 n10) / (n11 n00 + n01 n10)`.

  n11 examples are right in both models, n10 only in a, n01 only in b, n00 in neither. Kuncheva &
  Whitaker 2003, section 3.1 (Yule 1900).

  Returns:
    in [-1, 1]; positive = errors on the same examples, 0 = independent errors, negative = errors on
    different examples, so lower = more diverse. 1 as soon as n10 or n01 is 0 with n11 and n00
    positive, -1 as soon as n11 or n00 is 0 with n10 and n01 positive; nan where both products
    are 0, as when one model is right everywhere.
  """
  n11, n10, n01, n00 = _joint_shares(pred_a, pred_b, labels)
  alike, apart = n11 * n00, n01 * n10
  defined = alike + apart > 0
  return jnp.where(defined, (alike - apart) / jnp.where(defined, alike + apart, 1.0), jnp.nan)


def error_correlation(pred_a: jax.Array, pred_b: jax.Array, labels: jax.Array) -> jax.Array:
  """Pearson's correlation of being right: `(n11 n00 - n01 n10) / sqrt(p_a q_a p_b q_b)`.

  n as in `q_statistic`, as shares; p are the accuracies and q = 1 - p. Kuncheva & Whitaker 2003,
  section 3.1 (their rho).

  Returns:
    in [-1, 1]; 1 = errors on the same examples, 0 = uncorrelated, -1 = one is right exactly where
    the other is wrong; lower = more diverse. nan where a model is right everywhere or nowhere.
  """
  n11, n10, n01, n00 = _joint_shares(pred_a, pred_b, labels)
  deviation_a = jnp.sqrt((n11 + n10) * (n01 + n00))
  deviation_b = jnp.sqrt((n11 + n01) * (n10 + n00))
  defined = (deviation_a > 0) & (deviation_b > 0)
  scale = jnp.where(defined, deviation_a * deviation_b, 1.0)
  correlation = jnp.clip((n11 * n00 - n01 * n10) / scale, -1.0, 1.0)
  return jnp.where(defined, correlation, jnp.nan)


def double_fault(pred_a: jax.Array, pred_b: jax.Array, labels: jax.Array) -> jax.Array:
  """Fraction of examples that both models get wrong; in [0, 1], lower = more diverse.

  Kuncheva & Whitaker 2003, section 3.1 (Giacinto & Roli 2001).
  """
  return _joint_shares(pred_a, pred_b, labels)[-1]


def pairwise_mean(metric: Callable, predictions: jax.Array, *args) -> jax.Array:
  """Mean of `metric(predictions[i], predictions[j], *args)` over all pairs i < j.

  How Wald et al. 2023 (appendix A.3) report pairwise metrics of more than two models. A pair for
  which the metric is nan makes the mean nan.

  Args:
    metric: a function of two models' predictions and `args`.
    predictions: `[M, ...]`, M >= 2.
    *args: further arguments, such as labels.
  """
  if len(predictions) < 2:
    raise ValueError(f"{len(predictions)} models: 2 or more are needed for pairs.")
  pairs = itertools.combinations(range(len(predictions)), 2)
  values = [metric(predictions[i], predictions[j], *args) for i, j in pairs]
  return jnp.mean(jnp.stack(values))
