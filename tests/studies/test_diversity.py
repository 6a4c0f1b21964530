"""Diversity, consensus, calibration, specialisation and selection of members, from saved logits."""

import json

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from sklearn.metrics import cohen_kappa_score

from dissim_jax import metrics
from dissim_jax.studies.outputs import diversity as diversity_lib
from dissim_jax.studies.outputs import ensembles

N, V, K, BINS = 149, 67, 5, 9
NAMES = ["a", "b", "c", "d"]
SEQUENCES = {"baseline": ["a", "c", "d"], "dissimilar": ["d", "b", "c"], "alone": ["b"]}
# What divides the members' logits: how overconfident they are.
SCALES = np.float32([0.5, 1.0, 3.0, 8.0])


def split(rng, count):
  labels = rng.integers(0, K, count)
  logits = rng.normal(size=(4, count, K)) + 1.5 * np.eye(K)[labels]
  # b knows class 3 better than all, and a class 0.
  logits[1] += 2 * np.eye(K)[labels] * (labels == 3)[:, None]
  logits[0] += 2 * np.eye(K)[labels] * (labels == 0)[:, None]
  # d is as good as b on class 2.
  logits[3, labels == 2] = logits[1, labels == 2]
  return (logits * SCALES[:, None, None]).astype(np.float32), labels


@pytest.fixture(scope="module")
def data():
  rng = np.random.default_rng(4)
  return *split(rng, N), *split(rng, V)


def run(data, bins=BINS, seed=0):
  return diversity_lib.diversity(NAMES, SEQUENCES, *data, bins=bins, seed=seed)


@pytest.fixture(scope="module")
def result(data):
  return run(data)


def order_of(sequence):
  return [NAMES.index(name) for name in SEQUENCES[sequence]]


def test_layout(result):
  assert json.loads(json.dumps(result, allow_nan=False)) == result
  assert list(result) == ["num_test", "num_validation", "rules", "members", "sequences", "greedy"]
  assert (result["num_test"], result["num_validation"]) == (N, V)
  assert result["rules"] == ["probs", "logits", "median", "geometric", "vote"]
  member_keys = {"accuracy", "cross_entropy", "expected_calibration_error", "reliability"}
  assert list(result["members"]) == NAMES
  for member in result["members"].values():
    assert set(member) == {"temperature", "uncalibrated", "calibrated"}
    assert set(member["uncalibrated"]) == set(member["calibrated"]) == member_keys
    reliability = member["calibrated"]["reliability"]
    assert {name: len(values) for name, values in reliability.items()} == {
      "edges": BINS + 1,
      "count": BINS,
      "confidence": BINS,
      "accuracy": BINS,
    }
    assert sum(reliability["count"]) == N
  for name, sequence in result["sequences"].items():
    assert sequence["members"] == SEQUENCES[name]
    for state in ("uncalibrated", "calibrated"):
      block = sequence[state]
      assert set(block) == {"diversity", "ensembles"}
      assert set(block["diversity"]) == {
        "error_consistency",
        "cohens_kappa_label",
        "error_inconsistency",
        "error_disagreement_ratio",
        "q_statistic",
        "error_correlation",
        "double_fault",
        "label_disagreement",
        "jensen_shannon_divergence",
        "kullback_leibler_divergence",
        "cosine_similarity",
        "entropy_measure",
        "kohavi_wolpert_variance",
        "coincident_failure_diversity",
        "shannon_equitability",
        "shannon_equitability_right",
        "shannon_equitability_wrong",
        "all_wrong_fraction",
      }
      assert set(block["ensembles"]) == set(result["rules"])
      for ensemble in block["ensembles"].values():
        assert set(ensemble) == member_keys | {
          "gain_over_best",
          "gain_over_mean",
          "error_reduction_rate",
          "conversion_rate",
        }
  alone = result["sequences"]["alone"]
  assert alone["interpolation"] is None and alone["specialisation"] is None
  assert alone["calibrated"]["diversity"]["error_consistency"] is None
  assert alone["calibrated"]["diversity"]["shannon_equitability"] is None
  assert alone["calibrated"]["diversity"]["kohavi_wolpert_variance"] == 0
  assert alone["calibrated"]["ensembles"]["median"]["gain_over_best"] == 0


def test_temperatures_undo_overconfidence(result):
  found = [result["members"][name]["temperature"] for name in NAMES]
  assert found == sorted(found)
  np.testing.assert_allclose(np.array(found) / SCALES, np.mean(found / SCALES), rtol=0.5)
  for name in ("c", "d"):
    member = result["members"][name]
    before, after = member["uncalibrated"], member["calibrated"]
    assert after["expected_calibration_error"] < before["expected_calibration_error"] / 2
    assert after["cross_entropy"] < before["cross_entropy"]
    assert after["accuracy"] == before["accuracy"]


@pytest.mark.parametrize("state", ["uncalibrated", "calibrated"])
def test_ensembles_agree_with_float64(data, result, state):
  logits, labels = data[:2]
  for name in ("baseline", "dissimilar"):
    order = order_of(name)
    scale = [1.0] * 4
    if state == "calibrated":
      scale = [result["members"][member]["temperature"] for member in NAMES]
    own = np.stack([logits[i].astype(np.float64) / scale[i] for i in order])
    right = own.argmax(-1) == labels
    combined = {
      "probs": softmax(own, -1).mean(0),
      "logits": softmax(own.mean(0), -1),
      "geometric": softmax(log_softmax(own, -1).mean(0), -1),
      "median": np.median(softmax(own, -1), 0),
    }
    combined["median"] /= combined["median"].sum(-1, keepdims=True)
    block = result["sequences"][name][state]
    for rule, probs in combined.items():
      values = block["ensembles"][rule]
      hit = probs.argmax(-1) == labels
      contested = right.any(0) & ~right.all(0)
      expected = {
        "accuracy": hit.mean(),
        "cross_entropy": -np.log(probs[np.arange(N), labels]).mean(),
        "gain_over_best": hit.mean() - right.mean(1).max(),
        "gain_over_mean": hit.mean() - right.mean(),
        "error_reduction_rate": 1 - (1 - hit.mean()) / (1 - right.mean()),
        "conversion_rate": hit[contested].mean(),
      }
      for key, value in expected.items():
        assert values[key] == pytest.approx(value, rel=1e-4, abs=1e-6), (name, rule, key)
      diagram = values["reliability"]
      gaps = [
        c / N * abs(a - p)
        for c, a, p in zip(
          diagram["count"], diagram["accuracy"], diagram["confidence"], strict=True
        )
        if c
      ]
      assert values["expected_calibration_error"] == pytest.approx(sum(gaps), abs=1e-6)
    pairs = [(i, j) for j in range(len(order)) for i in range(j)]
    kappas = [cohen_kappa_score(right[i], right[j]) for i, j in pairs]
    assert block["diversity"]["error_consistency"] == pytest.approx(np.mean(kappas), abs=1e-5)
    hit = combined["probs"].argmax(-1) == labels
    guess = own.argmax(-1)
    for key, chosen in (("right", hit), ("wrong", ~hit)):
      expected = np.mean([entropy(np.bincount(own)) for own in guess[:, chosen].T]) / np.log(3)
      found = block["diversity"][f"shannon_equitability_{key}"]
      assert found == pytest.approx(expected, abs=1e-6)


def test_votes_are_scored_as_they_were_drawn(data, result):
  logits, labels = data[:2]
  sequence = logits[np.array(order_of("baseline"))]
  votes = sequence.argmax(-1)
  probs, predictions = map(np.asarray, metrics.combine(sequence, "vote", 0))
  np.testing.assert_array_equal(np.argmax(probs, -1), predictions)
  counts = np.stack([(votes == k).sum(0) for k in range(K)], -1)
  tied = counts.max(-1) == 1
  np.testing.assert_array_equal(predictions[~tied], counts.argmax(-1)[~tied])
  shares = [np.mean(predictions[tied] == own[tied]) for own in votes]
  assert sum(shares) == pytest.approx(1) and min(shares) > 0.05
  np.testing.assert_allclose(np.sum(probs, -1), 1, atol=1e-5)
  values = result["sequences"]["baseline"]["uncalibrated"]["ensembles"]["vote"]
  assert values["accuracy"] == pytest.approx(np.mean(predictions == labels))
  gain = np.mean(predictions == labels) - (votes == labels).mean(1).max()
  assert values["gain_over_best"] == pytest.approx(gain, abs=1e-6)
  # A label without a vote: the cross-entropy is infinite.
  assert values["cross_entropy"] is None
  other = metrics.combine(sequence, "vote", 1)[1]
  assert (other != predictions).any()


def test_interpolation_of_the_first_two(data, result):
  logits, labels, validation_logits, validation_labels = data
  found = result["sequences"]["dissimilar"]["interpolation"]
  assert (found["a"], found["b"]) == ("d", "b")
  assert found["weights"] == pytest.approx(np.linspace(0, 1, 21))
  rates = [
    [np.mean(own[validation_labels == k].argmax(-1) == k) for k in range(K)]
    for own in validation_logits
  ]
  favours_b = np.array(rates[1]) > np.array(rates[3])
  assert found["favours_b"] == favours_b.tolist() and favours_b[3]
  assert rates[1][2] == rates[3][2] and not favours_b[2]
  scale = [result["members"][name]["temperature"] for name in NAMES]
  for key, z, y in (("test", logits, labels), ("validation", validation_logits, validation_labels)):
    a, b = (log_softmax(z[i].astype(np.float64) / scale[i], -1) for i in (3, 1))
    for i, t in enumerate(found["weights"]):
      w = np.where(favours_b, t, 1 - t)
      simple = ((1 - t) * a + t * b).argmax(-1) == y
      by_class = ((1 - w) * a + w * b).argmax(-1) == y
      assert found[f"{key}_accuracy"][i] == pytest.approx(simple.mean(), abs=1e-6)
      assert found[f"by_class_{key}_accuracy"][i] == pytest.approx(by_class.mean(), abs=1e-6)


def test_specialisation_of_the_first_two(data, result):
  logits, labels = data[:2]
  found = result["sequences"]["baseline"]["specialisation"]
  assert (found["a"], found["b"]) == ("a", "c")
  scale = [result["members"][name]["temperature"] for name in NAMES]
  a, b = (softmax(logits[i].astype(np.float64) / scale[i], -1) for i in (0, 2))
  angle = np.pi / 4 - np.arctan2(b.max(-1), a.max(-1))
  only_a = (a.argmax(-1) == labels) & (b.argmax(-1) != labels)
  counts, _ = np.histogram(angle[only_a], found["edges"])
  assert found["only_a"] == counts.tolist()
  assert sum(sum(found[k]) for k in ("both_right", "only_a", "only_b", "neither")) == N
  means = [angle[labels == k].mean() for k in range(K)]
  np.testing.assert_allclose(found["by_class"], means, atol=1e-5)
  # a was made to know class 0.
  assert found["by_class"][0] > 0


def test_greedy_selection_is_of_all_members(data, result):
  logits, labels, validation_logits, validation_labels = data
  found = result["greedy"]
  accuracies = (validation_logits.argmax(-1) == validation_labels).mean(1)
  assert found["first"] == found["order"][0] == NAMES[accuracies.argmax()]
  assert sorted(found["order"]) == NAMES
  scale = np.array([result["members"][name]["temperature"] for name in NAMES])[:, None, None]
  order = [NAMES.index(name) for name in found["order"]]
  for key, z, y in (("test", logits, labels), ("validation", validation_logits, validation_labels)):
    probs = softmax(z.astype(np.float64) / scale, -1)
    for size in range(1, 5):
      expected = np.mean(probs[order[:size]].mean(0).argmax(-1) == y)
      assert found[f"{key}_accuracy"][size - 1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
  "none", [(None, None), (np.empty((4, 0, K), np.float32), np.empty(0, int))], ids=["None", "empty"]
)
def test_without_validation_images(data, result, none):
  found = run((*data[:2], *none))
  json.dumps(found, allow_nan=False)
  assert found["num_validation"] == 0 and found["greedy"] is None
  for member in found["members"].values():
    assert member["temperature"] is None and member["calibrated"] is None
  for name, sequence in found["sequences"].items():
    assert sequence["calibrated"] is None and sequence["interpolation"] is None
    assert sequence["uncalibrated"] == result["sequences"][name]["uncalibrated"]
  assert found["sequences"]["baseline"]["specialisation"]["a"] == "a"


def test_extreme_logits_and_perfect_members_stay_json(data):
  logits, labels, validation_logits, validation_labels = data
  huge = run((1e4 * logits, labels, 1e4 * validation_logits, validation_labels))
  json.dumps(huge, allow_nan=False)
  block = huge["sequences"]["baseline"]["uncalibrated"]["diversity"]
  assert block["kullback_leibler_divergence"] is None
  perfect = run(
    (
      logits + 999 * np.eye(K, dtype=np.float32)[labels],
      labels,
      validation_logits + 999 * np.eye(K, dtype=np.float32)[validation_labels],
      validation_labels,
    )
  )
  json.dumps(perfect, allow_nan=False)
  assert perfect["members"]["a"]["temperature"] == pytest.approx(metrics.LOWEST_TEMPERATURE)
  block = perfect["sequences"]["dissimilar"]["calibrated"]
  assert block["diversity"]["error_consistency"] is None
  assert block["diversity"]["shannon_equitability_wrong"] is None
  assert block["ensembles"]["probs"]["error_reduction_rate"] is None
  assert block["ensembles"]["probs"]["accuracy"] == 1


def test_labels_that_are_no_classes_are_told(data):
  logits, labels, validation_logits, validation_labels = data
  with pytest.raises(ValueError, match=r"labels holds -1: class indices are 0\.\.4"):
    run((logits, np.where(labels == 0, -1, labels), None, None))
  with pytest.raises(ValueError, match=r"labels has shape \(66,\)"):
    run((logits, labels, validation_logits, validation_labels[1:]))


def test_rows_of_ensembles_by_any_rule(data):
  logits, labels = data[:2]
  for rule in metrics.RULES:
    rows = ensembles.ensemble_rows(SEQUENCES, NAMES, logits, labels, rule, BINS)
    assert [row["size"] for row in rows] == [2, 3, 2, 3]
    probs, _ = metrics.combine(logits[np.array(order_of("dissimilar"))], rule, 0)
    assert rows[-1]["ensemble_accuracy"] == pytest.approx(np.mean(probs.argmax(-1) == labels))
    assert {
      "q_statistic",
      "error_correlation",
      "double_fault",
      "kullback_leibler_divergence",
      "cosine_similarity",
      "jensen_shannon_divergence",
      "label_disagreement",
      "error_consistency",
      "sequence",
      "size",
      "members",
      "ensemble_cross_entropy",
      "ensemble_expected_calibration_error",
      "member_accuracy",
    } <= set(rows[0])
  p, q = (softmax(logits[i].astype(np.float64), -1) for i in (0, 2))
  there, back = ((x * np.log2(x / y)).sum(-1).mean() for x, y in ((p, q), (q, p)))
  assert rows[0]["kullback_leibler_divergence"] == pytest.approx((there + back) / 2, rel=1e-4)
