"""Aligned measures, linear CKA and regression against float64 loops and scikit-learn.

By invariances and over four devices too. The other measures are in test_similarity_family.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score

from dissim_jax import similarity
from tests.measures import four_devices, on_four_devices, remembered, together

SHAPE = (8, 3, 2, 5)  # [batch, height, width, channels], no two axes alike
lincka_position = functools.partial(similarity.lincka, samples="position")
r2_variance = functools.partial(similarity.r2_least_squares, weighting="variance")
FUNCTIONS = {
  "expvar": similarity.expvar,
  "l2corr": similarity.l2corr,
  "l2corr_squared": similarity.l2corr_squared,
  "lincka": similarity.lincka,
  "lincka_position": lincka_position,
  "lincka_biased": functools.partial(similarity.lincka, unbiased=False),
  "r2": similarity.r2_least_squares,
  "r2_variance": r2_variance,
}


# Compiled once for all tests that share shapes and dtypes.
_FOUND = together(FUNCTIONS)
COMPILED = {name: functools.partial(_FOUND, name) for name in FUNCTIONS}
MOMENTS = jax.jit(similarity.moments)


@pytest.fixture
def rng():
  return np.random.default_rng(11)


@pytest.fixture
def pair(rng):
  """A representation and one correlated with it, each channel of its own scale and offset."""
  z = rng.normal(size=SHAPE)
  mixed = z @ rng.normal(size=(5, 5)) / 3
  other = z * [1, 0.8, 0.4, -0.5, 0.1] + mixed + 0.4 * rng.normal(size=SHAPE)
  scale, offset = [1, 0.3, 5, 1, 2], [0, 1, -3, 10, 0.5]
  return (z * scale + offset).astype(np.float32), (other * scale + offset).astype(np.float32)


def assert_close(actual, desired, rtol=1e-5, atol=1e-7):
  np.testing.assert_allclose(np.asarray(actual), desired, rtol=rtol, atol=atol)


def rotation(rng, size):
  return np.linalg.qr(rng.normal(size=(size, size)))[0]


# --- Oracles: float64 transcriptions of the papers' formulas -------------------------------------


def celu(x):
  return max(0.0, x) + min(0.0, np.exp(x) - 1)


def oracle_expvar(z, z_hat, eps=1e-4):
  channels = []
  for c in range(z.shape[-1]):
    t, a = z[..., c].astype(float).ravel(), z_hat[..., c].astype(float).ravel()
    channels.append(celu(1 - ((t - a) ** 2).sum() / (((t - t.mean()) ** 2).sum() + eps)))
  return np.mean(channels)


def oracle_correlations(z, z_hat):
  return np.array(
    [
      np.corrcoef(z[..., c].astype(float).ravel(), z_hat[..., c].astype(float).ravel())[0, 1]
      for c in range(z.shape[-1])
    ]
  )


def oracle_hsic(x, y):
  """Eq. 13 as it is written, on n x n matrices with zero diagonal."""
  n = x.shape[0]
  k, l = x @ x.T, y @ y.T  # noqa: E741
  np.fill_diagonal(k, 0)
  np.fill_diagonal(l, 0)
  one = np.ones(n)
  total = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
  return (np.trace(k @ l) + total - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))


def oracle_biased_hsic(x, y):
  n = x.shape[0]
  h = np.eye(n) - 1 / n
  return np.trace(x @ x.T @ h @ y @ y.T @ h) / (n - 1) ** 2


def rows(z, samples="example"):
  z = np.asarray(z, np.float64)
  return z.reshape(len(z), -1) if samples == "example" else z.reshape(-1, z.shape[-1])


def oracle_lincka(z_a, z_b, samples="example", hsic=oracle_hsic):
  x, y = rows(z_a, samples), rows(z_b, samples)
  return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def oracle_r2(source, target, multioutput="uniform_average"):
  x, y = rows(source, "position"), rows(target, "position")
  return r2_score(y, LinearRegression().fit(x, y).predict(x), multioutput=multioutput)


ORACLES = {
  "expvar": oracle_expvar,
  "l2corr": lambda a, b: np.mean([celu(r) for r in oracle_correlations(a, b)]),
  "l2corr_squared": lambda a, b: np.mean(oracle_correlations(a, b) ** 2),
  "lincka": oracle_lincka,
  "lincka_position": lambda a, b: oracle_lincka(a, b, "position"),
  "lincka_biased": lambda a, b: oracle_lincka(a, b, hsic=oracle_biased_hsic),
  "r2": oracle_r2,
  "r2_variance": lambda a, b: oracle_r2(a, b, "variance_weighted"),
}


# --- All functions -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_agrees_with_its_oracle(pair, name):
  value = COMPILED[name](*pair)
  assert value.dtype == jnp.float32 and value.shape == ()
  assert_close(value, ORACLES[name](*pair))


@pytest.mark.parametrize("name", ["expvar", "l2corr", "lincka", "lincka_position", "r2"])
def test_features_far_from_zero(pair, name):
  z, other = (a + np.float32(100) for a in pair)
  assert_close(COMPILED[name](z, other), ORACLES[name](z, other))


@pytest.mark.parametrize("name", ["expvar", "l2corr", "lincka", "lincka_position", "r2"])
def test_bfloat16_is_taken_to_float32(pair, name):
  coarse = [a.astype(jnp.bfloat16) for a in pair]
  value = COMPILED[name](*coarse)
  assert value.dtype == jnp.float32
  assert_close(value, ORACLES[name](*(np.asarray(a, np.float64) for a in coarse)))


# The others are in test_similarity_family, as are gradients and degenerate channels of all.
ON_DEVICES = ["expvar", "l2corr", "l2corr_squared", "lincka", "lincka_biased"]
OF_SHARDED = ["expvar", "lincka"]  # Whose gradient is taken outside of the devices' program too.


@remembered
def found_on_four_devices(*pair):
  """Values and gradients; and gradients of the values that are typed as replicated."""
  inside = on_four_devices({name: FUNCTIONS[name] for name in ON_DEVICES})(*pair)
  values = {
    name: jax.shard_map(
      functools.partial(FUNCTIONS[name], axis_name="devices"),
      mesh=four_devices(),
      in_specs=P("devices"),
      out_specs=P(),
    )
    for name in OF_SHARDED
  }
  outside = jax.jit(lambda *pair: {name: jax.grad(f)(*pair) for name, f in values.items()})(*pair)
  return {name: (*inside[name], outside.get(name)) for name in ON_DEVICES}


GRADIENTS = together(
  {name: jax.value_and_grad(FUNCTIONS[name], argnums=(0, 1)) for name in ON_DEVICES}
)


@pytest.mark.parametrize("name", ON_DEVICES)
def test_four_devices_equal_one(pair, name):
  expected, gradients = GRADIENTS(name, *pair)
  value, found, outside = found_on_four_devices(name, *pair)
  assert_close(value, expected, rtol=2e-6)
  pairs = list(zip(found, gradients, strict=True))
  if name in OF_SHARDED:
    pairs.append((outside, gradients[0]))
  for actual, desired in pairs:
    assert_close(actual, desired, rtol=1e-4, atol=1e-5 * np.abs(desired).max())


NAMED = together(
  {
    name: jax.vmap(functools.partial(function, axis_name="devices"), axis_name="devices")
    for name, function in FUNCTIONS.items()
  }
)
APART = together({name: jax.vmap(FUNCTIONS[name]) for name in ("expvar", "lincka_position", "r2")})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_named_vmap_axis_is_the_global_batch(pair, name):
  shards = [a.reshape(4, 2, *a.shape[1:]) for a in pair]
  assert_close(NAMED(name, *shards), np.full(4, ORACLES[name](*pair)))
  # Without the name each entry is a batch of its own.
  if name in ("expvar", "lincka_position", "r2"):
    apart = APART(name, *shards)
    assert_close(apart, [ORACLES[name](a, b) for a, b in zip(*shards, strict=True)], atol=1e-6)
    assert np.std(apart) > 1e-3


# --- Invariances, each with its negative control -------------------------------------------------


@pytest.mark.parametrize("name", ["lincka", "lincka_position"])
def test_lincka_invariances(pair, rng, name):
  z, other = pair
  function = COMPILED[name]
  before = function(z, other)
  assert_close(function(3 * z @ rotation(rng, 5) + 4, other), before)
  assert_close(function(other, z), before)
  assert_close(function(z, z), 1)
  assert abs(function(z @ rng.normal(size=(5, 5)).astype(np.float32), other) - before) > 1e-3


def test_aligned_invariances(pair):
  z, other = pair
  expvar, l2corr, squared = (COMPILED[name] for name in ("expvar", "l2corr", "l2corr_squared"))
  scale = np.array([0.1, 2, 7, 1, 3], np.float32)
  assert_close(l2corr(z, other * scale - 2), l2corr(z, other))
  assert_close(squared(z, -other), squared(z, other))
  assert abs(l2corr(z, -other) - l2corr(z, other)) > 0.1
  assert abs(expvar(z, other * scale) - expvar(z, other)) > 0.1
  assert abs(expvar(z, other[..., ::-1]) - expvar(z, other)) > 0.1
  assert_close(expvar(z, z), 1)


def test_r2_invariances(pair, rng):
  z, other = pair
  r2, variance = COMPILED["r2"], COMPILED["r2_variance"]
  before = r2(z, other)
  mixing = (rng.normal(size=(5, 5)) + 2 * np.eye(5)).astype(np.float32)
  assert_close(r2(z @ mixing + 7, other), before, rtol=2e-5)
  scale = np.array([1e-4, 1e4, 1, 10, 1e-2], np.float32)
  assert_close(r2(z * scale, other * scale), before)
  assert_close(r2(z, z @ mixing), 1)
  assert abs(r2(z**2, other) - before) > 1e-2
  scale = np.array([1, 1, 1, 1, 100], np.float32)
  assert abs(variance(z, other * scale) - variance(z, other)) > 1e-2


def test_lower_bounds(pair):
  z, _ = pair
  anti = 2 * z.mean((0, 1, 2)) - z
  assert_close(COMPILED["l2corr"](z, anti), similarity.MEASURES["l2corr"].low)
  assert_close(COMPILED["expvar"](z, z + 1000), similarity.MEASURES["expvar"].low)


# --- ExpVar --------------------------------------------------------------------------------------


def test_expvar_of_the_mean_is_zero_and_eps_is_added_to_the_sum():
  z = np.array([[0.0], [0.02]], np.float32)
  mean = np.full_like(z, 0.01)
  found, without, far = jax.jit(
    lambda z, mean: (
      similarity.expvar(z, mean),
      similarity.expvar(z, mean, eps=0.0),
      similarity.expvar(z, z + 1, alpha=0.25),
    )
  )(z, mean)
  assert_close(found, 1 - 2e-4 / (2e-4 + 1e-4))
  assert_close(without, 0, atol=1e-6)
  assert_close(far, -0.25)


# --- LinCKA --------------------------------------------------------------------------------------


def test_gram_and_feature_forms_agree(rng, monkeypatch):
  x = rng.normal(size=(40, 7)).astype(np.float32) + 3
  y = (x[:, :4] + rng.normal(size=(40, 4))).astype(np.float32)
  values = []
  for gram in (True, False):
    monkeypatch.setattr(similarity.cka, "_gram_is_cheaper", lambda n, p, q, gram=gram: gram)
    # A new function each time, for jit keeps what it compiled.
    forms = jax.jit(lambda a, b: [similarity.lincka(a, b, unbiased=u) for u in (True, False)])
    values.append(forms(x, y))
  for *found, hsic in zip(*values, (oracle_hsic, oracle_biased_hsic), strict=True):
    assert_close(*found)
    assert_close(found[0], oracle_lincka(x, y, hsic=hsic))


def test_form_follows_the_shapes():
  assert similarity.cka._gram_is_cheaper(128, 8192, 64)
  assert not similarity.cka._gram_is_cheaper(8192, 256, 256)


def test_lincka_of_different_shapes(rng):
  a = rng.normal(size=(9, 4, 3, 2)).astype(np.float32)
  b = (a[:, :2, :1] @ rng.normal(size=(2, 7))).astype(np.float32)
  assert_close(jax.jit(similarity.lincka)(a, b), oracle_lincka(a, b))


def test_unbiased_lincka_of_independent_features_is_near_zero_and_may_be_negative(rng):
  x, y = rng.normal(size=(2, 20, 60, 50)).astype(np.float32)
  unbiased = jax.jit(jax.vmap(similarity.lincka))(x, y)
  assert abs(unbiased.mean()) < 0.02 and unbiased.min() < 0
  assert jax.jit(jax.vmap(FUNCTIONS["lincka_biased"]))(x, y).min() > 0.3


def test_minibatch_cka_of_all_pairs(rng):
  """Batches of unequal size; taps with offsets, of small scale, independent, and dead."""
  total, expected = np.zeros((7, 7)), np.zeros((6, 6))
  hsic_matrix = jax.jit(similarity.hsic_matrix)
  for n in (13, 40):
    base = rng.normal(size=(n, 3, 2, 4))
    taps = [
      base,
      base[:, :2] + 0.5 * rng.normal(size=(n, 2, 2, 4)) + 10,
      0.01 * base @ rng.normal(size=(4, 6)),
      base.reshape(n, -1)[:, ::3] + 100,
      rng.normal(size=(n, 30)),
      0.01 * rng.normal(size=(n, 5)) + 1,
    ]
    taps = [tap.astype(np.float32) for tap in taps]
    features = [rows(tap) for tap in taps]
    expected += [[oracle_hsic(x, y) for y in features] for x in features]
    total += np.asarray(hsic_matrix([*taps, np.full((n, 3), 0.7, np.float32)]))
  root = np.sqrt(np.diag(expected))
  for hsic in (total, jnp.asarray(total, jnp.float32)):
    cka = similarity.cka_from_hsic(hsic)
    assert cka.dtype == hsic.dtype
    assert_close(cka[:6, :6], expected / root / root[:, None], rtol=1e-5, atol=1e-5)
    assert (cka[6] == 0).all() and (cka[:, 6] == 0).all()
  assert np.abs(cka[4, :4]).max() < 0.2 and cka[0, 1] > 0.5


def test_one_batch_of_the_accumulator_is_lincka(pair):
  vectors, hsic = jax.jit(lambda z: (similarity.gram_vectors(z), similarity.hsic_matrix(z)))(
    list(pair)
  )
  assert vectors.shape == (2, 64)
  assert_close(vectors.reshape(2, 8, 8).sum(-1), np.zeros((2, 8)), atol=2e-5 * abs(vectors).max())
  cka = similarity.cka_from_hsic(hsic)
  assert_close(cka[0, 1], COMPILED["lincka"](*pair))


def test_biased_accumulator(rng):
  """Two batches of unequal size, against the sums of the biased HSIC of each."""
  total, expected = np.zeros((2, 2)), np.zeros((2, 2))
  hsic_matrix = jax.jit(functools.partial(similarity.hsic_matrix, unbiased=False))
  for n in (7, 12):
    taps = [rng.normal(size=(n, 3, 4)).astype(np.float32) + 5]
    taps.append((taps[0][:, :2] ** 2).astype(np.float32))
    expected += [[oracle_biased_hsic(rows(x), rows(y)) for y in taps] for x in taps]
    total += np.asarray(hsic_matrix(taps))
  assert_close(total, expected)


def test_blocks_of_features_change_nothing(rng, monkeypatch):
  """The loop over blocks, with and without a rest, is the one product."""
  x = rng.normal(size=(6, 23)).astype(np.float32) + 30
  centered = x.astype(float) - x.astype(float).mean(0)
  for block in (None, 5, 23, 40, 22):
    gram = jax.jit(functools.partial(similarity.kernels.centered_gram, block=block))(x)
    assert_close(gram, centered @ centered.T, atol=2e-5)


def test_blocks_of_shifted_and_scaled_examples(rng):
  """What rsa and relative take; features without variance are exactly zero in every block."""
  x = (rng.normal(size=(7, 23)) + 5).astype(np.float32)
  shift, scale = rng.normal(size=(2, 7, 1)).astype(np.float32)
  moved = (x.astype(float) - shift) * scale
  centered = moved - moved.mean(0)
  for block in (None, 5):
    gram = jax.jit(functools.partial(similarity.kernels.centered_gram, block=block))
    assert_close(gram(x, shift=shift, scale=scale), centered @ centered.T, rtol=1e-4, atol=2e-4)
    assert not np.any(gram(np.broadcast_to(x[:1] + 0.1, x.shape)))


def test_maps_of_many_taps_hold_no_copy_of_a_tap():
  """Temporaries stay far below one centred tap, which is 8 MB here."""
  taps = [jax.ShapeDtypeStruct((32, 64, 32, 32), jnp.float32)] * 3
  for name in ("lincka", "rbfcka", "rsa", "relative", "jaccard"):
    update = similarity.MEASURES[name].pairwise.update
    memory = jax.jit(update).lower(taps).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 3 * 2**20, name


def test_self_terms_that_are_not_positive_give_zero():
  hsic = np.array([[4.0, 2.0, 1.0], [2.0, 9.0, 1.0], [1.0, 1.0, -1e-6]])
  assert_close(similarity.cka_from_hsic(hsic), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])


# --- Moments and regression ----------------------------------------------------------------------


def test_streamed_moments_equal_those_of_all_samples(rng):
  x = (rng.normal(size=(60, 5)) + 100).astype(np.float32)
  y = (x[:, :3] + rng.normal(size=(60, 3)) + np.linspace(0, 50, 60)[:, None]).astype(np.float32)
  streamed = similarity.empty_moments(5, 3)
  merge, moments = jax.jit(similarity.merge_moments), jax.jit(similarity.moments)
  for part in (slice(0, 10), slice(10, 35), slice(35, 60)):
    streamed = merge(streamed, moments(x[part], y[part]))
  xd, yd = x.astype(float), y.astype(float)
  xc, yc = xd - xd.mean(0), yd - yd.mean(0)
  norm_x, norm_y = np.linalg.norm(xc, axis=0), np.linalg.norm(yc, axis=0)
  for actual, desired in zip(streamed[:3], (60, xd.mean(0), yd.mean(0)), strict=True):
    assert_close(actual, desired, rtol=1e-6)
  # A co-moment near zero is as exact as the two deviations that it multiplies.
  products = ((xc, xc, norm_x, norm_x), (xc, yc, norm_x, norm_y), (yc, yc, norm_y, norm_y))
  for actual, (a, b, norm_a, norm_b) in zip(streamed[3:6], products, strict=True):
    scale = np.outer(norm_a, norm_b)
    assert_close(actual / scale, a.T @ b / scale, rtol=0, atol=1e-5)
  assert all(leaf.dtype == jnp.float32 for leaf in streamed[:6])
  assert all(leaf.dtype == jnp.float64 for leaf in streamed.exact[:6])
  # Nothing after something, and nothing after nothing, changes nothing.
  empty = similarity.empty_moments(5, 3)
  for m in (streamed, empty):
    jax.tree.map(np.testing.assert_array_equal, merge(m, empty), m)


@jax.jit
def affine_maps(m):
  """By ridge: weights and bias, and their R2."""
  return {
    ridge: (similarity.solve_affine(m, ridge), similarity.r2_from_moments(m, ridge=ridge))
    for ridge in (0.0, 1e-8, 1e-3, 1e-2)
  }


@pytest.mark.parametrize("ridge", [0.0, 1e-8, 1e-2])
def test_affine_map_agrees_with_scikit_learn(pair, ridge):
  z, other = pair
  (weights, bias), value = affine_maps(MOMENTS(z, other))[ridge]
  x, y = rows(z, "position"), rows(other, "position")
  model = Ridge(alpha=ridge * len(x) * x.var(0).mean()) if ridge > 1e-6 else LinearRegression()
  model.fit(x, y)
  assert_close(weights, model.coef_.T, atol=1e-5 * np.abs(model.coef_).max())
  assert_close(bias, model.intercept_, atol=1e-5 * np.abs(model.intercept_).max())
  assert_close(value, r2_score(y, model.predict(x)))


def test_swapped_moments_regress_the_other_way(pair):
  value = jax.jit(lambda m: similarity.r2_from_moments(similarity.swap_moments(m)))(MOMENTS(*pair))
  assert_close(value, oracle_r2(pair[1], pair[0]))
  assert abs(oracle_r2(*pair) - oracle_r2(pair[1], pair[0])) > 1e-3


def test_rank_deficient_source(pair, rng):
  z, other = pair
  repeated = np.concatenate([z, z @ rng.normal(size=(5, 2)), 0 * z[..., :1] + 3], -1)
  repeated = repeated.astype(np.float32)
  value, gradient = jax.jit(jax.value_and_grad(similarity.r2_least_squares))(repeated, other)
  assert_close(value, oracle_r2(z, other), rtol=2e-5)
  assert np.isfinite(gradient).all()
  # Of all maps that fit equally well it is a small one: repeated channels share the weight, and
  # what rounding leaves of the directions they do not span is not blown up.
  channels = np.concatenate([z, z, z], -1)
  solve = jax.jit(similarity.solve_affine)
  weights, _ = solve(MOMENTS(channels, other))
  model = LinearRegression().fit(rows(z, "position"), rows(other, "position"))
  for part in np.split(np.asarray(weights), 3):
    assert_close(part, model.coef_.T / 3, rtol=1e-4, atol=1e-4 * np.abs(model.coef_).max())
  # With few samples everything is explained, by a map that stays finite.
  weights, bias = solve(MOMENTS(channels[0, 0], other[0, 0]))
  assert_close(channels[0, 0] @ weights + bias, other[0, 0], rtol=1e-4, atol=1e-4)


def test_ridge_survives_a_dead_source(pair):
  dead = MOMENTS(np.full(SHAPE, 0.3, np.float32), pair[1])
  for ridge in (0.0, 1e-3):
    weights, bias = affine_maps(dead)[ridge][0]
    assert (np.asarray(weights) == 0).all()
    assert_close(bias, pair[1].mean((0, 1, 2)))


def test_target_channels_without_variance_are_left_out(pair):
  z, other = pair
  partly = np.where(np.arange(5) == 1, np.float32(100.1), other)
  assert_close(COMPILED["r2"](z, partly), oracle_r2(z, np.delete(other, 1, -1)))


def test_lincka_from_moments(pair):
  value = jax.jit(similarity.lincka_from_moments)(MOMENTS(*pair))
  assert_close(value, oracle_lincka(*pair, "position", oracle_biased_hsic))
  biased = functools.partial(similarity.lincka, unbiased=False, samples="position")
  assert_close(value, jax.jit(biased)(*pair))


# --- Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda z: similarity.lincka(z[:3], z[:3]), "n = 3 samples: the unbiased HSIC needs 4"),
    (lambda z: similarity.gram_vectors([z[:3]]), "n = 3 samples"),
    (lambda z: similarity.gram_vectors([z, z[:5]]), r"taps have \[5, 8\] examples"),
    (lambda z: similarity.gram_vectors([]), "one or more taps"),
    (lambda z: similarity.gram_vectors([z], kernel="poly"), "'linear' and 'rbf'"),
    (lambda z: similarity.lincka(z, z[:5]), "8 examples and z_b 5"),
    (lambda z: similarity.lincka(z, z, samples="pixel"), "'example' and 'position'"),
    (lambda z: lincka_position(z, z[:, :1]), "all axes but the last"),
    (lambda z: similarity.expvar(z, z[..., :1]), "must be equal"),
    (lambda z: similarity.l2corr(z, z.astype(int)), "z_hat has dtype int"),
    (lambda z: similarity.moments(z, z[:1]), "all axes but the last"),
    (lambda z: similarity.r2_least_squares(z, z, weighting="sum"), "'channel' and 'variance'"),
    (lambda z: similarity.solve_affine(similarity.moments(z, z), -1.0), "ridge=-1.0"),
    (lambda z: similarity.cka_from_hsic(z[0, 0]), "square"),
  ],
)
def test_wrong_input_is_told_in_a_sentence(pair, call, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(call, pair[0])


def test_three_samples_are_enough_for_the_biased_form(pair):
  z, other = pair[0][:3], pair[1][:3]
  value = jax.jit(FUNCTIONS["lincka_biased"])(z, other)
  assert_close(value, oracle_lincka(z, other, hsic=oracle_biased_hsic))


class PureFunctions(chex.TestCase):
  """They are the same alone, compiled, and with arrays on a device."""

  @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
  def test_expvar_and_its_best_prediction(self):
    rng = np.random.default_rng(5)
    z, z_hat = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    value = self.variant(similarity.expvar)(z, z_hat)
    chex.assert_shape(value, ())
    chex.assert_type(value, jnp.float32)
    chex.assert_trees_all_close(value, jnp.float32(oracle_expvar(z, z_hat)), rtol=1e-5)
