"""Gram matrices and distances of the examples of a batch, taken so that float32 keeps their digits.

Every function takes `[n, features]` or `[n, n]` arrays and gives float32 ones.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dissim_jax.similarity.aligned import (
  AxisName,
  center,
  check_floating,
  check_same_samples,
  unit_size,
)

HIGHEST = lax.Precision.HIGHEST
# Below four samples the unbiased estimator divides by n - 3 = 0 or has no terms at all.
_MIN_UNBIASED = 4


def feature_block() -> int:
  """Features that are centred and multiplied at once where many taps are compared.

  A tap is then never copied as a whole. Few enough for the caches of a CPU; on other devices enough
  for one product a tap of the usual sizes, as every turn of a loop has to be started there.
  """
  return 8192 if jax.default_backend() == "cpu" else 65536


def check_count(n: int) -> None:
  """Raises a ValueError where the unbiased HSIC of n samples is not defined."""
  if n < _MIN_UNBIASED:
    raise ValueError(f"n = {n} samples: the unbiased HSIC needs {_MIN_UNBIASED} or more.")


def sample_matrices(
  z_a: jax.Array, z_b: jax.Array, samples: str = "example", axis_name: AxisName = None
) -> tuple[jax.Array, jax.Array]:
  """Both representations as `[n, features]`; a sample is an example or, if asked, a position.

  Each times a power of two, which brings it to about 1, for measures that do not see the scale:
  fourth powers and their gradients then stay in the range of float32.
  """
  if samples == "position":
    check_same_samples(z_a=z_a, z_b=z_b)
    x, y = z_a.reshape(-1, z_a.shape[-1]), z_b.reshape(-1, z_b.shape[-1])
  elif samples == "example":
    check_floating(z_a=z_a, z_b=z_b)
    if z_a.shape[0] != z_b.shape[0]:
      raise ValueError(f"z_a has {z_a.shape[0]} examples and z_b {z_b.shape[0]}: must be equal.")
    x, y = z_a.reshape(z_a.shape[0], -1), z_b.reshape(z_b.shape[0], -1)
  else:
    raise ValueError(f"samples={samples!r}: allowed are 'example' and 'position'.")
  return unit_size(x, axis_name), unit_size(y, axis_name)


def tap_matrices(taps) -> list[jax.Array]:
  """Many representations of the same examples as `[n, features]`."""
  counts = sorted({tap.shape[0] for tap in taps})
  if len(counts) != 1:
    raise ValueError(f"taps have {counts} examples: one or more taps of one number are needed.")
  check_floating(**{f"taps[{index}]": tap for index, tap in enumerate(taps)})
  return [tap.reshape(counts[0], -1) for tap in taps]


def u_center(gram: jax.Array) -> jax.Array:
  """U-centred copy of a symmetric matrix `[n, n]`, n >= 4 (Szekely & Rizzo 2014).

  Zero diagonal; off it `k_ij - r_i/(n-2) - r_j/(n-2) + t/((n-1)(n-2))`, r the row sums and t the
  total of the matrix with its diagonal set to zero. Every row then sums to zero.
  """
  n = gram.shape[0]
  off_diagonal = ~jnp.eye(n, dtype=bool)
  gram = jnp.where(off_diagonal, gram, 0.0)
  rows = jnp.sum(gram, axis=1)
  shift = rows / (n - 2) - jnp.sum(rows) / (2 * (n - 1) * (n - 2))
  return jnp.where(off_diagonal, gram - shift[:, None] - shift[None, :], 0.0)


def double_center(gram: jax.Array) -> jax.Array:
  """`H K H` with `H = I - 11'/n`, of a symmetric matrix `[n, n]`: every row sums to zero."""
  rows = jnp.mean(gram, axis=1)
  return gram - rows[:, None] - rows[None, :] + jnp.mean(rows)


def _gram(x: jax.Array, axis_name: AxisName) -> jax.Array:
  """Gram matrix of the global batch, each device multiplying its own rows."""
  if axis_name is None:
    return jnp.matmul(x, x.T, precision=HIGHEST)
  everyone = lax.all_gather(x, axis_name, tiled=True)
  rows = jnp.matmul(x, everyone.T, precision=HIGHEST)
  return lax.all_gather(rows, axis_name, tiled=True)


def centered_gram(
  x: jax.Array,
  axis_name: AxisName = None,
  *,
  shift: jax.Array | float = 0.0,
  scale: jax.Array | float = 1.0,
  block: int | None = None,
) -> jax.Array:
  """Linear Gram matrix `[N, N]` of the global batch, features centred over the examples.

  Args:
    x: `[n, features]`, floating point.
    axis_name: as in `expvar`; every device gets the same matrix of all N examples.
    shift: of each example, `[n, 1]`: `(x - shift) * scale` takes the place of x.
    scale: of each example, `[n, 1]`.
    block: features at a time. A loop over blocks needs no centred copy of x; without it the
      gradient is faster.
  """

  def product(part):
    part = (part.astype(jnp.float32) - shift) * scale
    return _gram(center(part, axis_name)[0], axis_name)

  features = x.shape[1]
  if block is None or features <= block:
    return product(x)
  if axis_name is not None:
    raise ValueError("block: only without axis_name.")
  mean = jnp.full((1, x.shape[0]), 1.0 / x.shape[0])

  def add(total, start):
    # As `center`, but that one example is sliced on its own and the mean is a matrix product: XLA
    # then needs a quarter less time on a CPU.
    part = (lax.dynamic_slice_in_dim(x, start, block, 1).astype(jnp.float32) - shift) * scale
    first = lax.dynamic_slice(x, (0, start), (1, block)).astype(jnp.float32)
    part = part - (first - _first(shift)) * _first(scale)
    part = part - jnp.matmul(mean, part, precision=HIGHEST)
    return total + _gram(part, None), None

  whole = features - features % block
  gram, _ = lax.scan(add, jnp.zeros((x.shape[0], x.shape[0])), jnp.arange(0, whole, block))
  return gram if whole == features else gram + product(x[:, whole:])


def _first(value: jax.Array | float) -> jax.Array | float:
  """Of the first example."""
  return value[:1] if isinstance(value, jax.Array) else value


def squared_distances(gram: jax.Array) -> jax.Array:
  """Squared Euclidean distances `[n, n]` from a Gram matrix: `k_ii + k_jj - 2 k_ij`, at least 0."""
  diagonal = jnp.diagonal(gram)
  distances = diagonal[:, None] + diagonal[None, :] - 2.0 * gram
  # Of rounding errors the negative ones; NaN is kept.
  none = jnp.eye(gram.shape[0], dtype=bool) | (distances <= 0)
  return jnp.where(none, 0.0, distances)


def safe_root(x: jax.Array) -> jax.Array:
  """Square root, 0 with a gradient of 0 where x is not positive; NaN stays NaN."""
  none = x <= 0
  return jnp.where(none, 0.0, jnp.sqrt(jnp.where(none, 1.0, x)))


def rbf_kernel(gram: jax.Array, bandwidth: float) -> jax.Array:
  """`exp(-d_ij^2 / (2 sigma^2)) - 1`, `sigma = bandwidth * median_{i<j} d_ij`.

  The constant is taken off because centring would do so with a loss of digits; it makes the kernel
  of equal examples exactly 0. The median has its gradient: the kernel does not see the scale.

  Args:
    gram: linear Gram matrix `[n, n]`, n >= 2.
    bandwidth: > 0, a fraction of the median distance.

  Returns:
    float32 `[n, n]`; 0 where the median distance is 0, NaN where the Gram matrix is not finite.

  Raises:
    ValueError: the bandwidth is not positive.
  """
  if bandwidth <= 0:
    raise ValueError(f"bandwidth={bandwidth}: a positive number is needed.")
  n = gram.shape[0]
  distances = squared_distances(gram)
  # The diagonal is sorted to the front; behind it every distance appears twice.
  flat = jnp.where(jnp.eye(n, dtype=bool), -1.0, distances).ravel()
  middle = n + n * (n - 1) // 2
  chosen = jnp.argsort(lax.stop_gradient(flat))[middle - 1 : middle + 1]
  sigma = bandwidth * jnp.mean(safe_root(flat[chosen]))
  none = sigma <= 0
  sigma = jnp.where(none, 1.0, sigma)
  return jnp.where(none, 0.0, jnp.expm1(-0.5 * distances / sigma**2))
