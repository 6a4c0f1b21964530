"""Projections against scikit-learn, and that no gradient passes through them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from dissim_jax import projections
from dissim_jax.objective import mean_similarity, penalty_weight


@pytest.fixture(scope="module")
def taps():
  """Two taps; two teachers with 3 and 4 channels; a member with 5 channels near a linear map."""
  rng = np.random.default_rng(0)
  sources, targets = [], []
  for size in (6, 3):
    source = [rng.normal(1.0, 2.0, (4, size, size + 1, c)).astype(np.float32) for c in (3, 4)]
    mixed = np.concatenate(source, -1) @ rng.normal(size=(7, 5)) + rng.normal(size=5)
    noise = rng.normal(0, 1.0, mixed.shape)
    sources.append([jnp.asarray(s) for s in source])
    targets.append(jnp.asarray(mixed + noise, jnp.float32))
  return sources, targets


@pytest.fixture(scope="module")
def expvar():
  return mean_similarity("expvar", {"alpha": 1.0, "eps": 1e-4})


def rows(array):
  return np.asarray(array, np.float64).reshape(-1, array.shape[-1])


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_least_squares_is_sklearns(taps, expvar, ridge):
  sources, targets = taps
  projection = projections.least_squares(ridge=ridge)
  predictions, _ = projection.fit(projection.init(None, sources, targets), sources, targets, expvar)
  for source, target, (prediction,) in zip(sources, targets, predictions, strict=True):
    x, y = rows(jnp.concatenate(source, -1)), rows(target)
    # Ours is relative to the mean channel variance, theirs is added to the sums of squares.
    model = Ridge(ridge * len(x) * x.var(0).mean()) if ridge else LinearRegression()
    np.testing.assert_allclose(rows(prediction), model.fit(x, y).predict(x), rtol=1e-4, atol=1e-4)


def test_least_squares_is_the_best_answer_of_the_game(taps, expvar):
  """No step away from the closed form makes ExpVar larger; a learned one only approaches it."""
  sources, targets = taps
  best, _ = projections.least_squares(ridge=0.0).fit({}, sources, targets, expvar)
  value = expvar(targets, best)
  rng = np.random.default_rng(1)
  for _ in range(5):
    moved = [[p + 0.1 * rng.normal(size=p.shape[-1]).astype(np.float32)] for (p,) in best]
    assert expvar(targets, moved) < value


def learned_value(taps, expvar, inner_steps, steps):
  sources, targets = taps
  projection = projections.learned(optax.adam(0.05), inner_steps=inner_steps)
  state = projection.init(jax.random.key(0), sources, targets)
  fit = jax.jit(lambda state: projection.fit(state, sources, targets, expvar))
  for _ in range(steps):
    predictions, state = fit(state)
  return float(expvar(targets, predictions))


def test_learned_projection_climbs_to_the_closed_form(taps, expvar):
  sources, targets = taps
  best, _ = projections.least_squares(ridge=0.0).fit({}, sources, targets, expvar)
  start, end = learned_value(taps, expvar, 1, 1), learned_value(taps, expvar, 1, 400)
  assert start < 0.0 and float(expvar(targets, best)) - 0.02 < end <= float(expvar(targets, best))


def test_inner_steps_are_steps_on_the_same_batch(taps, expvar):
  """k steps inside one call are k calls of one step; the member sees the last but one."""
  np.testing.assert_allclose(
    learned_value(taps, expvar, 5, 2), learned_value(taps, expvar, 1, 10), rtol=1e-5
  )


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
  state = projection.init(jax.random.key(0), sources, targets)
  if projection.fit.__qualname__.startswith("identity"):
    targets = [t[..., :1] for t in targets]
    sources = [[s[..., :1] for s in source] for source in sources]

  def total(sources, targets):
    predictions, new_state = projection.fit(state, sources, targets, expvar)
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves((predictions, new_state)))

  for gradient in jax.tree.leaves(jax.grad(total, (0, 1))(sources, targets)):
    np.testing.assert_array_equal(gradient, 0.0)


def test_identity_compares_teachers_together_or_one_by_one(taps):
  sources, targets = taps
  together, _ = projections.identity(combine="concatenate").fit({}, sources, targets, None)
  single, _ = projections.identity(combine="mean").fit({}, sources, targets, None)
  assert [len(p) for p in together] == [1, 1] and [len(p) for p in single] == [2, 2]
  similarity = mean_similarity("lincka", {"unbiased": True, "samples": "position"})
  assert 0 < float(similarity(targets, together)) < 1
  assert float(similarity(targets, together)) != float(similarity(targets, single))


def test_penalty_weight_ramps_as_a_cosine():
  weight = penalty_weight(2.0, 10, 100)
  np.testing.assert_allclose([weight(s) for s in (0, 10, 60, 110, 500)], [0, 0, 1, 2, 2], atol=1e-6)
  assert [float(penalty_weight(2.0, 10, 0)(s)) for s in (9, 10)] == [0.0, 2.0]
