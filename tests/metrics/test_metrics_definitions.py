"""Every output metric against its definition, written out in float64, in ordinary and odd cases."""

import functools
import itertools

import jax
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import entropy, gmean
from sklearn.metrics import confusion_matrix, matthews_corrcoef
from sklearn.metrics.pairwise import paired_cosine_distances

from dissim_jax import metrics

M, N, K = 3, 61, 5
NUM_BINS = 7


def random_logits(seed, members=M, examples=N, classes=K, scale=1.0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, classes, examples)
  logits = rng.normal(size=(members, examples, classes)) + 1.2 * np.eye(classes)[labels]
  return (scale * logits).astype(np.float32), labels


def perfect():
  logits, labels = random_logits(1)
  return logits + 20 * np.eye(K, dtype=np.float32)[labels], labels


def same_errors():
  """All members err on the same examples, with the same classes."""
  logits, labels = random_logits(2)
  wanted = np.where(np.arange(N) % 3 == 0, (labels + 1) % K, labels)
  return logits + 20 * np.eye(K, dtype=np.float32)[wanted], labels


def unpredicted_class():
  logits, labels = random_logits(3)
  logits[..., 2] -= 20
  return logits, labels


def absent_class():
  """A class that no example has, but is predicted."""
  logits, labels = random_logits(4)
  return logits, np.where(labels == 4, 1, labels)


SCENARIOS = {
  "random": lambda: random_logits(0),
  "perfect": perfect,
  "same_errors": same_errors,
  "unpredicted_class": unpredicted_class,
  "absent_class": absent_class,
  "logits_of_1e4": lambda: random_logits(5, scale=1e4),
  "four_members": lambda: random_logits(6, members=4),
  "one_member": lambda: random_logits(7, members=1),
  "two_classes": lambda: random_logits(8, classes=2),
  "one_example": lambda: random_logits(9, examples=1),
  "one_example_right": lambda: (random_logits(9, examples=1)[0], np.array([1])),
}


def as_probs(logits):
  """Float32 probabilities: what the functions get, and exactly what the oracle gets."""
  return softmax(logits.astype(np.float64), axis=-1).astype(np.float32)


@jax.jit
def pairs(a, b, labels, probs_a, probs_b):
  of_predictions = (
    metrics.error_consistency,
    metrics.error_inconsistency,
    metrics.error_disagreement_ratio,
    metrics.q_statistic,
    metrics.error_correlation,
    metrics.double_fault,
  )
  of_probs = (
    metrics.kullback_leibler_divergence,
    metrics.jensen_shannon_divergence,
    metrics.cosine_similarity,
  )
  values = {metric.__name__: metric(a, b, labels) for metric in of_predictions}
  return values | {metric.__name__: metric(probs_a, probs_b) for metric in of_probs}


def expected_pairs(a, b, labels, p, q):
  right_a, right_b = a == labels, b == labels
  (n00, n01), (n10, n11) = confusion_matrix(right_a, right_b, labels=[False, True])
  n = len(labels)
  p_a, p_b = right_a.mean(), right_b.mean()
  chance = p_a * p_b + (1 - p_a) * (1 - p_b)
  joint = ~right_a & ~right_b
  vary = 0 < p_a < 1 and 0 < p_b < 1
  p, q = p.astype(np.float64), q.astype(np.float64)
  middle = (p + q) / 2
  with np.errstate(divide="ignore", invalid="ignore"):
    return {
      "error_consistency": np.float64((n11 + n00) / n - chance) / (1 - chance),
      "error_inconsistency": (n10 + n01) / n,
      "error_disagreement_ratio": (joint & (a != b)).sum() / np.float64((joint & (a == b)).sum()),
      "q_statistic": np.float64(n11 * n00 - n01 * n10) / (n11 * n00 + n01 * n10),
      "error_correlation": matthews_corrcoef(right_a, right_b) if vary else np.nan,
      "double_fault": n00 / n,
      "kullback_leibler_divergence": entropy(p, q, base=2, axis=-1).mean(),
      "jensen_shannon_divergence": np.mean(
        [entropy(p, middle, base=2, axis=-1), entropy(q, middle, base=2, axis=-1)]
      ),
      "cosine_similarity": np.mean(1 - paired_cosine_distances(p, q)),
    }


@jax.jit
def groups(predictions, ensemble, labels, where):
  of_labels = (
    metrics.entropy_measure,
    metrics.kohavi_wolpert_variance,
    metrics.coincident_failure_diversity,
    metrics.all_wrong_fraction,
  )
  of_ensemble = (
    metrics.conversion_rate,
    metrics.gain_over_best,
    metrics.gain_over_mean,
    metrics.error_reduction_rate,
  )
  values = {metric.__name__: metric(predictions, labels) for metric in of_labels}
  values |= {metric.__name__: metric(predictions, ensemble, labels) for metric in of_ensemble}
  values["shannon_equitability"] = metrics.shannon_equitability(predictions)
  values["shannon_where"] = metrics.shannon_equitability(predictions, where)
  return values


def expected_groups(predictions, ensemble, labels, where):
  members, n = predictions.shape
  right = [[int(predictions[m, i] == labels[i]) for m in range(members)] for i in range(n)]
  counts = [sum(row) for row in right]
  # p[i]: the share of examples that exactly i members get wrong.
  p = [sum(members - c == i for c in counts) / n for i in range(members + 1)]
  failures = (
    sum((members - i) / (members - 1) * p[i] for i in range(1, members + 1)) if members > 1 else 0.0
  )
  species = [np.bincount(predictions[:, i]) / members for i in range(n)]
  evenness = np.array([entropy(share) for share in species])
  evenness = evenness / np.log(members) if members > 1 else np.full(n, np.nan)
  halves = members - int(np.ceil(members / 2))
  contested = [i for i in range(n) if 0 < counts[i] < members]
  error = np.mean(ensemble != labels)
  errors = [np.mean(own != labels) for own in predictions]
  return {
    "entropy_measure": np.mean([min(c, members - c) for c in counts]) / halves
    if halves
    else np.nan,
    "kohavi_wolpert_variance": np.mean([c * (members - c) for c in counts]) / members**2,
    "coincident_failure_diversity": failures / (1 - p[0]) if p[0] < 1 else 0.0,
    "all_wrong_fraction": p[members],
    "conversion_rate": np.mean([ensemble[i] == labels[i] for i in contested])
    if contested
    else np.nan,
    "gain_over_best": min(errors) - error,
    "gain_over_mean": np.mean(errors) - error,
    "error_reduction_rate": 1 - error / np.mean(errors) if np.mean(errors) > 0 else np.nan,
    "shannon_equitability": evenness.mean(),
    "shannon_where": evenness[where].mean() if where.any() else np.nan,
  }


@jax.jit
def combined(logits, weights):
  """By rule, without weights and with them: in one program, which is compiled once a shape."""
  return {
    rule: [metrics.ensemble_probabilities(logits, rule, own) for own in (None, weights)]
    for rule in metrics.RULES
  }


@functools.cache
def combined_members(name):
  logits, _ = SCENARIOS[name]()
  return jax.device_get(combined(logits, np.arange(1, len(logits) + 1, dtype=np.float32)))


def expected_probabilities(logits, rule):
  probs = softmax(logits.astype(np.float64), axis=-1)
  if rule == "logits":
    return softmax(logits.astype(np.float64).mean(0), axis=-1)
  if rule == "vote":
    votes = logits.argmax(-1)
    return np.stack([(votes == k).mean(0) for k in range(logits.shape[-1])], -1)
  with np.errstate(divide="ignore", invalid="ignore"):
    combine = {"probs": np.mean, "median": np.median, "geometric": gmean}[rule](probs, axis=0)
    return combine / combine.sum(-1, keepdims=True)


losses = jax.jit(jax.vmap(metrics.cross_entropy, in_axes=(0, None)))


def test_cross_entropy(scenario):
  logits, labels = scenario
  # Softmax does not know the offset; logits that it rounds are the same for the oracle.
  for given in (logits, (logits + np.float32(1e4)).astype(np.float32)):
    scores = log_softmax(given.astype(np.float64), axis=-1)
    expected = -scores[:, np.arange(len(labels)), labels].mean(-1)
    np.testing.assert_allclose(losses(given, labels), expected, rtol=1e-5, atol=1e-6)


@jax.jit
def calibrations(probs_a, probs_b, labels):
  return (
    metrics.reliability_diagram(probs_a, labels, num_bins=NUM_BINS),
    metrics.confidence_angle(probs_a, probs_b),
    metrics.specialisation_histogram(probs_a, probs_b, labels, num_bins=NUM_BINS),
    metrics.specialisation_by_class(probs_a, probs_b, labels),
    metrics.expected_calibration_error(probs_a, labels, num_bins=NUM_BINS),
  )


def assert_same(actual, expected):
  assert set(actual) == set(expected)
  for name in expected:
    np.testing.assert_allclose(
      actual[name], expected[name], rtol=2e-5, atol=2e-6, equal_nan=True, err_msg=name
    )
    assert actual[name].dtype == np.float32 and actual[name].shape == (), name


@pytest.fixture(params=SCENARIOS)
def scenario(request):
  return SCENARIOS[request.param]()


def test_pairs(scenario):
  logits, labels = scenario
  probs, predictions = as_probs(logits), logits.argmax(-1)
  for i, j in ((0, -1), (-1, 0), (0, 0)):
    arguments = predictions[i], predictions[j], labels, probs[i], probs[j]
    assert_same(pairs(*arguments), expected_pairs(*arguments))


def test_groups(scenario):
  logits, labels = scenario
  predictions = logits.argmax(-1)
  ensemble = expected_probabilities(logits, "probs").argmax(-1)
  for where in (ensemble == labels, ensemble != labels):
    arguments = predictions, ensemble, labels, where
    assert_same(groups(*arguments), expected_groups(*arguments))


@pytest.mark.parametrize("rule", metrics.RULES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_ensemble_probabilities(name, rule):
  logits, _ = SCENARIOS[name]()
  actual = combined_members(name)[rule]
  repeated = np.repeat(logits, np.arange(1, len(logits) + 1), axis=0)
  for probs, members in zip(actual, (logits, repeated), strict=True):
    expected = expected_probabilities(members, rule)
    # Medians that are all 0 in float64 divide to nothing there.
    defined = np.isfinite(expected).all(-1)
    # A logit of 1e4 has but three decimals.
    rounding = 1e-6 if np.abs(logits).max() < 1e3 else 2e-2
    np.testing.assert_allclose(probs[defined], expected[defined], rtol=1e-4, atol=rounding)
    np.testing.assert_allclose(np.sum(probs, -1), 1.0, rtol=1e-5)
    assert np.min(probs) >= 0


def test_calibration_and_specialisation(scenario):
  logits, labels = scenario
  a, b = as_probs(logits)[[0, -1]]
  diagram, angle, histogram, by_class, error = calibrations(a, b, labels)
  confidence, right = a.max(-1), a.argmax(-1) == labels
  edges = np.arange(NUM_BINS + 1, dtype=np.float32) / np.float32(NUM_BINS)
  np.testing.assert_array_equal(diagram.edges, edges)
  for i in range(NUM_BINS):
    inside = (confidence > edges[i]) & (confidence <= edges[i + 1])
    assert diagram.count[i] == inside.sum()
    means = [values[inside].mean() if inside.any() else np.nan for values in (confidence, right)]
    np.testing.assert_allclose((diagram.confidence[i], diagram.accuracy[i]), means, rtol=1e-5)
  gaps = np.asarray(diagram.count) / len(labels) * np.abs(diagram.accuracy - diagram.confidence)
  np.testing.assert_allclose(np.nansum(gaps), error, atol=1e-6)

  expected = np.pi / 4 - np.arctan2(b.max(-1), a.max(-1).astype(np.float64))
  np.testing.assert_allclose(angle, expected, atol=1e-6)
  right_b = b.argmax(-1) == labels
  for name, chosen in {
    "both_right": right & right_b,
    "only_a": right & ~right_b,
    "only_b": ~right & right_b,
    "neither": ~right & ~right_b,
  }.items():
    counts, _ = np.histogram(np.asarray(angle)[chosen], np.asarray(histogram.edges))
    np.testing.assert_array_equal(getattr(histogram, name), counts, err_msg=name)
  means = [
    expected[labels == k].mean() if (labels == k).any() else np.nan for k in range(a.shape[-1])
  ]
  np.testing.assert_allclose(by_class, means, atol=1e-6)


def test_values_that_are_known_beforehand():
  labels = np.array([0, 1, 2, 3])
  wrong = (labels + 1) % 4
  half, other = np.where(labels < 2, labels, wrong), np.where(labels >= 2, labels, wrong)
  two, same = np.stack([half, other]), np.stack([half, half])
  right, split = np.stack([labels, labels]), np.stack([labels, wrong])
  certain, even = np.array([[1.0, 0.0]], np.float32), np.array([[0.5, 0.5]], np.float32)

  @jax.jit  # All in one program, which compiles faster than each operation by itself.
  def values():
    return [
      (metrics.q_statistic(half, half, labels), 1),
      (metrics.q_statistic(half, other, labels), -1),
      (metrics.error_correlation(half, other, labels), -1),
      (metrics.q_statistic(labels, half, labels), np.nan),
      (metrics.error_correlation(labels, half, labels), np.nan),
      (metrics.entropy_measure(two, labels), 1),
      (metrics.kohavi_wolpert_variance(two, labels), 0.25),
      (metrics.coincident_failure_diversity(two, labels), 1),
      (metrics.coincident_failure_diversity(same, labels), 0),
      (metrics.coincident_failure_diversity(half[None], labels), 0),
      (metrics.entropy_measure(half[None], labels), np.nan),
      (metrics.shannon_equitability(split), 1),
      (metrics.shannon_equitability(right), 0),
      (metrics.conversion_rate(two, labels, labels), 1),
      (metrics.conversion_rate(two, half, labels), 0.5),
      (metrics.error_reduction_rate(two, labels, labels), 1),
      (metrics.kullback_leibler_divergence(certain, even), 1),
      (metrics.kullback_leibler_divergence(even, certain), np.inf),
      (metrics.kullback_leibler_divergence(certain, certain), 0),
      (metrics.cosine_similarity(certain, certain[:, ::-1]), 0),
    ]

  found, expected = np.transpose(values())
  np.testing.assert_array_equal(found, expected)
  # Three members and many classes: ln of the number of members, not of classes.
  np.testing.assert_allclose(metrics.shannon_equitability(np.array([[7], [600], [999]])), 1.0)
  assert metrics.confidence_angle(certain, even)[0] > 0 > metrics.confidence_angle(even, certain)[0]


def test_divergence_gradients_are_finite_at_certainty():
  certain = np.eye(K, dtype=np.float32)
  soft = as_probs(random_logits(0)[0][0][:K])
  for metric in (metrics.kullback_leibler_divergence, metrics.cosine_similarity):
    gradient = jax.jit(jax.grad(metric, argnums=(0, 1)))
    for a, b in ((certain, soft), (soft, soft)):
      assert all(np.isfinite(g).all() for g in gradient(a, b))


def test_everything_maps_over_a_batch_of_models():
  predictions = np.stack([random_logits(s)[0].argmax(-1) for s in range(2)])
  labels = random_logits(0)[1]
  first, second = np.array(list(itertools.combinations(range(M), 2))).T

  @jax.jit
  def values(predictions):
    group = jax.vmap(metrics.entropy_measure, in_axes=(0, None))(predictions, labels)
    q = jax.vmap(metrics.q_statistic, in_axes=(0, 0, None))
    actual = q(predictions[0][first], predictions[0][second], labels)
    mean = metrics.pairwise_mean(metrics.q_statistic, predictions[0], labels)
    return group, [metrics.entropy_measure(p, labels) for p in predictions], actual, mean

  group, expected, actual, mean = jax.device_get(values(predictions))
  np.testing.assert_allclose(group, np.array(expected))
  np.testing.assert_allclose(np.mean(actual), mean, rtol=1e-6)


def test_shares_of_all_examples_are_exactly_one():
  # In float32 83 * (1 / 83) is less than 1.
  labels = np.zeros(83, int)
  assert metrics.accuracy(np.eye(2, dtype=np.float32)[labels], labels) == 1
  assert jax.jit(metrics.label_disagreement)(labels, labels + 1) == 1
  assert jax.jit(metrics.shannon_equitability)(np.zeros((83, 2), int)) == 0
