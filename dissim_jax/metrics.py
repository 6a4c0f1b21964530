"""What predictions say about one model and about pairs of models: pure functions of arrays.

`N` examples, `K` classes, `M` models. `pred` are predicted class indices, integer `[N]`; `labels`
true class indices, integer `[N]`; `probs` and `logits` floating `[N, K]`. All results are float32
scalars unless said otherwise, all functions work under `jit` and `vmap`, and a wrong shape or dtype
raises a ValueError at trace time. Where a metric is undefined it is nan, never an exception.

References: Wald et al. 2023, "Exploring new ways" (appendix B.2); Gontijo-Lopes et al. 2022, "No
one representation to rule them all"; Geirhos et al. 2020, "Beyond accuracy: quantifying
trial-by-trial behaviour of CNNs and humans by measuring error consistency".
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax


def _check_indices(**arrays: jax.Array) -> None:
  """Raises unless all are integer [N] with one N >= 1."""
  shapes = {name: array.shape for name, array in arrays.items()}
  if len(set(shapes.values())) > 1 or any(len(s) != 1 or s[0] == 0 for s in shapes.values()):
    raise ValueError(f"Shapes {shapes}: non-empty [N] of one N are needed.")
  for name, array in arrays.items():
    if not jnp.issubdtype(array.dtype, jnp.integer):
      raise ValueError(f"{name} has dtype {array.dtype}: integer class indices are needed.")


def _check_scores(labels: jax.Array | None = None, **arrays: jax.Array) -> None:
  """Raises unless all are floating [N, K] of one shape, and labels integer [N]."""
  shapes = {name: array.shape for name, array in arrays.items()}
  if len(set(shapes.values())) > 1 or any(len(s) != 2 or 0 in s for s in shapes.values()):
    raise ValueError(f"Shapes {shapes}: non-empty [N, K] of one shape are needed.")
  for name, array in arrays.items():
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(f"{name} has dtype {array.dtype}: a floating-point dtype is needed.")
  if labels is not None:
    _check_indices(labels=labels)
    count = next(iter(shapes.values()))[0]
    if labels.shape[0] != count:
      raise ValueError(f"{labels.shape[0]} labels for {count} predictions: must be equal.")


def _fraction(condition: jax.Array) -> jax.Array:
  return jnp.mean(condition, dtype=jnp.float32)


def accuracy(scores: jax.Array, labels: jax.Array) -> jax.Array:
  """Fraction of examples whose highest score is at the label: `[N, K]`, `[N]` -> [0, 1], 1 = best.

  `scores` are logits or probabilities; of equal highest scores the lowest class counts.
  """
  _check_scores(scores=scores, labels=labels)
  return _fraction(jnp.argmax(scores, axis=-1) == labels)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Mean negative log-likelihood in nats: `mean_i -log softmax(logits_i)[label_i]`; >= 0, 0 = best.

  `logits` `[N, K]`, `labels` `[N]`.
  """
  _check_scores(logits=logits, labels=labels)
  logits = logits.astype(jnp.float32)
  return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels))


def expected_calibration_error(
  probs: jax.Array, labels: jax.Array, *, num_bins: int = 15
) -> jax.Array:
  """Expected calibration error: `sum_b n_b/N |accuracy_b - confidence_b|`.

  The confidence is the highest probability. Bins are of equal width and closed on the right,
  (b/B, (b+1)/B]; the first also holds 0. Guo et al. 2017, "On calibration of modern neural
  networks", Eq. 3.

  Args:
    probs: `[N, K]`, rows summing to 1.
    labels: `[N]`.
    num_bins: B >= 1.

  Returns:
    in [0, 1]; 0 = calibrated.
  """
  _check_scores(probs=probs, labels=labels)
  if num_bins < 1:
    raise ValueError(f"num_bins={num_bins}: 1 or more are needed.")
  probs = probs.astype(jnp.float32)
  confidence = jnp.max(probs, axis=-1)
  excess = (jnp.argmax(probs, axis=-1) == labels) - confidence
  inner_edges = jnp.arange(1, num_bins, dtype=jnp.float32) / num_bins
  bins = jnp.searchsorted(inner_edges, confidence, side="left")
  per_bin = jax.ops.segment_sum(excess, bins, num_segments=num_bins)
  return jnp.sum(jnp.abs(per_bin)) / probs.shape[0]


def _one_right(correct_a: jax.Array, correct_b: jax.Array) -> jax.Array:
  """Fraction expected to be right in exactly one of two independent models of these accuracies.

  `1 - e_exp`, from the rates of right and wrong answers, without the cancellation in 1 - e_exp.
  """
  right_wrong = _fraction(correct_a) * _fraction(~correct_b)
  return right_wrong + _fraction(~correct_a) * _fraction(correct_b)


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
  _check_indices(pred_a=pred_a, pred_b=pred_b, labels=labels)
  correct_a, correct_b = pred_a == labels, pred_b == labels
  return _kappa(_fraction(correct_a != correct_b), _one_right(correct_a, correct_b))


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
  _check_indices(pred_a=pred_a, pred_b=pred_b, labels=labels)
  return _kappa(_fraction(pred_a != pred_b), _one_right(pred_a == labels, pred_b == labels))


def error_inconsistency(pred_a: jax.Array, pred_b: jax.Array, labels: jax.Array) -> jax.Array:
  """Fraction of examples that exactly one of two models gets right; in [0, 1], higher = less alike.

  Gontijo-Lopes et al. 2022, section 4 ("observed error inconsistency").
  """
  _check_indices(pred_a=pred_a, pred_b=pred_b, labels=labels)
  return _fraction((pred_a == labels) != (pred_b == labels))


def label_disagreement(pred_a: jax.Array, pred_b: jax.Array) -> jax.Array:
  """Fraction of examples with different predicted labels; in [0, 1], higher = less alike."""
  _check_indices(pred_a=pred_a, pred_b=pred_b)
  return _fraction(pred_a != pred_b)


def error_disagreement_ratio(
  pred_a: jax.Array, pred_b: jax.Array, labels: jax.Array
) -> jax.Array:
  """Different over identical errors among the examples that both models get wrong.

  Wald et al. 2023, Eq. 17-18.

  Returns:
    >= 0, higher = less alike; 1 = joint errors agree as often as they differ. inf where no joint
    error is identical, nan where there is no joint error.
  """
  _check_indices(pred_a=pred_a, pred_b=pred_b, labels=labels)
  joint_error = (pred_a != labels) & (pred_b != labels)
  same = jnp.sum(joint_error & (pred_a == pred_b), dtype=jnp.float32)
  different = jnp.sum(joint_error, dtype=jnp.float32) - same
  undefined = jnp.where(different > 0, jnp.inf, jnp.nan)
  return jnp.where(same > 0, different / jnp.maximum(same, 1.0), undefined)


def _divergence_from_middle(p: jax.Array, q: jax.Array) -> jax.Array:
  """Elementwise `p log2(p / m)`, m = (p + q) / 2; 0 with a zero gradient where p is 0."""
  positive = p > 0
  # 2p / (p + q) and not p / m: half of the smallest number is 0.
  ratio = jnp.where(positive, 2 * p, 1.0) / jnp.where(positive, p + q, 1.0)
  return jnp.where(positive, p * jnp.log2(ratio), 0.0)


def jensen_shannon_divergence(probs_a: jax.Array, probs_b: jax.Array) -> jax.Array:
  """Mean Jensen-Shannon divergence in bits: `mean_i (D(p_i || m_i) + D(q_i || m_i)) / 2`.

  `m = (p + q) / 2`, D with the logarithm to base 2, 0 log 0 = 0, no square root. Wald et al. 2023,
  Eq. 15-16, which leave the base open; base 2 bounds it by 1.

  Args:
    probs_a: `[N, K]`, rows summing to 1.
    probs_b: `[N, K]`, rows summing to 1.

  Returns:
    in [0, 1]; 0 = the same distributions, 1 = disjoint ones. Gradients are finite: a probability of
    exactly 0 gets none.
  """
  _check_scores(probs_a=probs_a, probs_b=probs_b)
  p, q = probs_a.astype(jnp.float32), probs_b.astype(jnp.float32)
  bits = _divergence_from_middle(p, q) + _divergence_from_middle(q, p)
  divergence = jnp.mean(jnp.sum(bits, axis=-1)) / 2
  # Rounding can step out of [0, 1]; bring the value back, leave the gradient.
  return divergence + jax.lax.stop_gradient(jnp.clip(divergence, 0.0, 1.0) - divergence)


def ensemble_probabilities(logits: jax.Array, rule: str = "probs") -> jax.Array:
  """Class probabilities of an ensemble: `[M, N, K]` logits of its members -> `[N, K]` float32.

  Args:
    logits: `[M, N, K]`, floating point.
    rule: "probs": the mean of the members' softmax (Wald et al. 2023). "logits": the softmax of
      their mean logits (Rosales et al. 2023).
  """
  if logits.ndim != 3 or 0 in logits.shape or not jnp.issubdtype(logits.dtype, jnp.floating):
    raise ValueError(f"logits are {logits.dtype}{logits.shape}: floating [M, N, K] are needed.")
  logits = logits.astype(jnp.float32)
  if rule == "probs":
    return jnp.mean(jax.nn.softmax(logits, axis=-1), axis=0)
  if rule == "logits":
    return jax.nn.softmax(jnp.mean(logits, axis=0), axis=-1)
  raise ValueError(f"rule={rule!r}: allowed are 'probs' and 'logits'.")


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
