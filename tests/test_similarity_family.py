"""All measures of the registry: float64 oracles of SciPy and scikit-learn, invariances, streams.

A measure that is added to the registry is tested here as soon as it has an oracle.
"""

import functools
import inspect

import jax
import numpy as np
import pytest
import scipy
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import NearestNeighbors

from configs import default
from dissim_jax import similarity
from dissim_jax.similarity import MEASURES, PENALTIES

N = 16  # examples; more than the 10 neighbours of jaccard
POSITIONS = (N, 3, 2)

# Options under test beside the defaults, by a name of their own.
VARIANTS = {name: (name, {}) for name in MEASURES} | {
  "lincka biased": ("lincka", {"unbiased": False}),
  "rbfcka biased": ("rbfcka", {"unbiased": False, "bandwidth": 0.4}),
  "svcca 0.8": ("svcca", {"variance": 0.8}),
  "r2 variance": ("r2", {"weighting": "variance"}),
  "rsa euclidean": ("rsa", {"distance": "euclidean"}),
  "rsa ranks": ("rsa", {"ranks": True}),
  "relative centered": ("relative", {"centered": True}),
  "jaccard euclidean": ("jaccard", {"distance": "euclidean", "k": 3}),
}


def bound(name):
  """The measure and its function with the variant's options."""
  measure, options = VARIANTS[name]
  return MEASURES[measure], functools.partial(MEASURES[measure].function, **options)


# Compiled quickly rather than well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
MOMENTS, MERGE = jit(similarity.moments), jit(similarity.merge_moments)


def remembered(program):
  """Of a program of all measures `found(name, *arrays)`: tests of others give the same arrays."""
  known = {}

  def found(name, *arrays):
    key = tuple((z.shape, z.tobytes()) for z in arrays)
    if key not in known:
      known[key] = jax.device_get(program(*arrays))
    return known[key][name]

  return found


def together(names, wrap=lambda function: function):
  """One program of many measures, which share what they have in common: compiled much faster."""
  functions = {name: wrap(bound(name)[1]) for name in names}
  return remembered(jit(lambda *pair: {name: f(*pair) for name, f in functions.items()}))


def kind(name):
  """What decides of which shapes a measure takes pairs: see `random_pair`."""
  measure = bound(name)[0]
  return "aligned" if measure.aligned else measure.samples


_VALUES = {k: together([n for n in VARIANTS if kind(n) == k]) for k in set(map(kind, VARIANTS))}
# `gradients(name, z, z_hat)`: value, and gradients for both; of `equal_shapes`.
gradients = together(VARIANTS, lambda f: jax.value_and_grad(f, argnums=(0, 1)))


def value_of_pair(name, z, z_hat):
  """The value for shapes of `random_pair`."""
  return _VALUES[kind(name)](name, z, z_hat)


PENALTY_VARIANTS = [
  name for name, (measure, options) in VARIANTS.items()
  if measure in PENALTIES and "ranks" not in options
]  # fmt: skip


@pytest.fixture
def rng():
  return np.random.default_rng(5)


def random_pair(name, rng, noise=1.0):
  """Two related representations, of shapes as unlike as the measure allows, scaled and offset."""
  z = rng.normal(size=(*POSITIONS, 5)) * [1, 0.3, 2, 1, 0.5] + 1
  mixed = z @ rng.normal(size=(5, 7)) / 2 + noise * rng.normal(size=(*POSITIONS, 7))
  if kind(name) == "aligned":
    mixed = mixed[..., :5]
  elif kind(name) == "example":
    mixed = mixed[:, 1:].reshape(N, -1)
  return z.astype(np.float32), mixed.astype(np.float32)


def equal_shapes(rng):
  """Two related representations of one shape, which most tests share."""
  z = rng.normal(size=(*POSITIONS, 5)) * [1, 0.3, 2, 1, 0.5] + 1
  mixed = z + z @ rng.normal(size=(5, 5)) / 2 + 0.7 * rng.normal(size=z.shape)
  return z.astype(np.float32), mixed.astype(np.float32)


def value_of(name, z, z_hat):
  return gradients(name, z, z_hat)[0]


def assert_close(actual, desired, rtol=1e-4, atol=1e-6):
  np.testing.assert_allclose(np.asarray(actual), desired, rtol=rtol, atol=atol)


# --- Oracles in float64 --------------------------------------------------------------------------


def flat(z, samples):
  z = np.asarray(z, np.float64)
  return z.reshape(len(z), -1) if samples == "example" else z.reshape(-1, z.shape[-1])


def celu(x):
  return np.maximum(0, x) + np.minimum(0, np.exp(x) - 1)


def correlations(x, y):
  return np.array([scipy.stats.pearsonr(a, b).statistic for a, b in zip(x.T, y.T, strict=True)])


def oracle_expvar(x, y):
  sse, sst = ((x - y) ** 2).sum(0), ((x - x.mean(0)) ** 2).sum(0)
  return celu(1 - sse / (sst + 1e-4)).mean()


def hsic(k, l, unbiased):  # noqa: E741
  """Song et al. 2012 as written, or the trace of centred matrices."""
  n = len(k)
  if not unbiased:
    h = np.eye(n) - 1 / n
    return np.trace(k @ h @ l @ h) / (n - 1) ** 2
  k, l, one = k - np.diag(np.diag(k)), l - np.diag(np.diag(l)), np.ones(n)  # noqa: E741
  total = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
  return (np.trace(k @ l) + total - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))


def linear_kernel(x):
  return (x - x.mean(0)) @ (x - x.mean(0)).T


def rbf_kernel(x, bandwidth=0.8):
  distances = pdist(x)
  return np.exp(-squareform(distances) ** 2 / (2 * (bandwidth * np.median(distances)) ** 2))


def oracle_cka(x, y, kernel=linear_kernel, unbiased=True, **options):
  k, l = kernel(x, **options), kernel(y, **options)  # noqa: E741
  return hsic(k, l, unbiased) / np.sqrt(hsic(k, k, unbiased) * hsic(l, l, unbiased))


def canonical(x, y):
  """Canonical variables of x and all min(p, q) correlations, by bases and a decomposition."""
  x_basis, y_basis = (scipy.linalg.orth(a - a.mean(0)) for a in (x, y))
  u, rho, _ = np.linalg.svd(x_basis.T @ y_basis, full_matrices=False)
  return x_basis @ u, rho


def principal(x, variance):
  u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
  share = np.cumsum(s**2) / np.sum(s**2)
  kept = int(np.argmax(share >= variance)) + 1
  return u[:, :kept] * s[:kept]


def oracle_svcca(x, y, variance=0.99):
  return canonical(principal(x, variance), principal(y, variance))[1].mean()


def oracle_pwcca(x, y):
  h, rho = canonical(x, y)
  alpha = [sum(abs(h_i @ x_j) for x_j in (x - x.mean(0)).T) for h_i in h.T]
  return np.average(rho, weights=alpha)


def oracle_r2(x, y, weighting="channel"):
  residual = x - LinearRegression().fit(y, x).predict(y)
  if weighting == "variance":
    return 1 - residual.var(0).sum() / x.var(0).sum()
  return (1 - residual.var(0) / x.var(0)).mean()


def unit(x):
  x = x - x.mean(0)
  return x / np.linalg.norm(x)


def oracle_procrustes(x, y):
  width = max(x.shape[1], y.shape[1])
  x, y = (np.pad(unit(a), ((0, 0), (0, width - a.shape[1]))) for a in (x, y))
  return scipy.linalg.orthogonal_procrustes(x, y)[1]


def oracle_rsa(x, y, distance="correlation", ranks=False):
  correlation = scipy.stats.spearmanr if ranks else scipy.stats.pearsonr
  return correlation(pdist(x, distance), pdist(y, distance)).statistic


def oracle_relative(x, y, centered=False):
  if centered:
    x, y = x - x.mean(0), y - y.mean(0)
  r, s = (1 - cdist(a, a, "cosine") for a in (x, y))
  return np.mean([1 - scipy.spatial.distance.cosine(a, b) for a, b in zip(r, s, strict=True)])


def oracle_jaccard(x, y, k=10, distance="cosine"):
  search = NearestNeighbors(n_neighbors=k, metric=distance)
  sets = [[set(row) for row in search.fit(a).kneighbors(return_distance=False)] for a in (x, y)]
  return np.mean([len(a & b) / len(a | b) for a, b in zip(*sets, strict=True)])


ORACLES = {
  "expvar": oracle_expvar,
  "l2corr": lambda x, y: celu(correlations(x, y)).mean(),
  "l2corr_squared": lambda x, y: (correlations(x, y) ** 2).mean(),
  "lincka": oracle_cka,
  "lincka_position": functools.partial(oracle_cka, unbiased=False),
  "rbfcka": functools.partial(oracle_cka, kernel=rbf_kernel),
  "cca": lambda x, y: canonical(x, y)[1].mean(),
  "cca_squared": lambda x, y: (canonical(x, y)[1] ** 2).mean(),
  "svcca": oracle_svcca,
  "pwcca": oracle_pwcca,
  "r2": oracle_r2,
  "procrustes": oracle_procrustes,
  "rsa": oracle_rsa,
  "relative": oracle_relative,
  "jaccard": oracle_jaccard,
}


def oracle(name, z, z_hat):
  measure, options = VARIANTS[name]
  x, y = (flat(a, MEASURES[measure].samples) for a in (z, z_hat))
  return ORACLES[measure](x, y, **options)


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


EXAMPLE = [name for name in VARIANTS if bound(name)[0].pairwise is not None]
POSITION = [name for name in VARIANTS if bound(name)[0].from_moments is not None]
UNEQUAL = (slice(0, 6), slice(6, N))  # batches


def stream_options(name):
  """Of a variant; batches are too small for the default number of neighbours."""
  return VARIANTS[name][1] | ({"k": 3} if name.startswith("jaccard") else {})


def sums_by_taps(names):
  """`sums(name, *taps)`: what a batch of taps adds to the stream of a measure; one program."""
  updates = {n: functools.partial(bound(n)[0].pairwise.update, **stream_options(n)) for n in names}
  return remembered(jit(lambda *taps: {n: update([*taps]) for n, update in updates.items()}))


def from_batches(name, sums, taps):
  """The `[L, L]` matrix of an example measure, by float64 sums over two batches."""
  parts = [sums(name, *(tap[part] for tap in taps)) for part in UNEQUAL]
  total = jax.tree.map(lambda *s: np.sum([np.asarray(a, np.float64) for a in s], axis=0), *parts)
  return bound(name)[0].pairwise.finish(total)


SUMS = sums_by_taps(EXAMPLE)
_FROM_MOMENTS = jit(
  lambda total: {n: bound(n)[0].from_moments(total, **VARIANTS[n][1]) for n in POSITION}
)


@remembered
def from_moments(z, z_hat):
  """`from_moments(name, z, z_hat)`: a position measure, by the merged moments of two batches."""
  total = similarity.empty_moments(z.shape[-1], z_hat.shape[-1])
  for part in UNEQUAL:
    total = MERGE(total, MOMENTS(z[part], z_hat[part]))
  return _FROM_MOMENTS(total)


@pytest.mark.parametrize("name", POSITION)
def test_moments_of_batches_give_the_value_of_all(name, rng):
  pair = random_pair(name, rng)
  assert_close(from_moments(name, *pair), value_of_pair(name, *pair), rtol=1e-5)


@pytest.mark.parametrize("name", EXAMPLE)
def test_sums_of_batches_are_the_definition(name, rng):
  taps = [*random_pair(name, rng), np.full((N, 4), 100.1), rng.normal(size=(N, 9)) - 3]
  taps = [tap.astype(np.float32) for tap in taps]
  matrix = from_batches(name, SUMS, taps)
  assert matrix.shape == (4, 4) and matrix.dtype == np.float64
  assert_close(matrix, matrix.T)
  assert (matrix[2] == 0).all()
  for i, j in ((0, 1), (1, 3), (0, 0)):
    pair = [[flat(taps[index][part], "example") for part in UNEQUAL] for index in (i, j)]
    expected = ACCUMULATED[VARIANTS[name][0]](*pair, **stream_options(name))
    assert_close(matrix[i, j], expected, rtol=2e-4)


def accumulated_cka(xs, ys, kernel=linear_kernel, unbiased=True, **options):
  """Nguyen et al. 2021: sums over batches before the ratio."""
  grams = [(kernel(x, **options), kernel(y, **options)) for x, y in zip(xs, ys, strict=True)]
  xy, xx, yy = (
    sum(hsic(pair[a], pair[b], unbiased) for pair in grams) for a, b in ((0, 1), (0, 0), (1, 1))
  )
  return xy / np.sqrt(xx * yy)


def accumulated_rsa(xs, ys, distance="correlation", ranks=False):
  entries = [[pdist(x, distance) for x in side] for side in (xs, ys)]
  if ranks:
    entries = [[scipy.stats.rankdata(v) for v in side] for side in entries]
  a, b = (np.concatenate([v - v.mean() for v in side]) for side in entries)
  return a @ b / np.sqrt((a @ a) * (b @ b))


def accumulated_mean(function, xs, ys, **options):
  values = [function(x, y, **options) for x, y in zip(xs, ys, strict=True)]
  return np.average(values, weights=[len(x) for x in xs])


ACCUMULATED = {
  "lincka": accumulated_cka,
  "rbfcka": functools.partial(accumulated_cka, kernel=rbf_kernel),
  "rsa": accumulated_rsa,
  "relative": functools.partial(accumulated_mean, oracle_relative),
  "jaccard": functools.partial(accumulated_mean, oracle_jaccard),
}


def on_four_devices(functions):
  """Values and gradients of functions whose leading axis is sharded, typed as replicated."""
  mesh = Mesh(np.array(jax.devices()[:4]), ("devices",))
  each = {
    name: jax.value_and_grad(functools.partial(f, axis_name="devices"), argnums=(0, 1))
    for name, f in functions.items()
  }
  inside = jax.shard_map(
    lambda *pair: {name: f(*pair) for name, f in each.items()},
    mesh=mesh, in_specs=P("devices"), out_specs={name: (P(), P("devices")) for name in each},
  )  # fmt: skip
  return jit(inside)


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


FOUR_SAMPLES = together(MEASURES, of_four_samples)


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


WIDENED = together(["cca", "cca_squared", "svcca"])


@pytest.mark.parametrize("name", ["cca", "cca_squared", "svcca"])
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
  distance_of = jit(similarity.procrustes_distance)
  assert_close(distance_of(z, z_hat), distance)
  centered = padded - padded.mean(0)
  squared = np.linalg.norm(centered - (y - y.mean(0)) @ rotation) ** 2
  assert_close(jit(similarity.procrustes_distance_squared)(z, z_hat), squared)
  assert distance_of(z_hat, z_hat) < 2e-3
  assert_close(distance_of(z_hat, np.zeros_like(z_hat)), np.sqrt(2))


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
