"""Projections against scikit-learn, and that no gradient passes through them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from dissim_jax.train import projections
from dissim_jax.train.losses import mean_similarity, penalty_weight


@pytest.fixture(scope="module")
def taps():
  """Two taps; two teachers with 3 and 4 channels; a member with 5 channels near a linear map."""
  rng = np.random.default_rng(0)
  sources, targets = [], []
  for size in (6, 3):
    source = [rng.normal(1.0, 2.0, (4, size, size + 1, c)).astype(np.float32) for c in (3, 4)]
    mixed = np.concatenate(source, -1) @ rng.normal(size=(7, 5)) + rng.normal(size=5)
    noise = rng.normal(0, 1.0, mixed.shape)
    sources.append(source)
    targets.append((mixed + noise).astype(np.float32))
  return sources, targets


@pytest.fixture(scope="module")
def expvar():
  return jax.jit(mean_similarity("expvar", {"alpha": 1.0, "eps": 1e-4}))


RIDGES = (0.0, 0.1)


@pytest.fixture(scope="module")
def best(taps, expvar):
  """Predictions in closed form by ridge, in one program."""

  @jax.jit
  def fit(sources, targets):
    return {
      ridge: projections.least_squares(ridge=ridge).fit({}, sources, targets, expvar)[0]
      for ridge in RIDGES
    }

  return jax.device_get(fit(*taps))


def rows(array):
  return np.asarray(array, np.float64).reshape(-1, array.shape[-1])


@pytest.mark.parametrize("ridge", RIDGES)
def test_least_squares_is_sklearns(taps, best, ridge):
  assert projections.least_squares(ridge=ridge).init(None, *taps) == {}
  for source, target, (prediction,) in zip(*taps, best[ridge], strict=True):
    x, y = rows(np.concatenate(source, -1)), rows(target)
    # Ours is relative to the mean channel variance, theirs is added to the sums of squares.
    model = Ridge(ridge * len(x) * x.var(0).mean()) if ridge else LinearRegression()
    np.testing.assert_allclose(rows(prediction), model.fit(x, y).predict(x), rtol=1e-4, atol=1e-4)


def test_least_squares_is_the_best_answer_of_the_game(taps, expvar, best):
  """No step away from the closed form makes ExpVar larger; a learned one only approaches it."""
  _, targets = taps
  value = expvar(targets, best[0.0])
  rng = np.random.default_rng(1)
  for _ in range(5):
    moved = [[p + 0.1 * rng.normal(size=p.shape[-1]).astype(np.float32)] for (p,) in best[0.0]]
    assert expvar(targets, moved) < value


@pytest.fixture(scope="module")
def learned_value(taps, expvar):
  """A function of inner steps and calls: the similarity that the last call's predictions have."""
  sources, targets = taps

  @functools.cache
  def programs(inner_steps):
    projection = projections.learned(optax.adam(0.05), inner_steps=inner_steps)

    @jax.jit
    def fit(state):
      predictions, state = projection.fit(state, sources, targets, expvar)
      return expvar(targets, predictions), state

    return jax.jit(lambda: projection.init(jax.random.key(0), sources, targets)), fit

  def value(inner_steps, steps):
    init, fit = programs(inner_steps)
    state = init()
    for _ in range(steps):
      found, state = fit(state)
    return float(found)

  return value


def test_learned_projection_climbs_to_the_closed_form(taps, expvar, best, learned_value):
  start, end = learned_value(1, 1), learned_value(1, 400)
  most = float(expvar(taps[1], best[0.0]))
  assert start < 0.0 and most - 0.02 < end <= most


def test_inner_steps_are_steps_on_the_same_batch(learned_value):
  """k steps inside one call are k calls of one step; the member sees the last but one."""
  np.testing.assert_allclose(learned_value(3, 2), learned_value(1, 6), rtol=1e-5)


@pytest.mark.parametrize(
  "projection",
  [
    projections.least_squares(ridge=1e-3),
    projections.learned(optax.sgd(0.1), inner_steps=2),
    projections.identity(combine="mean"),
  ],
  ids=["least_squares", "learned", "identity"],
)
def test_no_gradient_passes_through_fit(taps, expvar, projection):
  sources, targets = taps
  shaped = taps
  if projection.fit.__qualname__.startswith("identity"):
    targets = [t[..., :1] for t in targets]
    sources = [[s[..., :1] for s in source] for source in sources]

  def total(sources, targets):
    state = projection.init(jax.random.key(0), *shaped)
    predictions, new_state = projection.fit(state, sources, targets, expvar)
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves((predictions, new_state)))

  for gradient in jax.tree.leaves(jax.jit(jax.grad(total, (0, 1)))(sources, targets)):
    np.testing.assert_array_equal(gradient, 0.0)


def test_identity_compares_teachers_together_or_one_by_one(taps):
  similarity = mean_similarity("lincka", {"unbiased": True, "samples": "position"})

  @jax.jit
  def compared(sources, targets):
    fitted = [
      projections.identity(combine=combine).fit({}, sources, targets, None)[0]
      for combine in ("concatenate", "mean")
    ]
    return fitted, [similarity(targets, predictions) for predictions in fitted]

  (together, single), (of_together, of_single) = jax.device_get(compared(*taps))
  assert [len(p) for p in together] == [1, 1] and [len(p) for p in single] == [2, 2]
  assert 0 < of_together < 1
  assert of_together != of_single


def test_penalty_weight_ramps_as_a_cosine():
  weight = penalty_weight(2.0, 10, 100)
  np.testing.assert_allclose([weight(s) for s in (0, 10, 60, 110, 500)], [0, 0, 1, 2, 2], atol=1e-6)
  assert [float(penalty_weight(2.0, 10, 0)(s)) for s in (9, 10)] == [0.0, 2.0]
