"""Similarities at the edges of floating point: NaN, any scale, exact bounds, bad conditioning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dissim_jax import similarity
from dissim_jax.similarity import MEASURES
from dissim_jax.similarity.floats import bounded, unit_scale
from tests.test_similarity_family import (
  ACCUMULATED,
  EXAMPLE,
  MERGE,
  MOMENTS,
  POSITION,
  SUMS,
  UNEQUAL,
  VARIANTS,
  bound,
  canonical,
  equal_shapes,
  flat,
  from_batches,
  from_moments,
  gradients,
  jit,
  on_four_devices,
  oracle,
  oracle_procrustes,
  oracle_pwcca,
  oracle_r2,
  oracle_svcca,
  stream_options,
  sums_by_taps,
)

# Its eps is added to a sum of squares: of the authors' code, and not invariant.
SCALE_FREE = [name for name in VARIANTS if name != "expvar"]
STREAMED = [*POSITION, *EXAMPLE]


@pytest.fixture
def rng():
  return np.random.default_rng(7)


def assert_close(actual, desired, rtol=1e-4, atol=1e-6):
  np.testing.assert_allclose(np.asarray(actual), desired, rtol=rtol, atol=atol)


def streamed(name, taps):
  """`[L, L]` similarities of taps that are seen in two batches; of position measures above."""
  if name in EXAMPLE:
    return from_batches(name, SUMS, taps)
  matrix = np.full((len(taps), len(taps)), np.nan)
  for i in range(len(taps)):
    for j in range(i + 1, len(taps)):
      matrix[i, j] = from_moments(name, taps[i], taps[j])
  return matrix


# --- NaN in gives NaN out ------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_entry_that_is_not_finite_makes_the_value_nan(name, bad, rng):
  for side in (0, 1):
    pair = equal_shapes(rng)
    pair[side][3, 1, 0, 2] = bad
    assert np.isnan(gradients(name, *pair)[0]), f"side {side}"
    pair[1 - side][:] = 100.1  # Without variance, which alone gives 0.
    assert np.isnan(gradients(name, *pair)[0]), f"side {side}, the other constant"


@pytest.mark.parametrize("name", STREAMED)
def test_one_batch_that_is_not_finite_spoils_its_tap_and_no_other(name, rng):
  z, z_hat = equal_shapes(rng)
  broken, dead = z_hat.copy(), np.full_like(z, 100.1)
  taps = [z, z_hat, broken, dead]
  expected = streamed(name, taps)
  for bad in (np.nan, -np.inf):
    broken[9, 2, 1, 4] = bad
    found = streamed(name, taps)
    others = np.array([True, True, False, True])
    assert np.isnan(found[~others][:, others][0, 2:]).all() and np.isnan(found[:2, 2]).all()
    both = np.ix_(others, others)
    np.testing.assert_array_equal(found[both], expected[both])
  assert 0 < expected[0, 1] < 1 and expected[0, 3] == 0


# --- Any scale -----------------------------------------------------------------------------------

SCALES = ((1e-15, 1.0), (1.0, 1e15), (1e15, 1e-15), (1e-15, 1e-15), (1e15, 1e15))


@pytest.mark.parametrize("name", SCALE_FREE)
def test_scale_of_either_side_changes_nothing(name, rng):
  pair = equal_shapes(rng)
  before, unscaled = gradients(name, *pair)
  for scales in SCALES:
    scaled = [z * np.float32(s) for z, s in zip(pair, scales, strict=True)]
    value, slopes = gradients(name, *scaled)
    assert_close(value, before, rtol=3e-5)
    for slope, s, gradient in zip(slopes, scales, unscaled, strict=True):
      # Of unscaled input again; in float64, for the product may not be in the range of float32.
      slope = np.asarray(slope, np.float64) * s
      assert_close(slope, gradient, rtol=2e-3, atol=2e-4 * np.abs(gradient).max() + 1e-30)
  assert 0.02 < before < 0.98


def test_expvar_sees_the_scale(rng):
  """The negative control: eps is beside a sum of squares."""
  pair = [z * np.float32(1e-8) for z in equal_shapes(rng)]
  unscaled = gradients("expvar", *equal_shapes(rng))[0]
  assert gradients("expvar", *pair)[0] > unscaled + 0.2


@pytest.mark.parametrize("name", STREAMED)
def test_scale_of_streamed_taps_changes_nothing(name, rng):
  taps = 2 * equal_shapes(rng)  # Four, for which the test above compiled.
  before = streamed(name, taps)[0, 1]
  for scales in SCALES[1:3]:
    scaled = [z * np.float32(s) for z, s in zip(taps, 2 * scales, strict=True)]
    assert_close(streamed(name, scaled)[0, 1], before, rtol=3e-5)


@pytest.mark.parametrize("name", [n for n in STREAMED if n in MEASURES])
def test_batches_of_very_different_scale(name, rng):
  """Float64 sums of all batches; the first, which is large, alone is something else."""
  z, z_hat = equal_shapes(rng)
  large, small = np.float32(1e12), np.float32(3e-3)
  first, second = UNEQUAL
  z[first], z_hat[second] = z[first] * large, z_hat[second] * small
  found = streamed(name, [z, z_hat, z, z_hat])[0, 1]
  if bound(name)[0].pairwise is None:
    assert_close(found, oracle(name, z, z_hat))
    return
  sides = [[flat(side[part], "example") for part in UNEQUAL] for side in (z, z_hat)]
  assert_close(found, ACCUMULATED[name](*sides, **stream_options(name)), rtol=2e-4)


def test_lincka_of_many_features_of_large_scale(rng):
  x = rng.normal(size=(128, 4096)).astype(np.float32)
  y = (x[:, :300] + rng.normal(size=(128, 300))).astype(np.float32)
  lincka = jit(similarity.lincka)
  before = lincka(x, y)
  for s in (np.float32(1e15), np.float32(1e-15)):
    assert_close(lincka(x * s, y / s), before)
  assert 0.1 < before < 0.9


def test_unit_scale_is_a_power_of_two():
  numbers = np.float32([2e-38, 1e-15, 0.3, 1.0, 7e15, 8e37])
  scaled = numbers * np.asarray(unit_scale(jnp.asarray(numbers)))
  assert (scaled >= 0.25).all() and (scaled < 1).all()
  np.testing.assert_array_equal(np.frexp(scaled)[0], np.frexp(numbers)[0])
  assert (np.asarray(unit_scale(jnp.float32([0.0, np.nan, np.inf]))) == 1).all()


# --- Bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_identical_arrays_are_never_more_than_alike(name, rng):
  """Whatever rounding does; of thirty random arrays some are rounded up."""
  measure, _ = bound(name)
  for scale in rng.uniform(0.1, 10, 30):
    z = (equal_shapes(rng)[0] * scale).astype(np.float32)
    value = float(gradients(name, z, z)[0])
    assert 1 - 1e-5 < value <= measure.high
    assert np.isfinite(np.arccos(value))


def test_minibatch_cka_is_in_its_bounds(rng):
  taps = [z.astype(np.float32) for z in rng.normal(size=(20, 16, 40))]
  names = ("lincka", "rbfcka", "rsa")
  sums = sums_by_taps(names)
  for name in names:
    matrix = np.asarray(from_batches(name, sums, taps), np.float32)
    assert (np.abs(matrix) <= 1).all() and (matrix.diagonal() == 1).all()


def test_cut_at_a_bound_keeps_the_gradient():
  value, gradient = jax.value_and_grad(lambda x: bounded(2 * x, 0.0, 1.0))(jnp.float32(0.6))
  assert value == 1 and gradient == 2
  assert np.isnan(bounded(jnp.float32(np.nan), 0.0, 1.0))


# --- Conditioning --------------------------------------------------------------------------------


def conditioned(rng, condition, offset, n=2500, p=24, q=17):
  """Two related arrays whose covariances have this condition number, the smallest shared too."""
  hidden = np.linalg.qr(rng.normal(size=(n, p)))[0]
  hidden -= hidden.mean(0)
  x = hidden @ np.linalg.qr(rng.normal(size=(p, p)))[0]
  y = hidden @ rng.normal(size=(p, q)) + rng.normal(size=(n, q)) / n**0.5 * 3

  def stretched(z):
    u, _, vt = np.linalg.svd(z - z.mean(0), full_matrices=False)
    return n**0.5 * u * np.geomspace(1, condition**-0.5, len(vt)) @ vt

  return tuple((stretched(z) + offset).astype(np.float32) for z in (x, y))


CONDITIONED = {
  "cca": lambda x, y: canonical(x, y)[1].mean(),
  "cca_squared": lambda x, y: (canonical(x, y)[1] ** 2).mean(),
  "svcca": oracle_svcca,
  "pwcca": oracle_pwcca,
  "r2": oracle_r2,
  "procrustes": oracle_procrustes,
}
WHOLE = jit(lambda x, y: [MEASURES[name].function(x, y) for name in CONDITIONED])
SUMMED = jit(lambda m: [MEASURES[name].from_moments(m) for name in CONDITIONED])


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("condition", [1e2, 1e5, 1e7])
def test_bad_conditioning_within_1e_4_of_float64(condition, offset, rng):
  x, y = conditioned(rng, condition, offset)
  expected = [function(*(z.astype(float) for z in (x, y))) for function in CONDITIONED.values()]
  assert_close(WHOLE(x, y), expected, rtol=0, atol=1e-5)
  batches = [MOMENTS(x[part], y[part]) for part in np.array_split(np.arange(len(x)), 3)]
  assert_close(SUMMED(functools.reduce(MERGE, batches)), expected, rtol=0, atol=1e-5)


def test_blocks_of_samples_on_four_devices(rng):
  """More samples a device than are taken to float64 at once, and a rest."""
  x, y = conditioned(rng, 1e6, 3.0, n=4 * 1500, p=4, q=3)
  assert len(x) // 4 > similarity.moment_sums.sample_block()
  value, sharded = on_four_devices({"cca": similarity.cca})(x, y)["cca"]
  expected, slopes = jit(jax.value_and_grad(similarity.cca, argnums=(0, 1)))(x, y)
  assert_close(value, canonical(x.astype(float), y.astype(float))[1].mean(), atol=1e-5)
  assert_close(value, expected, rtol=1e-6)
  for gradient, slope in zip(sharded, slopes, strict=True):
    assert_close(gradient, slope, rtol=1e-3, atol=1e-3 * np.abs(slope).max())


def test_float32_sums_lose_what_float64_sums_keep(rng):
  """The negative control: it takes more than the sums that training makes."""
  x, y = conditioned(rng, 1e7, 0.0)
  plain = jit(functools.partial(similarity.moments, exact=False))(x, y)
  found = SUMMED(plain)[0]
  assert abs(found - canonical(x.astype(float), y.astype(float))[1].mean()) > 1e-3


def test_gradients_of_badly_conditioned_arrays(rng):
  """Against differences of the float64 oracle, along a direction that each side's smallest see."""
  pair = conditioned(rng, 1e5, 5.0)
  names = ("cca", "r2")
  slopes_of = [jax.grad(MEASURES[name].function, argnums=(0, 1)) for name in names]
  found = jit(lambda *pair: [slopes(*pair) for slopes in slopes_of])(*pair)
  for name, slopes in zip(names, found, strict=True):
    for side, gradient in enumerate(slopes):
      direction = np.asarray(gradient, np.float64)
      direction /= np.linalg.norm(direction)
      ends = []
      for step in (3e-4, -3e-4):
        moved = [z.astype(float) for z in pair]
        moved[side] += step * direction
        ends.append(CONDITIONED[name](*moved))
      assert_close((ends[0] - ends[1]) / 6e-4, np.vdot(gradient, direction), rtol=5e-3)


def test_directions_that_rounding_made_do_not_count(rng):
  """Channels that depend on others, far from the origin: rounding makes new directions of them."""
  base = rng.normal(size=(2000, 8))
  x = (base @ rng.normal(size=(8, 16)) + 1e4).astype(np.float32)
  y = (base[:, :5] + rng.normal(size=(2000, 5))).astype(np.float32)
  few = canonical(base, y.astype(float))[1].mean()
  assert_close(jit(similarity.cca)(x, y), few, atol=1e-4)
  assert_close(jit(similarity.cca)(x[:, :8], y), few, atol=1e-4)
