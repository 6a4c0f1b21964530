"""Similarities at the edges of floating point: scales, bounds, bad conditioning, many samples.

NaN, scales and bounds of all measures are in test_similarity_family.
"""

import functools

import jax
import numpy as np
import pytest

from dissim_jax import similarity
from dissim_jax.similarity import MEASURES
from dissim_jax.similarity.floats import bounded, unit_scale
from tests.measures import (
  MERGE,
  MOMENTS,
  ORACLES,
  assert_close,
  canonical,
  jit,
  on_four_devices,
)


@pytest.fixture
def rng():
  return np.random.default_rng(7)


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
  scales = np.asarray(jit(unit_scale)(np.append(numbers, np.float32([0.0, np.nan, np.inf]))))
  scaled = numbers * scales[:6]
  assert (scaled >= 0.25).all() and (scaled < 1).all()
  np.testing.assert_array_equal(np.frexp(scaled)[0], np.frexp(numbers)[0])
  assert (scales[6:] == 1).all()


def test_cut_at_a_bound_keeps_the_gradient():
  cut = jit(jax.value_and_grad(lambda x: bounded(2 * x, 0.0, 1.0)))
  assert cut(np.float32(0.6)) == (1, 2)
  assert np.isnan(cut(np.float32(np.nan))[0])


# --- Conditioning --------------------------------------------------------------------------------


def conditioned(rng, condition, offset, n=1200, p=24, q=17):
  """Two related arrays whose covariances have this condition number, the smallest shared too."""
  hidden = np.linalg.qr(rng.normal(size=(n, p)))[0]
  hidden -= hidden.mean(0)
  x = hidden @ np.linalg.qr(rng.normal(size=(p, p)))[0]
  y = hidden @ rng.normal(size=(p, q)) + rng.normal(size=(n, q)) / n**0.5 * 3

  def stretched(z):
    u, _, vt = np.linalg.svd(z - z.mean(0), full_matrices=False)
    return n**0.5 * u * np.geomspace(1, condition**-0.5, len(vt)) @ vt

  return tuple((stretched(z) + offset).astype(np.float32) for z in (x, y))


CONDITIONED = ("cca", "cca_squared", "svcca", "pwcca", "r2", "procrustes")
WHOLE = jit(lambda x, y: [MEASURES[name].function(x, y) for name in CONDITIONED])
SUMMED = jit(lambda m: [MEASURES[name].from_moments(m) for name in CONDITIONED])


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("condition", [1e2, 1e5, 1e7])
def test_bad_conditioning_within_1e_4_of_float64(condition, offset, rng):
  x, y = conditioned(rng, condition, offset)
  expected = [ORACLES[name](x.astype(float), y.astype(float)) for name in CONDITIONED]
  assert_close(WHOLE(x, y), expected, rtol=0, atol=1e-5)
  batches = [MOMENTS(x[part], y[part]) for part in np.split(np.arange(len(x)), 4)]
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
  plain = functools.partial(similarity.moments, exact=False)
  found = jit(lambda *pair: similarity.cca_from_moments(plain(*pair)))(x, y)
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
        ends.append(ORACLES[name](*moved))
      assert_close((ends[0] - ends[1]) / 6e-4, np.vdot(gradient, direction), rtol=5e-3)


def test_directions_that_rounding_made_do_not_count(rng):
  """Channels that depend on others, far from the origin: rounding makes new directions of them."""
  base = rng.normal(size=(2000, 8))
  x = (base @ rng.normal(size=(8, 16)) + 1e4).astype(np.float32)
  y = (base[:, :5] + rng.normal(size=(2000, 5))).astype(np.float32)
  few = canonical(base, y.astype(float))[1].mean()
  cca = jit(similarity.cca)
  assert_close(cca(x, y), few, atol=1e-4)
  assert_close(cca(np.where(np.arange(16) < 8, x, x[0]), y), few, atol=1e-4)
