"""All measures of the registry: oracles, invariances, streams, NaN, any scale, exact bounds.

A measure that is added to the registry is tested here as soon as it has an oracle. Compiling the
programs of all measures takes long, so all tests of them are in this file.
"""

import functools
import inspect

import jax
import numpy as np
import pytest
import scipy

from dissim_jax import similarity
from dissim_jax.configs import default
from dissim_jax.similarity import MEASURES, PENALTIES
from tests.measures import (
  ACCUMULATED,
  EXAMPLE,
  MERGE,
  MOMENTS,
  ORACLES,
  POSITION,
  POSITIONS,
  UNEQUAL,
  VARIANTS,
  N,
  assert_close,
  bound,
  canonical,
  equal_shapes,
  flat,
  jit,
  kind,
  on_four_devices,
  oracle,
  oracle_rsa,
  random_pair,
  remembered,
  stream_options,
  together,
  unit,
)

_VALUES = {
  k: together({name: bound(name)[1] for name in VARIANTS if kind(name) == k})
  for k in set(map(kind, VARIANTS))
}
# `gradients(name, z, z_hat)`: value, and gradients for both; of `equal_shapes`.
gradients = together({n: jax.value_and_grad(bound(n)[1], argnums=(0, 1)) for n in VARIANTS})


def value_of_pair(name, z, z_hat):
  """The value for shapes of `random_pair`."""
  return _VALUES[kind(name)](name, z, z_hat)


PENALTY_VARIANTS = [
  name
  for name, (measure, options) in VARIANTS.items()
  if measure in PENALTIES and "ranks" not in options
]


@pytest.fixture
def rng():
  return np.random.default_rng(5)


def value_of(name, z, z_hat):
  return gradients(name, z, z_hat)[0]


# --- All measures --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_agrees_with_its_oracle(name, rng):
  pair = random_pair(name, rng)
  value = value_of_pair(name, *pair)
  assert value.dtype == np.float32 and value.shape == ()
  expected = oracle(name, *pair)
  assert_close(value, expected)
  assert 0.02 < abs(expected) < 0.98, "a test at the bounds would tell little"


@pytest.mark.parametrize("name", [n for n in VARIANTS if n not in ("expvar", "relative")])
def test_features_far_from_zero(name, rng):
  pair = [a + np.float32(100) for a in random_pair(name, rng)]
  assert_close(value_of_pair(name, *pair), oracle(name, *pair), rtol=5e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_bounds_and_symmetry_of_the_registry(name, rng):
  measure, _ = bound(name)
  z, z_hat = equal_shapes(rng)
  value = value_of(name, z, z_hat)
  assert_close(value_of(name, z, z), measure.high, rtol=1e-5)
  assert measure.low < value < measure.high
  difference = abs(value_of(name, z_hat, z) - value)
  assert difference < 2e-6 if measure.symmetric else difference > 1e-4


def test_registry_is_complete():
  options = default.get_config().dissim.options
  assert set(ORACLES) == set(MEASURES)
  assert set(PENALTIES) == {n for n, m in MEASURES.items() if m.penalty} == set(options)
  assert {n for n, m in MEASURES.items() if m.aligned} == {"expvar", "l2corr", "l2corr_squared"}
  assert set(MEASURES) - set(PENALTIES) == {"svcca", "pwcca", "jaccard"}
  for name, measure in MEASURES.items():
    assert measure.name == name and measure.describe
    assert measure.samples in ("example", "position")
    assert (measure.pairwise is not None) == (measure.samples == "example")
    streamed = measure.samples == "position" and not measure.aligned
    assert (measure.from_moments is not None) == streamed
    arguments = inspect.signature(measure.function).parameters
    for key, value in options.get(name, {}).items():
      assert arguments[key].default == value, f"{name}.{key}"


_UPDATES = {n: functools.partial(bound(n)[0].pairwise.update, **stream_options(n)) for n in EXAMPLE}
# `sums(name, *taps)`: what a batch of taps adds to the stream of a measure; of `stream_taps`.
sums = remembered(jit(lambda *taps: {n: update([*taps]) for n, update in _UPDATES.items()}))
_FROM_MOMENTS = jit(
  lambda total: {n: bound(n)[0].from_moments(total, **VARIANTS[n][1]) for n in POSITION}
)


def stream_taps(rng):
  """Four taps: a related pair, one without variance, one of its own."""
  taps = (*random_pair("lincka", rng), np.full((N, 4), 100.1), rng.normal(size=(N, 9)) - 3)
  return [tap.astype(np.float32) for tap in taps]


def from_batches(name, taps):
  """The `[L, L]` matrix of an example measure, by float64 sums over two batches."""
  parts = [sums(name, *(tap[part] for tap in taps)) for part in UNEQUAL]
  total = jax.tree.map(lambda *s: np.sum([np.asarray(a, np.float64) for a in s], axis=0), *parts)
  return bound(name)[0].pairwise.finish(total)


@remembered
def from_moments(z, z_hat):
  """`from_moments(name, z, z_hat)`: a position measure, by the merged moments of two batches."""
  return _FROM_MOMENTS(MERGE(*(MOMENTS(z[part], z_hat[part]) for part in UNEQUAL)))


def streamed(name, z, z_hat, rng):
  """The value of a `random_pair` that is seen in two batches."""
  if name in POSITION:
    return from_moments(name, z, z_hat)
  return from_batches(name, [z, z_hat, *stream_taps(rng)[2:]])[0, 1]


@pytest.mark.parametrize("name", POSITION)
def test_moments_of_batches_give_the_value_of_all(name, rng):
  pair = random_pair(name, rng)
  assert_close(from_moments(name, *pair), value_of_pair(name, *pair), rtol=1e-5)


@pytest.mark.parametrize("name", EXAMPLE)
def test_sums_of_batches_are_the_definition(name, rng):
  taps = stream_taps(rng)
  matrix = from_batches(name, taps)
  assert matrix.shape == (4, 4) and matrix.dtype == np.float64
  assert_close(matrix, matrix.T)
  assert (matrix[2] == 0).all()
  for i, j in ((0, 1), (1, 3), (0, 0)):
    pair = [[flat(taps[index][part], "example") for part in UNEQUAL] for index in (i, j)]
    expected = ACCUMULATED[VARIANTS[name][0]](*pair, **stream_options(name))
    assert_close(matrix[i, j], expected, rtol=2e-4)


IN_TEST_SIMILARITY = ("expvar", "l2corr", "l2corr_squared", "lincka")
ON_DEVICES = [name for name in MEASURES if name not in IN_TEST_SIMILARITY]


@remembered
def found_on_four_devices(z, z_hat):
  return on_four_devices({name: MEASURES[name].function for name in ON_DEVICES})(z, z_hat)


@pytest.mark.parametrize("name", ON_DEVICES)
def test_four_devices_equal_one(name, rng):
  pair = equal_shapes(rng)
  expected, slopes = gradients(name, *pair)
  value, sharded = found_on_four_devices(name, *pair)
  assert_close(value, expected, rtol=5e-6)
  for actual, desired in zip(sharded, slopes, strict=True):
    assert_close(actual, desired, rtol=1e-3, atol=1e-4 * np.abs(desired).max())


# --- Gradients and degenerate input --------------------------------------------------------------


@pytest.mark.parametrize("name", PENALTY_VARIANTS)
def test_gradients_of_penalties(name, rng):
  """Against central differences along random directions of either argument."""
  pair = equal_shapes(rng)
  _, slopes = gradients(name, *pair)
  for side, gradient in enumerate(slopes):
    # Partly along the gradient, so that there is something to see above float32's rounding.
    direction = rng.normal(size=gradient.shape) / gradient.size**0.5
    direction += np.asarray(gradient) / np.linalg.norm(gradient)
    ends = []
    for eps in (0.01, -0.01):
      moved = [*pair]
      moved[side] = (pair[side] + eps * direction).astype(np.float32)
      ends.append(float(value_of(name, *moved)))
    expected = np.vdot(gradient, direction)
    assert abs(expected) > 1e-4
    assert_close((ends[0] - ends[1]) / 0.02, expected, rtol=5e-3, atol=2e-5)


def degenerate_pairs(name, rng):
  """Dead, constant, repeated and dependent channels, on either side."""
  z, z_hat = equal_shapes(rng)
  # 100.1 is not a float32, and the float32 mean of a hundred of them is not that float32 either.
  dead = [np.full_like(a, 100.1) for a in (z, z_hat)]
  partly = np.where(np.arange(5) == 2, dead[0], z)
  few = z.copy()
  few[..., 3:] = few[..., :2]
  zero = np.zeros_like(z)
  return {
    "dead": [(dead[0], z_hat), (z, dead[1]), tuple(dead), (zero, z_hat), (zero, dead[1])],
    "partly": [(partly, z_hat), (few, z_hat), (z, z)],
  }


@pytest.mark.parametrize("name", VARIANTS)
def test_degenerate_input_gives_finite_values_and_gradients(name, rng):
  measure, _ = bound(name)
  pairs = degenerate_pairs(name, rng)
  for case, pair in ((k, p) for k in pairs for p in pairs[k]):
    value, slopes = gradients(name, *pair)
    assert measure.low - 0.5 <= value <= measure.high + 1e-5
    assert all(np.isfinite(g).all() for g in slopes)
    if case == "dead" and name != "expvar":
      assert value == 0
      assert all((g == 0).all() for g in slopes)


def of_four_samples(function):
  """With gradients; of four samples there are two neighbours to choose."""
  if "k" in inspect.signature(function).parameters:
    function = functools.partial(function, k=2)
  return jax.value_and_grad(function, argnums=(0, 1))


FOUR_SAMPLES = together({name: of_four_samples(m.function) for name, m in MEASURES.items()})


@pytest.mark.parametrize("name", MEASURES)
def test_four_samples_of_more_channels(name, rng):
  z, z_hat = rng.normal(size=(2, 4, 9)).astype(np.float32)
  for pair in ((z, z_hat), (z, np.zeros_like(z))):
    value, slopes = FOUR_SAMPLES(name, *pair)
    # The unbiased estimates of four samples may be anything down to -1.
    assert -1 <= value <= MEASURES[name].high + 1e-5
    assert all(np.isfinite(g).all() for g in slopes)
  if name in ("cca", "cca_squared", "svcca", "pwcca", "r2"):
    assert_close(FOUR_SAMPLES(name, z, z_hat)[0], 1, rtol=1e-4)


CANONICAL = ("cca", "cca_squared", "svcca")
WIDENED = together({name: MEASURES[name].function for name in CANONICAL})


@pytest.mark.parametrize("name", CANONICAL)
def test_repeated_and_constant_channels_change_nothing(name, rng):
  z, z_hat = random_pair(name, rng)
  before = value_of_pair(name, z, z_hat)
  extra = {
    "repeated": np.concatenate([z, np.full_like(z[..., :1], 7.3)], -1),
    "dependent": z @ rng.normal(size=(5, 6)),
    "new": rng.normal(size=(*POSITIONS, 6)),
  }
  for case, channels in extra.items():
    after = WIDENED(name, np.concatenate([z, channels.astype(np.float32)], -1), z_hat)
    if case == "new":
      assert abs(after - before) > 1e-3
    elif (case, name) != ("dependent", "svcca"):
      assert_close(after, before)


def test_rank_is_found_among_many_samples(rng):
  """Rounding that adds up over many batches is not taken for a direction."""
  mixing = rng.normal(size=(8, 16)).astype(np.float32)
  total, features = similarity.empty_moments(16, 6), []
  for _ in range(20):
    base = rng.normal(size=(4096, 8)).astype(np.float32)
    other = base[:, :6] + rng.normal(size=(4096, 6)).astype(np.float32)
    features.append((base @ mixing + 20, other))
    total = MERGE(total, MOMENTS(*features[-1]))
  spectrum = similarity.spectrum.correlation_spectrum
  (*_, kept), found = jit(lambda m: (spectrum(m.xx), similarity.cca_from_moments(m)))(total)
  assert int(kept.sum()) == 8
  x, y = (np.concatenate(side).astype(float) for side in zip(*features, strict=True))
  x = np.linalg.svd(x - x.mean(0), full_matrices=False)[0][:, :8]
  assert_close(found, canonical(x, y)[1].mean())


# --- Invariances, each with its negative control -------------------------------------------------

MAPS = {
  "orthogonal": lambda z, rng: z @ np.linalg.qr(rng.normal(size=(5, 5)))[0],
  "scale": lambda z, rng: 3 * z,
  "offset": lambda z, rng: z + [1, -2, 0.5, 3, 1],
  "channel scales": lambda z, rng: z * [3, 0.2, 1, 7, 2],
  "linear": lambda z, rng: MAPS["orthogonal"](MAPS["channel scales"](z, rng), rng),
  "example scales": lambda z, rng: z * rng.uniform(0.3, 2, size=(N, 1, 1, 1)),
  "example offsets": lambda z, rng: z + rng.normal(size=(N, 1, 1, 1)),
  "square": lambda z, rng: z**2,
}
ROTATIONS = ("orthogonal", "scale", "offset")
AFFINE = (*ROTATIONS, "channel scales", "linear")
# Of each measure: the maps of the first argument that keep the value, and those that must not.
INVARIANCES = {
  "lincka": (ROTATIONS, ("channel scales", "linear")),
  "lincka_position": (ROTATIONS, ("channel scales", "linear")),
  "rbfcka": (ROTATIONS, ("channel scales", "linear")),
  "cca": (AFFINE, ("square",)),
  "cca_squared": (AFFINE, ("square",)),
  "svcca 0.8": (ROTATIONS, ("channel scales", "linear")),
  "pwcca": (("scale", "offset"), ("channel scales", "linear")),
  "r2": (("scale", "offset", "channel scales"), ("linear",)),
  "r2 variance": (ROTATIONS, ("channel scales", "linear")),
  "procrustes": (ROTATIONS, ("channel scales", "linear")),
  "rsa": (("scale", "example scales", "example offsets"), ("offset", "linear")),
  "rsa euclidean": (ROTATIONS, ("example scales", "linear")),
  "rsa ranks": (("scale", "example scales", "example offsets"), ("offset", "linear")),
  "relative": (("orthogonal", "scale", "example scales"), ("offset", "linear")),
  "relative centered": (ROTATIONS, ("example scales", "linear")),
  "jaccard": (("orthogonal", "scale", "example scales"), ("linear",)),
  "jaccard euclidean": (ROTATIONS, ("linear",)),
}


@pytest.mark.parametrize("name", INVARIANCES)
def test_invariances(name, rng):
  z, z_hat = equal_shapes(rng)
  before = value_of(name, z, z_hat)
  kept, changed = INVARIANCES[name]
  for mapping in (*kept, *changed):
    after = value_of(name, MAPS[mapping](z, rng).astype(np.float32), z_hat)
    if mapping in kept:
      assert_close(after, before, rtol=2e-4)
    else:
      assert abs(after - before) > 2e-3, mapping


def test_every_measure_without_alignment_has_its_invariances():
  tested = {VARIANTS[name][0] for name in INVARIANCES}
  assert tested == {name for name, measure in MEASURES.items() if not measure.aligned}


@pytest.mark.parametrize("name", ["pwcca", "r2"])
def test_second_argument_may_be_any_affine_map(name, rng):
  z, z_hat = random_pair(name, rng)
  mixing = (rng.normal(size=(7, 7)) + 2 * np.eye(7)).astype(np.float32)
  before = value_of_pair(name, z, z_hat)
  assert_close(value_of_pair(name, z, z_hat @ mixing - 3), before)
  assert abs(value_of_pair(name, z, z_hat**2) - before) > 1e-2


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


@pytest.mark.parametrize("name", EXAMPLE)
def test_one_batch_that_is_not_finite_spoils_its_tap_and_no_other(name, rng):
  taps = stream_taps(rng)
  expected = from_batches(name, taps)
  for bad in (np.nan, -np.inf):
    broken = taps[3].copy()
    broken[9, 4] = bad
    found = from_batches(name, [*taps[:3], broken])
    assert np.isnan(found[3]).all() and np.isnan(found[:, 3]).all()
    np.testing.assert_array_equal(found[:3, :3], expected[:3, :3])
  assert 0 < expected[0, 1] < 1 and expected[0, 2] == 0 and abs(expected[0, 3]) < 1


@pytest.mark.parametrize("name", POSITION)
def test_one_batch_that_is_not_finite_makes_the_value_nan(name, rng):
  for side in (0, 1):
    for bad in (np.nan, -np.inf):
      pair = random_pair(name, rng)
      assert 0 < from_moments(name, *pair) < 1
      pair[side][9, 2, 1, 4] = bad
      assert np.isnan(from_moments(name, *pair)), f"side {side}"
      pair[1 - side][:] = 100.1  # Without variance, which alone gives 0.
      assert np.isnan(from_moments(name, *pair)), f"side {side}, the other constant"
      pair[side][9, 2, 1, 4] = 1.0
      assert from_moments(name, *pair) == 0


# --- Any scale -----------------------------------------------------------------------------------

# Its eps is added to a sum of squares: of the authors' code, and not invariant.
SCALE_FREE = [name for name in VARIANTS if name != "expvar"]
STREAMED = [*POSITION, *EXAMPLE]

SCALES = ((1e-15, 1.0), (1.0, 1e15), (1e15, 1e-15), (1e-15, 1e-15), (1e15, 1e15))


@pytest.mark.parametrize("name", SCALE_FREE)
def test_scale_of_either_side_changes_nothing(name):
  pair = equal_shapes(np.random.default_rng(7))  # Of all measures far from a bound.
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
  pair = random_pair(name, rng)
  before = streamed(name, *pair, rng)
  for scales in SCALES[1:3]:
    scaled = [z * np.float32(s) for z, s in zip(pair, scales, strict=True)]
    assert_close(streamed(name, *scaled, rng), before, rtol=3e-5)


@pytest.mark.parametrize("name", [n for n in STREAMED if n in MEASURES])
def test_batches_of_very_different_scale(name, rng):
  """Float64 sums of all batches; the first, which is large, alone is something else."""
  z, z_hat = random_pair(name, rng)
  large, small = np.float32(1e12), np.float32(3e-3)
  first, second = UNEQUAL
  z[first], z_hat[second] = z[first] * large, z_hat[second] * small
  found = streamed(name, z, z_hat, rng)
  if bound(name)[0].pairwise is None:
    assert_close(found, oracle(name, z, z_hat))
    return
  sides = [[flat(side[part], "example") for part in UNEQUAL] for side in (z, z_hat)]
  assert_close(found, ACCUMULATED[name](*sides, **stream_options(name)), rtol=2e-4)


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


@pytest.mark.parametrize("name", ["lincka", "rbfcka", "rsa"])
def test_minibatch_cka_is_in_its_bounds(name, rng):
  shapes = [tap.shape for tap in stream_taps(rng)]
  for _ in range(10):
    taps = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    matrix = np.asarray(from_batches(name, taps), np.float32)
    assert (np.abs(matrix) <= 1).all() and (matrix.diagonal() == 1).all()


# --- Procrustes and single functions -------------------------------------------------------------


def test_procrustes_distances_agree_with_scipy(rng):
  z, z_hat = random_pair("procrustes", rng)
  x, y = flat(z, "position"), flat(z_hat, "position")
  padded = np.pad(x, ((0, 0), (0, 2)))
  # SciPy's disparity leaves the scale of the second free: 1 - s^2.
  disparity = scipy.spatial.procrustes(padded, y)[2]
  assert_close(value_of_pair("procrustes", z, z_hat) ** 2, 1 - disparity)
  rotation, _ = scipy.linalg.orthogonal_procrustes(unit(y), unit(padded))
  distance = np.linalg.norm(unit(padded) - unit(y) @ rotation)
  distances = jit(
    lambda *pair: (
      similarity.procrustes_distance(*pair),
      similarity.procrustes_distance_squared(*pair),
    )
  )
  assert_close(distances(z, z_hat)[0], distance)
  centered = padded - padded.mean(0)
  squared = np.linalg.norm(centered - (y - y.mean(0)) @ rotation) ** 2
  assert_close(distances(z, z_hat)[1], squared)
  assert distances(z, padded.reshape(z_hat.shape).astype(np.float32))[0] < 2e-3
  assert_close(distances(z, np.zeros_like(z_hat))[0], np.sqrt(2))


def test_nuclear_norm_of_a_singular_matrix(rng):
  matrix = (rng.normal(size=(5, 2)) @ rng.normal(size=(2, 7))).astype(np.float32)
  value, gradient = jit(jax.value_and_grad(similarity.nuclear_norm))(matrix)
  assert_close(value, np.linalg.norm(matrix.astype(float), "nuc"))
  u, _, vt = np.linalg.svd(matrix.astype(float))
  assert_close(gradient, u[:, :2] @ vt[:2], atol=1e-5)


def test_ties_share_their_ranks(rng):
  """Points on a grid have many equal distances."""
  x = np.array([(i % 4, i // 4) for i in range(12)], np.float32)
  y = np.array([(i % 3, i % 5, i % 2) for i in range(12)], np.float32)
  expected = oracle_rsa(x.astype(float), y.astype(float), "euclidean", ranks=True)
  value = jit(functools.partial(similarity.rsa, distance="euclidean", ranks=True))(x, y)
  assert_close(value, expected, atol=2e-3)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda z: similarity.jaccard(z, z, k=16), "k=16 neighbours of n = 16 examples"),
    (lambda z: similarity.jaccard(z, z, distance="cos"), "'cosine' and 'euclidean'"),
    (lambda z: similarity.rsa(z, z, distance="cosine"), "'correlation' and 'euclidean'"),
    (lambda z: similarity.rsa(z[:2], z[:2]), "n = 2 examples"),
    (lambda z: similarity.rsa(z, z[:4]), "16 examples and z_b 4"),
    (lambda z: similarity.relative(z, z[:4]), "16 examples and z_b 4"),
    (lambda z: similarity.rbfcka(z, z, bandwidth=0.0), "bandwidth=0.0"),
    (lambda z: similarity.rbfcka(z[:3], z[:3]), "n = 3 samples"),
    (lambda z: similarity.rbfcka(z[:1], z[:1], unbiased=False), "n = 1 samples"),
    (lambda z: similarity.svcca(z, z, variance=0.0), "variance=0.0"),
    (lambda z: similarity.cca(z, z[:, :1]), "all axes but the last"),
    (lambda z: similarity.procrustes(z, z[:1]), "all axes but the last"),
    (lambda z: MEASURES["lincka"].pairwise.update([z], samples="position"), "lincka_position"),
    (lambda z: MEASURES["rbfcka"].pairwise.update([z], samples="position"), "by example"),
    (lambda z: MEASURES["rsa"].pairwise.update([]), "one or more taps"),
  ],
)
def test_wrong_input_is_told_in_a_sentence(rng, call, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(call, rng.normal(size=(N, 3, 5)).astype(np.float32))
