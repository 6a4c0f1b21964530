"""All measures of the registry with the options under test, and float64 oracles of them.

Of SciPy and scikit-learn: of whole arrays, and of batches whose sums are accumulated.
"""

import functools

import jax
import numpy as np
import scipy
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import NearestNeighbors

from dissim_jax import similarity
from dissim_jax.similarity import MEASURES

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


def together(functions):
  """`found(name, z, z_hat)` by one program of all functions, which compiles much faster."""
  return remembered(jit(lambda *pair: {name: f(*pair) for name, f in functions.items()}))


def kind(name):
  """What decides of which shapes a measure takes pairs: see `random_pair`."""
  measure = bound(name)[0]
  return "aligned" if measure.aligned else measure.samples


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
  return np.exp(-(squareform(distances) ** 2) / (2 * (bandwidth * np.median(distances)) ** 2))


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


# --- Batches and devices ------------------------------------------------------------------------

EXAMPLE = [name for name in VARIANTS if bound(name)[0].pairwise is not None]
POSITION = [name for name in VARIANTS if bound(name)[0].from_moments is not None]
UNEQUAL = (slice(0, 6), slice(6, N))  # batches


def stream_options(name):
  """Of a variant; batches are too small for the default number of neighbours."""
  return VARIANTS[name][1] | ({"k": 3} if name.startswith("jaccard") else {})


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


def four_devices():
  """A mesh of one axis, `devices`."""
  return Mesh(np.array(jax.devices()[:4]), ("devices",))


def on_four_devices(functions):
  """Values and gradients of functions whose leading axis is sharded, typed as replicated."""
  each = {
    name: jax.value_and_grad(functools.partial(f, axis_name="devices"), argnums=(0, 1))
    for name, f in functions.items()
  }
  inside = jax.shard_map(
    lambda *pair: {name: f(*pair) for name, f in each.items()},
    mesh=four_devices(),
    in_specs=P("devices"),
    out_specs={name: (P(), P("devices")) for name in each},
  )
  return jit(inside)
