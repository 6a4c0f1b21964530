"""Predictions of ensembles, interpolation, greedy selection and temperatures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from dissim_jax import metrics

M, N, K = 4, 83, 5


@jax.jit
def of_rules(logits, weights=None):
  """Probabilities and predictions by rule, in one program: each by itself takes longer."""
  keys = {"vote": jax.random.key(0)}  # The others need none.
  return {
    rule: (
      metrics.ensemble_probabilities(logits, rule, weights),
      metrics.ensemble_predictions(logits, rule, key=keys.get(rule), weights=weights),
    )
    for rule in metrics.RULES
  }


interpolate_by_class = jax.jit(metrics.interpolate_by_class)


@pytest.fixture(scope="module")
def data():
  rng = np.random.default_rng(11)
  labels = rng.integers(0, K, N)
  logits = rng.normal(size=(M, N, K)) + 1.3 * np.eye(K)[labels]
  return logits.astype(np.float32), labels


@pytest.mark.parametrize("rule", [rule for rule in metrics.RULES if rule != "vote"])
def test_predictions_are_the_most_probable_classes(data, rule):
  logits, _ = data
  weights = np.arange(1.0, M + 1, dtype=np.float32)
  for w in (None, weights):
    probs, predictions = jax.device_get(of_rules(logits, w)[rule])
    np.testing.assert_array_equal(predictions, np.argmax(probs, -1))
    assert jnp.issubdtype(predictions.dtype, jnp.integer)


def test_tied_votes_are_drawn_with_the_key(data):
  logits, _ = data
  votes = np.stack([np.bincount(own, minlength=K) for own in logits.argmax(-1).T])
  tied = votes == votes.max(-1, keepdims=True)
  several = tied.sum(-1) > 1
  assert several.any() and not several.all()
  predict = jax.jit(
    jax.vmap(
      lambda key, weights: metrics.ensemble_predictions(logits, "vote", key=key, weights=weights),
      in_axes=(0, None),
    )
  )
  keys = jax.random.split(jax.random.key(0), 300)
  ones = np.ones(M, np.float32)
  drawn = np.asarray(predict(keys, ones))
  np.testing.assert_array_equal(drawn[::-1], predict(keys[::-1], ones))
  for own, allowed in zip(drawn.T, tied, strict=True):
    shares = np.bincount(own, minlength=K) / len(keys)
    # Five standard deviations of a share of one half.
    np.testing.assert_allclose(shares, allowed / allowed.sum(), atol=5 * 0.5 / len(keys) ** 0.5)
  # Draws of different examples are independent.
  same = drawn[:, several] == drawn[0, several]
  assert np.abs(np.corrcoef(same[:, :2].T)[0, 1]) < 0.3
  # Weights break ties, and members of no weight have no vote.
  alone = predict(keys, np.float32([1, 0, 0, 0]))
  np.testing.assert_array_equal(alone, np.tile(logits[0].argmax(-1), (len(keys), 1)))
  # 0.3 + 1.3 and 1.6 are equally many votes, which float32 rounds apart.
  three = np.eye(2, dtype=np.float32)[[[0], [0], [1]]]
  weights = np.float32([0.3, 1.3, 1.6])
  draw = jax.jit(
    jax.vmap(lambda key: metrics.ensemble_predictions(three, "vote", key=key, weights=weights))
  )
  assert set(np.ravel(draw(keys))) == {0, 1}


@pytest.mark.parametrize("rule", metrics.RULES)
def test_a_member_of_no_weight_changes_nothing(data, rule):
  logits, _ = data
  logits = logits.copy()
  few, _ = of_rules(logits[:3])[rule]
  logits[3, :, 2] = -np.inf
  weights = np.array([2.0, 2.0, 2.0, 0.0], np.float32)
  all_of_them, _ = of_rules(logits, weights)[rule]
  np.testing.assert_allclose(all_of_them, few, rtol=1e-5, atol=1e-7)


def test_interpolation(data):
  (a, b), labels = data[0][:2], data[1]
  favours_b = np.array([True, False, False, True, False])
  for weight in (0.0, 0.3, 0.5, 1.0):
    expected = (1 - weight) * a.astype(float) + weight * b
    np.testing.assert_allclose(metrics.interpolate(a, b, weight), expected, atol=1e-5)
    by_class = interpolate_by_class(a, b, weight, favours_b)
    log_a, log_b = log_softmax(a.astype(float), -1), log_softmax(b.astype(float), -1)
    for k in range(K):
      share = weight if favours_b[k] else 1 - weight
      column = (1 - share) * log_a[:, k] + share * log_b[:, k]
      np.testing.assert_allclose(by_class[:, k], column, atol=1e-5)
  # The constant of each example's logits does not matter, nor which group is named at 1/2.
  shift = np.arange(N, dtype=np.float32)[:, None]
  shifted = interpolate_by_class(a + shift, b - shift, 0.3, favours_b)
  expected = interpolate_by_class(a, b, 0.3, favours_b)
  np.testing.assert_allclose(shifted, expected, atol=1e-4)
  halves = [interpolate_by_class(a, b, 0.5, f) for f in (favours_b, ~favours_b)]
  np.testing.assert_allclose(*halves, atol=1e-6)
  # a knows the classes that are not in favours_b and nothing of the others, b the reverse.
  whole = 9 * np.eye(K, dtype=np.float32)[labels]
  of_b = favours_b[labels][:, None]
  knows = np.where(of_b, 0, whole), np.where(of_b, whole, 0)
  knows = [logits.astype(np.float32) for logits in knows]
  mixed = [np.asarray(interpolate_by_class(*knows, w, favours_b)) for w in (0.0, 1.0)]
  scores = [np.mean(logits.argmax(-1) == labels) for logits in mixed]
  assert scores[1] == 1 > scores[0]
  many = jax.jit(jax.vmap(metrics.interpolate_by_class, in_axes=(None, None, 0, None)))(
    a, b, np.float32([0.0, 0.3]), favours_b
  )
  np.testing.assert_allclose(many[1], expected, atol=1e-5)


def greedy_loop(logits, labels, first, size, rule):
  order, accuracies = [first], []
  logits = logits.astype(np.float64)

  def combined(members):
    if rule == "logits":
      return softmax(logits[members].mean(0), axis=-1)
    return softmax(logits[members], axis=-1).mean(0)

  while True:
    accuracies.append(np.mean(combined(order).argmax(-1) == labels))
    if len(order) == size:
      return order, accuracies
    rest = [i for i in range(len(logits)) if i not in order]

    def rank(i):
      mean = combined([*order, i])
      loss = -np.log(mean[np.arange(len(labels)), labels]).mean()
      return -np.mean(mean.argmax(-1) == labels), loss

    order.append(min(rest, key=rank))


@pytest.mark.parametrize("rule", ["probs", "logits"])
def test_greedy_selection_agrees_with_a_loop(rule):
  rng = np.random.default_rng(5)
  labels = rng.integers(0, K, 40)  # Few examples: many equal accuracies.
  logits = (3 * rng.normal(size=(6, 40, K)) + 3 * np.eye(K)[labels]).astype(np.float32)
  for first in range(6):
    order, accuracies = metrics.greedy_selection(logits, labels, first=first, size=6, rule=rule)
    expected, expected_accuracies = greedy_loop(logits, labels, first, 6, rule)
    assert order == expected and all(isinstance(i, int) for i in order)
    np.testing.assert_allclose(accuracies, expected_accuracies)


@pytest.mark.parametrize("rule", metrics.RULES)
def test_greedy_selection_reports_the_ensemble_of_its_rule(data, rule):
  logits, labels = data
  order, accuracies = metrics.greedy_selection(logits, labels, first=2, size=3, rule=rule)
  assert order[0] == 2 and len(set(order)) == 3

  def accuracy(members):
    """Others have no weight: one program serves all choices."""
    weights = np.isin(np.arange(M), members).astype(np.float32)
    probs, _ = of_rules(logits, weights)[rule]
    return np.mean(np.asarray(probs).argmax(-1) == labels)

  for size, reached in enumerate(accuracies, 1):
    assert reached == pytest.approx(accuracy(order[:size]))
  # The second member is the best partner of the first.
  partners = [accuracy([2, i]) for i in range(M) if i != 2]
  assert accuracies[1] == pytest.approx(max(partners))


def negative_log_likelihood(log_temperature, logits, labels):
  scores = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=-1)
  return -scores[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("scale", [0.02, 0.4, 1.0, 7.0, 500.0, 1e4])
def test_temperature_minimises_the_cross_entropy(data, scale):
  logits, labels = data[0][0] * np.float32(scale), data[1]
  temperature = float(metrics.fit_temperature(logits, labels))
  loss = functools.partial(negative_log_likelihood, logits=logits, labels=labels)
  best = minimize_scalar(
    loss, bounds=np.log([1e-3, 1e5]), method="bounded", options={"xatol": 1e-9}
  )
  np.testing.assert_allclose(np.log(temperature), best.x, atol=1e-4)
  grid = np.linspace(np.log(1e-3), np.log(1e5), 300)
  assert loss(np.log(temperature)) <= min(map(loss, grid)) + 1e-9
  # T scales with the logits.
  assert temperature / scale == pytest.approx(
    float(metrics.fit_temperature(data[0][0], labels)), rel=1e-4
  )


def test_temperature_of_overconfident_and_heavy_tailed_logits():
  rng = np.random.default_rng(2)
  labels = rng.integers(0, 3, 400)
  base = rng.normal(size=(400, 3)) + 2 * np.eye(3)[labels]
  # A few huge wrong logits make the slope flat but for them: Newton alone would leave the bracket.
  for logits in (
    base**3,
    base * np.where(np.arange(400) % 100 == 0, 300, 1)[:, None],
    base - 3 * np.eye(3)[labels] * (np.arange(400) % 2 == 0)[:, None],
  ):
    temperature = float(metrics.fit_temperature(logits.astype(np.float32), labels))
    loss = functools.partial(negative_log_likelihood, logits=logits, labels=labels)
    grid = np.linspace(np.log(1e-3), np.log(1e5), 200)
    best = grid[np.argmin([loss(t) for t in grid])]
    best = minimize_scalar(
      loss, bounds=(best - 0.1, best + 0.1), method="bounded", options={"xatol": 1e-9}
    )
    assert np.log(temperature) == pytest.approx(best.x, abs=2e-4)


def test_temperatures_without_an_optimum_inside():
  labels = np.array([0, 1, 2, 2])
  certain = np.eye(3, dtype=np.float32)[labels]
  fit = metrics.fit_temperature
  lowest, highest = np.float32([metrics.LOWEST_TEMPERATURE, metrics.HIGHEST_TEMPERATURE])
  for scale in (1e-6, 1.0, 1e4):
    assert fit(scale * certain, labels) == lowest
    assert fit(-scale * certain, labels) == highest
  assert fit(np.zeros_like(certain), labels) == 1
  assert fit(np.full_like(certain, 1e4) + np.arange(4, dtype=np.float32)[:, None], labels) == 1
  # The label shares the highest logit with another class: still the lower, the better.
  assert fit(certain + np.eye(3, dtype=np.float32)[(labels + 1) % 3], labels) == lowest
  assert fit(certain[:1], labels[:1]) == lowest
  assert fit(certain[:, :1], np.zeros(4, int)) == 1
  # Two classes, three of four right with the margin c: sigmoid(c / T) = 3/4.
  binary, wanted = np.tile(np.float32([[1.7, 0.0]]), (4, 1)), np.array([0, 0, 0, 1])
  assert fit(binary, wanted) == pytest.approx(1.7 / np.log(3), rel=1e-5)


def test_temperatures_under_jit_and_vmap(data):
  logits, labels = data
  expected = [metrics.fit_temperature(own, labels) for own in logits]
  many = jax.jit(jax.vmap(metrics.fit_temperature, in_axes=(0, None)))(logits, labels)
  np.testing.assert_allclose(many, np.array(expected), rtol=1e-5)
  assert many.dtype == jnp.float32
