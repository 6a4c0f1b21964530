"""Identities that hold for all predictions, on drawn ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dissim_jax import metrics

M, N, K = 3, 12, 4
# Drawing arrays is slow on a busy machine, which says nothing of what is tested.
quick = settings(
  deadline=None,
  max_examples=50,
  derandomize=True,
  database=None,
  suppress_health_check=[HealthCheck.too_slow],
)
labels_of = hnp.arrays(np.int32, N, elements=st.integers(0, K - 1))
members_of = hnp.arrays(np.int32, (M, N), elements=st.integers(0, K - 1))
# Thousandths: neither subnormal numbers nor differences that rounding swallows.
logits_of = hnp.arrays(np.int32, (M, N, K), elements=st.integers(-30_000, 30_000)).map(
  lambda thousandths: (thousandths / 1000).astype(np.float32)
)
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@jax.jit
def pair_values(predictions, labels):
  a, b = predictions[:2]
  right_a, right_b = a == labels, b == labels
  return {
    "inconsistency": metrics.error_inconsistency(a, b, labels),
    "p_a": jnp.mean(right_a),
    "p_b": jnp.mean(right_b),
    "p_ab": jnp.mean(right_a & right_b),
    "self": jnp.stack(
      [
        metrics.error_consistency(a, a, labels),
        metrics.cohens_kappa_label(a, a, labels),
        metrics.error_correlation(a, a, labels),
        metrics.q_statistic(a, a, labels),
      ]
    ),
    "correlation": metrics.error_correlation(a, b, labels),
    "q": metrics.q_statistic(a, b, labels),
    "double_fault": metrics.double_fault(a, b, labels),
    "variance": metrics.kohavi_wolpert_variance(predictions, labels),
    "mean_inconsistency": metrics.pairwise_mean(metrics.error_inconsistency, predictions, labels),
  }


@quick
@given(members_of, labels_of)
def test_errors_of_pairs(predictions, labels):
  v = jax.device_get(pair_values(predictions, labels))
  close(v["inconsistency"], v["p_a"] + v["p_b"] - 2 * v["p_ab"])
  close(v["double_fault"], 1 - v["p_a"] - v["p_b"] + v["p_ab"])
  if 0 < v["p_a"] < 1:
    close(v["self"], 1)
  else:
    assert np.isnan(v["self"][[0, 2, 3]]).all()
  if np.isfinite(v["correlation"]) and np.isfinite(v["q"]):
    # K&W: both have one sign, and |correlation| <= |Q|.
    assert v["correlation"] * v["q"] >= -1e-6
    assert abs(v["correlation"]) <= abs(v["q"]) + 1e-5
  close(v["variance"], (M - 1) / (2 * M) * v["mean_inconsistency"])


@jax.jit
def group_values(predictions, labels):
  counted = (
    metrics.entropy_measure,
    metrics.kohavi_wolpert_variance,
    metrics.coincident_failure_diversity,
    metrics.all_wrong_fraction,
  )
  return {
    **{metric.__name__: metric(predictions, labels) for metric in counted},
    "shannon": metrics.shannon_equitability(predictions),
  }


@quick
@given(members_of, labels_of, st.permutations(range(M)), st.permutations(range(K)))
def test_groups_do_not_know_the_order_of_members_nor_the_names_of_classes(
  predictions, labels, order, names
):
  values = group_values(predictions, labels)
  moved = group_values(predictions[np.array(order)], labels)
  renamed = np.array(names, np.int32)
  named = group_values(renamed[predictions], renamed[labels])
  for name, value in values.items():
    close(moved[name], value), close(named[name], value)
    assert 0 <= value <= 1 + 1e-6


@functools.partial(jax.jit, static_argnames="rule")
def probabilities(logits, rule):
  return metrics.ensemble_probabilities(logits, rule)


@quick
@given(logits_of, st.permutations(range(M)))
def test_ensembles(logits, order):
  alone = np.asarray(jax.nn.softmax(logits[0]))
  votes = np.eye(K)[logits[0].argmax(-1)]
  for rule in metrics.RULES:
    ensemble = probabilities(logits, rule)
    close(probabilities(logits[np.array(order)], rule), ensemble)
    close(np.sum(ensemble, -1), 1)
    same = probabilities(np.repeat(logits[:1], M, axis=0), rule)
    close(same, votes if rule == "vote" else alone)
  # The geometric mean of probabilities is the mean of their logarithms, and of the logits.
  close(probabilities(logits, "geometric"), probabilities(logits, "logits"))
  mean_log = jnp.mean(jax.nn.log_softmax(logits), axis=0)
  close(probabilities(logits, "geometric"), jax.nn.softmax(mean_log))


@jax.jit
def divergences(logits):
  p, q = jax.nn.softmax(logits[0]), jax.nn.softmax(logits[1])
  symmetric = (metrics.jensen_shannon_divergence, metrics.cosine_similarity)
  return {
    "there": jnp.stack([metric(p, q) for metric in symmetric]),
    "back": jnp.stack([metric(q, p) for metric in symmetric]),
    "kl": jnp.stack(
      [metrics.kullback_leibler_divergence(p, q), metrics.kullback_leibler_divergence(q, p)]
    ),
    "angle": metrics.confidence_angle(p, q),
    "opposite": metrics.confidence_angle(q, p),
    "self": jnp.stack(
      [
        metrics.jensen_shannon_divergence(p, p),
        metrics.kullback_leibler_divergence(p, p),
        1 - metrics.cosine_similarity(p, p),
      ]
    ),
  }


@quick
@given(logits_of)
def test_distributions(logits):
  v = divergences(logits)
  close(v["there"], v["back"])
  assert ((v["there"] >= 0) & (v["there"] <= 1)).all()
  # The divergence from the middle is at most half of the one from the other (convexity).
  assert (v["kl"] >= 0).all()
  assert v["there"][0] <= v["kl"].sum() / 4 + 1e-5
  close(v["angle"], -v["opposite"])
  assert (np.abs(v["angle"]) < np.pi / 4).all()
  close(v["self"], 0)


@jax.jit
def tempered(logits, labels):
  temperature = metrics.fit_temperature(logits, labels)
  return (
    temperature,
    metrics.accuracy(logits, labels),
    metrics.accuracy(logits / temperature, labels),
    metrics.cross_entropy(logits, labels),
    metrics.cross_entropy(logits / temperature, labels),
  )


@quick
@given(logits_of, labels_of)
def test_temperature_leaves_the_accuracy_and_lowers_the_cross_entropy(logits, labels):
  temperature, before, after, loss, calibrated = tempered(logits[0], labels)
  assert metrics.LOWEST_TEMPERATURE <= temperature * 1.0001
  assert temperature <= metrics.HIGHEST_TEMPERATURE * 1.0001
  assert after == before
  assert calibrated <= loss * (1 + 1e-5) + 1e-5
