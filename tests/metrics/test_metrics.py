"""Output metrics against scikit-learn, SciPy and float64 loops."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from sklearn import metrics as sk

from dissim_jax import metrics

N, K = 97, 5
calibration_error = jax.jit(metrics.expected_calibration_error, static_argnames="num_bins")


@pytest.fixture
def rng():
  return np.random.default_rng(3)


@pytest.fixture
def data(rng):
  """Logits of three models that share some of their errors, and labels."""
  labels = rng.integers(0, K, N)
  shared = rng.normal(size=(N, K)) + 1.5 * np.eye(K)[labels]
  logits = shared + rng.normal(size=(3, N, K))
  return logits.astype(np.float32), labels


def assert_close(actual, desired, rtol=1e-5):
  np.testing.assert_allclose(np.asarray(actual), desired, rtol=rtol, atol=1e-7)


def test_scores_agree_with_scikit_learn(data):
  logits, labels = data
  probs = softmax(logits[0].astype(np.float64), axis=-1)
  coarse = logits[0].astype(jnp.bfloat16)
  accuracies, cross_entropies = jax.jit(
    lambda given, probs, coarse, labels: (
      [metrics.accuracy(scores, labels) for scores in (given, probs)],
      [metrics.cross_entropy(scores, labels) for scores in (given, coarse)],
    )
  )(logits[0], probs, coarse, labels)
  assert_close(accuracies, [sk.accuracy_score(labels, probs.argmax(-1))] * 2)
  assert_close(cross_entropies[0], sk.log_loss(labels, probs))
  # bfloat16 logits are summed in float32.
  expected = sk.log_loss(labels, softmax(coarse.astype(np.float64), axis=-1))
  assert cross_entropies[1].dtype == jnp.float32
  assert_close(cross_entropies[1], expected)


def calibration_loop(probs, labels, num_bins):
  total = 0.0
  confidence, correct = probs.max(-1), probs.argmax(-1) == labels
  for b in range(num_bins):
    low, high = np.float32(b / num_bins), np.float32((b + 1) / num_bins)
    inside = (confidence > low) & (confidence <= high) | ((b == 0) & (confidence == 0))
    if inside.any():
      total += inside.sum() / len(labels) * abs(correct[inside].mean() - confidence[inside].mean())
  return total


@pytest.mark.parametrize("num_bins", [1, 4, 15])
def test_calibration_error_agrees_with_a_loop(data, num_bins):
  logits, labels = data
  probs = softmax(logits[1], axis=-1)
  actual = calibration_error(probs, labels, num_bins=num_bins)
  assert_close(actual, calibration_loop(probs, labels, num_bins))


def test_calibration_bins_are_closed_on_the_right():
  # Confidences of 0.5 (right) and 0.4 (wrong) share the bin (0, 0.5]; 0.6 (right) does not.
  confidence = np.array([0.5, 0.4, 0.6])
  probs = np.stack([confidence, (1 - confidence) / 2, (1 - confidence) / 2], -1).astype(np.float32)
  labels = np.array([0, 1, 0])
  actual = calibration_error(probs, labels, num_bins=2)
  assert_close(actual, (abs(1 - 0.9) + abs(1 - 0.6)) / 3)
  # Every edge k/15 belongs to the bin below it.
  edges = np.arange(1, 16, dtype=np.float32) / np.float32(15)
  probs = np.concatenate([edges[:, None], np.repeat((1 - edges[:, None]) / 15, 15, -1)], -1)
  right = np.arange(15) % 2
  actual = calibration_error(probs, 1 - right)
  assert_close(actual, calibration_loop(probs, 1 - right, 15))


def test_perfect_calibration_and_certainty():
  probs, labels = np.eye(K, dtype=np.float32)[[0, 3, 1]], np.array([0, 3, 1])
  assert metrics.expected_calibration_error(probs, labels) == 0
  assert calibration_error(probs, (labels + 1) % K) == 1


def test_pair_metrics_agree_with_their_definitions(data):
  logits, labels = data
  a, b = logits[0].argmax(-1), logits[1].argmax(-1)
  right_a, right_b = a == labels, b == labels
  p_a, p_b = right_a.mean(), right_b.mean()
  expected_agreement = p_a * p_b + (1 - p_a) * (1 - p_b)
  label_kappa = ((a == b).mean() - expected_agreement) / (1 - expected_agreement)
  joint = ~right_a & ~right_b
  assert 0 < (joint & (a == b)).sum() < joint.sum()

  assert_close(metrics.error_consistency(a, b, labels), sk.cohen_kappa_score(right_a, right_b))
  assert_close(metrics.cohens_kappa_label(a, b, labels), label_kappa)
  assert_close(metrics.error_inconsistency(a, b, labels), sk.zero_one_loss(right_a, right_b))
  assert_close(metrics.label_disagreement(a, b), sk.zero_one_loss(a, b))
  ratio = (a[joint] != b[joint]).sum() / (a[joint] == b[joint]).sum()
  assert_close(metrics.error_disagreement_ratio(a, b, labels), ratio)


def test_kappas_of_very_accurate_models_keep_their_digits():
  n = 50_000
  labels, a, b = np.zeros(n, int), np.zeros(n, int), np.zeros(n, int)
  a[:3], b[1:4] = 1, 1
  expected = sk.cohen_kappa_score(a == labels, b == labels)
  assert_close(metrics.error_consistency(a, b, labels), expected)


def test_pair_metrics_at_their_ends():
  labels = np.array([0, 1, 2, 3])
  wrong, otherwise = (labels + 1) % K, (labels + 2) % K
  half, other_half = np.array([0, 1, 0, 0]), np.array([1, 0, 2, 3])
  one = np.array([0, 1, 2, 0])
  for kappa in (metrics.error_consistency, metrics.cohens_kappa_label):
    assert np.isnan(kappa(labels, labels, labels))
    assert np.isnan(kappa(wrong, wrong, labels))
    assert np.isnan(kappa(wrong, otherwise, labels))
    assert kappa(half, half, labels) == 1
    assert kappa(half, other_half, labels) == -1
    assert kappa(labels, half, labels) == 0
  assert metrics.error_inconsistency(half, other_half, labels) == 1
  assert metrics.error_inconsistency(wrong, otherwise, labels) == 0
  assert metrics.label_disagreement(wrong, otherwise) == 1
  assert np.isinf(metrics.error_disagreement_ratio(wrong, otherwise, labels))
  assert metrics.error_disagreement_ratio(wrong, wrong, labels) == 0
  assert np.isnan(metrics.error_disagreement_ratio(one, labels, labels))


def test_jensen_shannon_agrees_with_scipy(data):
  logits, _ = data
  p, q = softmax(3 * logits[0], axis=-1), softmax(3 * logits[1], axis=-1)
  p[:9, 2], q[4:, 1] = 0, 0
  p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
  expected = np.mean(jensenshannon(p.astype(float), q.astype(float), base=2, axis=-1) ** 2)
  assert_close(metrics.jensen_shannon_divergence(p, q), expected)
  assert_close(metrics.jensen_shannon_divergence(q, p), expected)
  assert metrics.jensen_shannon_divergence(p, p) == 0
  certain = np.eye(K, dtype=np.float32)
  assert metrics.jensen_shannon_divergence(certain, np.roll(certain, 1, 0)) == 1


def test_jensen_shannon_gradients(data):
  logits, _ = data
  divergence = jax.jit(metrics.jensen_shannon_divergence)

  @jax.jit
  def of_logits(a, b):
    return divergence(jax.nn.softmax(a), jax.nn.softmax(b))

  check_grads(
    of_logits, tuple(logits[:2, :6]), order=1, modes=["rev"], eps=1e-2, atol=1e-3, rtol=1e-3
  )
  certain = np.eye(K, dtype=np.float32)
  gradient = jax.jit(jax.value_and_grad(divergence, argnums=(0, 1)))
  tiny = np.zeros((K, K), np.float32)
  tiny[:, 1], tiny[0, 0] = 1, 1e-45
  other = tiny[:, [1, 0, 2, 3, 4]]
  for a, b in ((certain, certain), (certain, certain[::-1]), (tiny, other), (tiny, tiny)):
    value, gradients = gradient(a, b)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)


def test_ensemble_rules(data):
  logits, labels = data
  probs = softmax(logits.astype(float), axis=-1).mean(0)
  assert_close(metrics.ensemble_probabilities(logits), probs)
  geometric = softmax(logits.astype(float).mean(0), axis=-1)
  assert_close(metrics.ensemble_probabilities(logits, "logits"), geometric)
  assert np.abs(probs - geometric).max() > 0.01
  with pytest.raises(ValueError, match="rule='votes': choose one of probs, .*did you mean 'vote'"):
    metrics.ensemble_probabilities(logits, "votes")


def test_pairwise_mean_under_jit(data):
  logits, labels = data
  predictions = logits.argmax(-1)
  pairs = itertools.combinations(predictions, 2)
  expected = np.mean([sk.cohen_kappa_score(a == labels, b == labels) for a, b in pairs])
  mean = jax.jit(lambda p, y: metrics.pairwise_mean(metrics.error_consistency, p, y))
  assert_close(mean(predictions, labels), expected)
  with pytest.raises(ValueError, match="2 or more"):
    metrics.pairwise_mean(metrics.label_disagreement, predictions[:1])


def test_vmap_over_models(data):
  logits, labels = data
  predictions = logits.argmax(-1)
  many = jax.vmap(metrics.error_disagreement_ratio, in_axes=(0, None, None))
  actual = many(predictions[1:], predictions[0], labels)
  expected = [metrics.error_disagreement_ratio(p, predictions[0], labels) for p in predictions[1:]]
  assert_close(actual, np.asarray(expected))
