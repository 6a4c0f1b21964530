"""Bad input of every output metric: a sentence names the argument, the value, what is allowed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dissim_jax import metrics

M, N, K = 3, 7, 4
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, K, N)
PREDICTIONS = RNG.integers(0, K, (M, N))
LOGITS = RNG.normal(size=(M, N, K)).astype(np.float32)
PROBS = np.asarray(jax.nn.softmax(LOGITS))

PAIRS = (
  metrics.error_consistency,
  metrics.cohens_kappa_label,
  metrics.error_inconsistency,
  metrics.error_disagreement_ratio,
  metrics.q_statistic,
  metrics.error_correlation,
  metrics.double_fault,
)
PROB_PAIRS = (
  metrics.jensen_shannon_divergence,
  metrics.kullback_leibler_divergence,
  metrics.cosine_similarity,
  metrics.confidence_angle,
)
GROUPS = (
  metrics.entropy_measure,
  metrics.kohavi_wolpert_variance,
  metrics.coincident_failure_diversity,
  metrics.all_wrong_fraction,
)
GAINS = (
  metrics.conversion_rate,
  metrics.gain_over_best,
  metrics.gain_over_mean,
  metrics.error_reduction_rate,
)
LABELLED_PROBS = (metrics.expected_calibration_error, metrics.reliability_diagram)
LABELLED_LOGITS = (metrics.accuracy, metrics.cross_entropy, metrics.fit_temperature)
SPECIALISATION = (metrics.specialisation_histogram, metrics.specialisation_by_class)


def changed(array, value, at=-1):
  """The array with one value changed."""
  array = np.array(array)
  array.flat[at] = value
  return array


def raises(message, call, *arguments, **options):
  with pytest.raises(ValueError, match=message) as caught:
    call(*arguments, **options)
  sentence = str(caught.value)
  assert "\n" not in sentence and len(sentence) < 200, sentence


def greedy(logits=LOGITS, labels=LABELS, first=0, size=2, rule="probs"):
  return metrics.greedy_selection(logits, labels, first=first, size=size, rule=rule)


@pytest.mark.parametrize("metric", PAIRS, ids=lambda f: f.__name__)
def test_pairs(metric):
  a, b = PREDICTIONS[:2]
  raises(r"pred_a holds -1: .* 0 or more", metric, changed(a, -1), b, LABELS)
  raises(r"pred_b holds -3", metric, a, changed(b, -3), LABELS)
  raises(r"labels holds -1", metric, a, b, changed(LABELS, -1))
  raises(r"pred_a \(7,\), pred_b \(6,\), labels \(7,\)", metric, a, b[:-1], LABELS)
  raises(r"pred_b has dtype float64", metric, a, b.astype(float), LABELS)
  raises(r"pred_a has shape \(0,\)", metric, a[:0], b[:0], LABELS[:0])
  raises(r"pred_a is a list: an array \[N\]", metric, list(a), b, LABELS)


@pytest.mark.parametrize("metric", PROB_PAIRS, ids=lambda f: f.__name__)
def test_pairs_of_probabilities(metric):
  p, q = PROBS[:2]
  raises(r"probs_a holds -0.5: probabilities are 0 or more", metric, changed(p, -0.5), q)
  raises(r"probs_b\[6\] sums to .*: a row of probabilities sums to 1", metric, p, changed(q, 0.9))
  raises(r"probs_b holds nan", metric, p, changed(q, np.nan, 0))
  raises(r"probs_a holds inf", metric, changed(p, np.inf), q)
  raises(r"probs_a \(7, 4\), probs_b \(7, 3\)", metric, p, q[:, :-1])
  raises(r"probs_a has shape \(7,\): a non-empty \[N, K\]", metric, p[:, 0], q)
  raises(r"probs_a has dtype int", metric, LOGITS[0].astype(int), q)


@pytest.mark.parametrize("metric", SPECIALISATION, ids=lambda f: f.__name__)
def test_specialisation(metric):
  raises(r"labels holds 4: class indices are 0\.\.3", metric, *PROBS[:2], changed(LABELS, K))
  raises(r"labels has shape \(6,\) and probs_a \(7, 4\)", metric, *PROBS[:2], LABELS[1:])
  raises(r"probs_a holds", metric, changed(PROBS[0], -1), PROBS[1], LABELS)
  raises("num_bins=0", metrics.specialisation_histogram, *PROBS[:2], LABELS, num_bins=0)


@pytest.mark.parametrize("metric", GROUPS, ids=lambda f: f.__name__)
def test_groups(metric):
  raises(r"predictions holds -1", metric, changed(PREDICTIONS, -1), LABELS)
  raises(r"labels holds -2", metric, PREDICTIONS, changed(LABELS, -2))
  raises(r"labels has shape \(6,\) and predictions \(3, 7\)", metric, PREDICTIONS, LABELS[1:])
  raises(r"predictions has shape \(7,\): a non-empty \[M, N\]", metric, PREDICTIONS[0], LABELS)
  raises(r"predictions has dtype float", metric, PREDICTIONS * 1.0, LABELS)


@pytest.mark.parametrize("metric", GAINS, ids=lambda f: f.__name__)
def test_gains(metric):
  own = PREDICTIONS[0]
  raises(r"ensemble holds -1", metric, PREDICTIONS, changed(own, -1), LABELS)
  raises(r"ensemble \(6,\), labels \(7,\)", metric, PREDICTIONS, own[1:], LABELS)
  raises(r"ensemble has shape \(6,\) and predictions", metric, PREDICTIONS, own[1:], LABELS[1:])


@pytest.mark.parametrize("metric", LABELLED_PROBS + LABELLED_LOGITS, ids=lambda f: f.__name__)
def test_labelled_scores(metric):
  scores = PROBS[0]
  raises(r"labels holds 4: class indices are 0\.\.3", metric, scores, changed(LABELS, K))
  raises(r"labels holds -1: class indices are 0\.\.3", metric, scores, changed(LABELS, -1))
  raises(r"labels has shape \(6,\) and \w+ \(7, 4\): N must be equal", metric, scores, LABELS[1:])
  raises(r"labels has dtype float64: integer", metric, scores, LABELS * 1.0)
  raises(r"holds nan: neither NaN nor \+inf", metric, changed(scores, np.nan), LABELS)
  raises(r"has shape \(3, 7, 4\): a non-empty \[N, K\]", metric, LOGITS, LABELS)
  if metric in LABELLED_PROBS:
    raises("num_bins=-1: 1 or more", metric, scores, LABELS, num_bins=-1)
    raises(r"probs\[6\] sums to", metric, changed(scores, 0.9), LABELS)


def test_infinite_logits():
  """A class that is ruled out is allowed, except for fitting a temperature."""
  ruled_out = LOGITS[0].copy()
  ruled_out[:, (LABELS + 1) % K] = -np.inf
  ruled_out[np.arange(N), LABELS] = 0
  assert np.isfinite(metrics.cross_entropy(ruled_out, LABELS))
  raises("logits holds -inf: finite", metrics.fit_temperature, ruled_out, LABELS)


def test_equitability():
  call = metrics.shannon_equitability
  raises("predictions holds -1", call, changed(PREDICTIONS, -1))
  raises(r"where has dtype int64: bool", call, PREDICTIONS, LABELS)
  raises(r"where has shape \(6,\) and predictions \(3, 7\)", call, PREDICTIONS, LABELS[1:] > 1)


@pytest.mark.parametrize(
  "call", [metrics.ensemble_probabilities, metrics.ensemble_predictions], ids=lambda f: f.__name__
)
def test_ensembles(call):
  raises(r"rule='medain': choose one of probs, .*did you mean 'median'", call, LOGITS, "medain")
  raises(r"logits has shape \(7, 4\): a non-empty \[M, N, K\]", call, LOGITS[0])
  raises("logits holds nan", call, changed(LOGITS, np.nan))
  raises(r"weights has shape \(2,\) and logits", call, LOGITS, weights=np.ones(2, np.float32))
  raises(r"weights has shape \(\)", call, LOGITS, weights=np.float32(1))
  for bad in ([1, -1, 3], [0, 0, 0], [1, np.nan, 1], [1, np.inf, 1]):
    raises(r"weights holds \[.*not all 0", call, LOGITS, weights=np.array(bad, np.float32))
  raises("key=None: rule 'vote' needs", metrics.ensemble_predictions, LOGITS, "vote")


def test_interpolation():
  a, b = LOGITS[:2]
  favours = np.array([True, False, True, False])
  raises("weight=1.5: 0 to 1", metrics.interpolate, a, b, 1.5)
  raises("weight=nan", metrics.interpolate, a, b, float("nan"))
  raises(r"weight has shape \(2,\): a scalar", metrics.interpolate, a, b, np.ones(2))
  raises(r"logits_a \(7, 4\), logits_b \(6, 4\)", metrics.interpolate, a, b[1:], 0.5)
  by_class = metrics.interpolate_by_class
  raises("weight=-0.1", by_class, a, b, -0.1, favours)
  raises(r"favours_b is bool\(3,\): bool \(4,\)", by_class, a, b, 0.5, favours[1:])
  raises(r"favours_b is int64\(4,\)", by_class, a, b, 0.5, favours.astype(np.int64))


def test_greedy_selection():
  raises(r"first=3: 0\.\.2 is allowed for 3 members", greedy, first=3)
  raises(r"first=-1", greedy, first=-1)
  raises(r"size=4: 1\.\.3", greedy, size=4)
  raises(r"size=0", greedy, size=0)
  raises(r"rule='vot'", greedy, rule="vot")
  raises(r"labels holds 4: class indices are 0\.\.3", greedy, labels=changed(LABELS, K))
  raises(r"labels has shape \(6,\) and logits \(3, 7, 4\)", greedy, labels=LABELS[1:])


def test_pairwise_mean():
  raises("2 or more are needed", metrics.pairwise_mean, metrics.label_disagreement, PREDICTIONS[:1])


def test_values_are_not_asked_for_under_transformations_but_shapes_are():
  wrong = changed(LABELS, -1)
  inside = jax.jit(metrics.error_inconsistency)(PREDICTIONS[0], PREDICTIONS[1], wrong)
  assert 0 <= inside <= 1
  many = jax.vmap(metrics.q_statistic)
  assert many(PREDICTIONS[:2], PREDICTIONS[1:], np.stack([wrong, wrong])).shape == (2,)
  jax.jit(metrics.jensen_shannon_divergence)(LOGITS[0], LOGITS[1])
  raises(r"pred_b \(6,\)", jax.jit(metrics.double_fault), LABELS, LABELS[1:], LABELS)
  # Arrays that are constants of a jitted function are known.
  labels = jnp.asarray(changed(LABELS, K))
  raises(r"labels holds 4", jax.jit(lambda z: metrics.cross_entropy(z, labels)), LOGITS[0])


def test_probabilities_rounded_to_bfloat16_are_probabilities():
  coarse = jnp.asarray(PROBS[0], jnp.bfloat16)
  assert np.isfinite(metrics.jensen_shannon_divergence(coarse, coarse))
  assert np.isfinite(metrics.expected_calibration_error(PROBS[0].astype(np.float16), LABELS))
