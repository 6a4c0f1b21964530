"""Linear centred kernel alignment: one batch as a training penalty, many batches as a map of taps.

Kornblith et al. 2019 (CKA), Song et al. 2012 (unbiased HSIC), Nguyen et al. 2021 (minibatch CKA),
Szekely & Rizzo 2014 (U-centring). The row-sum form of the unbiased HSIC cancels badly in float32,
worse the larger the features' mean; here features are centred and Gram matrices U-centred, which
gives the same estimator and keeps its digits.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dissim_jax.similarity.aligned import (
  AxisName,
  center,
  check_floating,
  check_same_samples,
  global_count,
  global_sum,
)

_HIGHEST = lax.Precision.HIGHEST
# Below four samples the unbiased estimator divides by n - 3 = 0 or has no terms at all.
_MIN_UNBIASED = 4


def _check_count(n: int) -> None:
  if n < _MIN_UNBIASED:
    raise ValueError(f"n = {n} samples: the unbiased HSIC needs {_MIN_UNBIASED} or more.")


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


def _gram(x: jax.Array, axis_name: AxisName) -> jax.Array:
  """Gram matrix of the global batch, each device multiplying its own rows."""
  if axis_name is None:
    return jnp.matmul(x, x.T, precision=_HIGHEST)
  everyone = lax.all_gather(x, axis_name, tiled=True)
  rows = jnp.matmul(x, everyone.T, precision=_HIGHEST)
  return lax.all_gather(rows, axis_name, tiled=True)


def _gram_hsic(x, y, unbiased: bool, axis_name: AxisName):
  """(<K, L>, <K, K>, <L, L>) from centred features `[n, p]`, `[n, q]` by n x n Gram matrices."""
  gram_x, gram_y = _gram(x, axis_name), _gram(y, axis_name)
  if unbiased:
    gram_x, gram_y = u_center(gram_x), u_center(gram_y)
  terms = jnp.sum(gram_x * gram_y), jnp.sum(gram_x**2), jnp.sum(gram_y**2)
  # Every device holds the same numbers; the mean says so to shard_map and splits the gradient.
  return terms if axis_name is None else lax.pmean(terms, axis_name)


def _feature_hsic(x, y, unbiased: bool, axis_name: AxisName):
  """The same three terms by p x q cross-products, for many samples of few features.

  tr(K~ L~) = ||X'Y||_F^2 - sum_i k_ii l_ii, and (K~ 1)_i = x_i . sum_j x_j - k_ii, K~ the Gram
  matrix with zero diagonal; put into the unbiased estimator (Wald et al. 2023, Eq. 13).
  """
  products = tuple(jnp.matmul(a.T, b, precision=_HIGHEST) for a, b in ((x, y), (x, x), (y, y)))
  sums = jnp.sum(x, axis=0), jnp.sum(y, axis=0)
  products, (sum_x, sum_y) = global_sum((products, sums), axis_name)
  norms = tuple(jnp.sum(product**2) for product in products)
  if not unbiased:
    return norms
  n = global_count(x.shape[0], axis_name)
  diagonal_x, diagonal_y = jnp.sum(x * x, axis=1), jnp.sum(y * y, axis=1)
  rows_x = jnp.matmul(x, sum_x, precision=_HIGHEST) - diagonal_x
  rows_y = jnp.matmul(y, sum_y, precision=_HIGHEST) - diagonal_y
  total_x, total_y = global_sum((jnp.sum(rows_x), jnp.sum(rows_y)), axis_name)
  # What each sample takes from ||X'Y||^2: its diagonal term and its row-sum term.
  corrections = global_sum(
    tuple(
      jnp.sum(da * db + 2.0 / (n - 2) * ra * rb)
      for da, db, ra, rb in (
        (diagonal_x, diagonal_y, rows_x, rows_y),
        (diagonal_x, diagonal_x, rows_x, rows_x),
        (diagonal_y, diagonal_y, rows_y, rows_y),
      )
    ),
    axis_name,
  )
  totals = total_x * total_y, total_x * total_x, total_y * total_y
  return tuple(
    norm - correction + total / ((n - 1) * (n - 2))
    for norm, correction, total in zip(norms, corrections, totals, strict=True)
  )


def safe_cka(xy: jax.Array, xx: jax.Array, yy: jax.Array) -> jax.Array:
  """`xy / (sqrt(xx) sqrt(yy))`, 0 with a gradient of 0 where a self term is not positive."""
  positive = (xx > 0) & (yy > 0)
  scale = jnp.sqrt(jnp.where(positive, xx, 1.0)) * jnp.sqrt(jnp.where(positive, yy, 1.0))
  return jnp.where(positive, xy / scale, 0.0)


def _sample_matrices(z_a, z_b, samples: str) -> tuple[jax.Array, jax.Array]:
  """Both representations as [n, features]."""
  if samples == "position":
    check_same_samples(z_a=z_a, z_b=z_b)
    return z_a.reshape(-1, z_a.shape[-1]), z_b.reshape(-1, z_b.shape[-1])
  if samples != "example":
    raise ValueError(f"samples={samples!r}: allowed are 'example' and 'position'.")
  check_floating(z_a=z_a, z_b=z_b)
  if z_a.shape[0] != z_b.shape[0]:
    raise ValueError(f"z_a has {z_a.shape[0]} examples and z_b {z_b.shape[0]}: must be equal.")
  return z_a.reshape(z_a.shape[0], -1), z_b.reshape(z_b.shape[0], -1)


def _gram_is_cheaper(n: int, p: int, q: int) -> bool:
  """Multiply-adds of two n x n Gram matrices against three feature-space products."""
  return n * n * (p + q) <= n * (p * p + q * q + p * q)


def lincka(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  unbiased: bool = True,
  samples: str = "example",
  axis_name: AxisName = None,
) -> jax.Array:
  """Linear CKA of one batch: `HSIC(K, L) / (sqrt HSIC(K, K) sqrt HSIC(L, L))` of linear Grams.

  Symmetric; unchanged by offsets, isotropic scales and orthogonal maps of either feature space, not
  by general linear maps. Wald et al. 2023, Eq. 12 (for one batch) and 13; Kornblith et al. 2019.
  Computed from n x n Gram matrices or p x q feature products, whichever is cheaper for the shapes.

  Args:
    z_a: `[n, ..., C_a]`, floating point.
    z_b: `[n, ..., C_b]`; may have other channels, and with samples="example" other inner axes.
    unbiased: the unbiased HSIC (Song et al. 2012) or the biased one, which grows towards 1 with
      the number of features per sample.
    samples: "example": a sample is one example, its features all the rest flattened. "position":
      every leading axis is samples, as for a 1x1 convolution, with C features.
    axis_name: as in `expvar`: the leading axis is sharded, the statistic is of the global batch.

  Returns:
    float32 scalar. Biased: in [0, 1]. Unbiased: at most 1, about 0 (and on either side of it) for
    independent features. 1 = identical up to the invariances. 0 with a zero gradient where one
    side has no variance.

  Raises:
    ValueError: `unbiased` with fewer than 4 samples, unequal sample counts, an unknown `samples`.

  Differs from the paper: nothing in the defaults. The authors' training code uses
  `unbiased=False, samples="position"`.
  """
  x, y = _sample_matrices(z_a, z_b, samples)
  n = global_count(x.shape[0], axis_name)
  if unbiased:
    _check_count(n)
  x, _ = center(x, axis_name)
  y, _ = center(y, axis_name)
  # The factor 1/(n(n-3)) or 1/(n-1)^2 of the three terms cancels in the ratio of one batch.
  hsic = _gram_hsic if _gram_is_cheaper(n, x.shape[1], y.shape[1]) else _feature_hsic
  return safe_cka(*hsic(x, y, unbiased, axis_name))


def gram_vectors(taps: Sequence[jax.Array]) -> jax.Array:
  """U-centred linear Gram matrix of every tap, flattened: L arrays `[n, ...]` -> `[L, n * n]`.

  Args:
    taps: representations of the same n >= 4 examples, in any feature shapes, floating point.

  Returns:
    float32 `[L, n * n]`; the inner product of two rows over n(n-3) is their unbiased HSIC.

  Raises:
    ValueError: no taps, fewer than 4 examples, or unequal numbers of them.
  """
  counts = sorted({tap.shape[0] for tap in taps})
  if len(counts) != 1:
    raise ValueError(f"taps have {counts} examples: one or more taps of one number are needed.")
  _check_count(counts[0])
  check_floating(**{f"taps[{index}]": tap for index, tap in enumerate(taps)})
  centered = (center(tap.reshape(counts[0], -1))[0] for tap in taps)
  return jnp.stack([u_center(_gram(x, None)).ravel() for x in centered])


def hsic_matrix(taps: Sequence[jax.Array]) -> jax.Array:
  """Unbiased HSIC between all pairs of taps of one batch: L arrays `[n, ...]` -> `[L, L]` float32.

  Wald et al. 2023, Eq. 13, for all pairs by one matrix product. Add the matrices of all batches (in
  float64 on the host when there are many), whose n may differ, and give the sum to `cka_from_hsic`.
  Arguments and errors as in `gram_vectors`.
  """
  vectors = gram_vectors(taps)
  n = taps[0].shape[0]
  return jnp.matmul(vectors, vectors.T, precision=_HIGHEST) / (n * (n - 3))


def cka_from_hsic(hsic_sum: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
  """Minibatch CKA of all pairs from `hsic_matrix` summed over batches (Wald et al. 2023, Eq. 12).

  Args:
    hsic_sum: `[L, L]`, NumPy or JAX; the sum or the mean over batches.

  Returns:
    `[L, L]` of the same kind and dtype, at most 1 up to rounding, 1 on the diagonal; the rows and
    columns of taps whose self term is not positive (dead taps) are 0.

  Raises:
    ValueError: the matrix is not square.
  """
  if hsic_sum.ndim != 2 or hsic_sum.shape[0] != hsic_sum.shape[1]:
    raise ValueError(f"hsic_sum has shape {hsic_sum.shape}: a square matrix is needed.")
  xp = jnp if isinstance(hsic_sum, jax.Array) else np
  self_terms = xp.diagonal(hsic_sum)
  alive = self_terms > 0
  root = xp.sqrt(xp.where(alive, self_terms, 1.0))
  cka = hsic_sum / (root[:, None] * root[None, :])
  return xp.where(alive[:, None] & alive[None, :], cka, 0.0)
