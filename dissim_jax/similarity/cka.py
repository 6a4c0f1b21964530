"""Centred kernel alignment of one batch: linear, and with a Gaussian kernel.

Kornblith et al. 2019 (CKA), Song et al. 2012 (unbiased HSIC), Szekely & Rizzo 2014 (U-centring).
The row-sum form of the unbiased HSIC cancels badly in float32, worse the larger the features' mean;
here features are centred and Gram matrices U-centred, which gives the same estimator and keeps its
digits. `minibatch` accumulates the same over batches for all pairs of taps.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dissim_jax.similarity.aligned import (
  AxisName,
  center,
  global_count,
  global_sum,
  safe_cosine,
)
from dissim_jax.similarity.floats import bounded
from dissim_jax.similarity.kernels import (
  HIGHEST,
  centered_gram,
  check_count,
  double_center,
  rbf_kernel,
  sample_matrices,
  u_center,
)


def _gram_hsic(gram_x, gram_y, unbiased: bool, axis_name: AxisName):
  """(<K, L>, <K, K>, <L, L>) of two n x n Gram matrices of the global batch."""
  centered = u_center if unbiased else double_center
  gram_x, gram_y = centered(gram_x), centered(gram_y)
  terms = jnp.sum(gram_x * gram_y), jnp.sum(gram_x**2), jnp.sum(gram_y**2)
  # Every device holds the same numbers; the mean says so to shard_map and splits the gradient.
  return terms if axis_name is None else lax.pmean(terms, axis_name)


def _ratio(terms, unbiased: bool) -> jax.Array:
  """CKA of its three terms; the unbiased one may be negative, both are cosines."""
  return bounded(safe_cosine(*terms), -1.0 if unbiased else 0.0, 1.0)


def _feature_hsic(x, y, unbiased: bool, axis_name: AxisName):
  """The same three terms of centred features `[n, p]`, `[n, q]` by p x q cross-products.

  For many samples of few features.

  tr(K~ L~) = ||X'Y||_F^2 - sum_i k_ii l_ii, and (K~ 1)_i = x_i . sum_j x_j - k_ii, K~ the Gram
  matrix with zero diagonal; put into the unbiased estimator (Wald et al. 2023, Eq. 13).
  """
  products = tuple(jnp.matmul(a.T, b, precision=HIGHEST) for a, b in ((x, y), (x, x), (y, y)))
  sums = jnp.sum(x, axis=0), jnp.sum(y, axis=0)
  products, (sum_x, sum_y) = global_sum((products, sums), axis_name)
  norms = tuple(jnp.sum(product**2) for product in products)
  if not unbiased:
    return norms
  n = global_count(x.shape[0], axis_name)
  diagonal_x, diagonal_y = jnp.sum(x * x, axis=1), jnp.sum(y * y, axis=1)
  rows_x = jnp.matmul(x, sum_x, precision=HIGHEST) - diagonal_x
  rows_y = jnp.matmul(y, sum_y, precision=HIGHEST) - diagonal_y
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
    float32 scalar. Biased: in [0, 1]. Unbiased: in [-1, 1], about 0 (and on either side of it) for
    independent features. 1 = identical up to the invariances. 0 with a zero gradient where one
    side has no variance; NaN where one holds NaN or infinity.

  Raises:
    ValueError: `unbiased` with fewer than 4 samples, unequal sample counts, an unknown `samples`.

  Differs from the paper: nothing in the defaults. The authors' training code uses
  `unbiased=False, samples="position"`.
  """
  x, y = sample_matrices(z_a, z_b, samples, axis_name)
  n = global_count(x.shape[0], axis_name)
  if unbiased:
    check_count(n)
  # The factor 1/(n(n-3)) or 1/(n-1)^2 of the three terms cancels in the ratio of one batch.
  if _gram_is_cheaper(n, x.shape[1], y.shape[1]):
    grams = centered_gram(x, axis_name), centered_gram(y, axis_name)
    return _ratio(_gram_hsic(*grams, unbiased, axis_name), unbiased)
  x, y = center(x, axis_name)[0], center(y, axis_name)[0]
  return _ratio(_feature_hsic(x, y, unbiased, axis_name), unbiased)


def lincka_position(z_a: jax.Array, z_b: jax.Array, *, axis_name: AxisName = None) -> jax.Array:
  """Biased linear CKA with every position a sample: `||X'Y||_F^2 / (||X'X||_F ||Y'Y||_F)`.

  X, Y the centred channels. `lincka(..., unbiased=False, samples="position")`, where arguments,
  invariances and errors are described; the form that can be streamed (`lincka_from_moments`).

  Returns:
    float32 scalar in [0, 1]; 1 = identical up to an orthogonal map, a scale and an offset. 0 with a
    zero gradient where one side has no variance; NaN where one holds NaN or infinity.
  """
  return lincka(z_a, z_b, unbiased=False, samples="position", axis_name=axis_name)


def rbfcka(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  bandwidth: float = 0.8,
  unbiased: bool = True,
  samples: str = "example",
  axis_name: AxisName = None,
) -> jax.Array:
  """CKA of one batch with a Gaussian kernel: `k_ij = exp(-|x_i - x_j|^2 / (2 sigma^2))`.

  `sigma = bandwidth * median_{i<j} |x_i - x_j|`, of each side and batch. Symmetric; unchanged by
  offsets, isotropic scales and orthogonal maps of either feature space, not by general linear maps.
  The gradient goes through the median too, so that rescaling features is no way to a lower value.
  Kornblith et al. 2019, who try bandwidths of 0.2, 0.4 and 0.8.

  Differs from the paper: unbiased HSIC by default.

  Args:
    z_a: `[n, ..., C_a]`, floating point.
    z_b: `[n, ..., C_b]`; may have other channels, and with samples="example" other inner axes.
    bandwidth: > 0; the smaller, the more only near neighbours count.
    unbiased: as in `lincka`.
    samples: as in `lincka`. The n x n Gram matrix is held whole: with "position" that is a number
      of bytes of 4 (batch * height * width)^2.
    axis_name: as in `expvar`: the leading axis is sharded, the statistic is of the global batch.

  Returns:
    float32 scalar. Biased: in [0, 1]. Unbiased: in [-1, 1], about 0 for independent features. 1 =
    identical up to the invariances. 0 with a zero gradient where one side has no variance, or where
    more than half of its distances are 0; NaN where one holds NaN or infinity.

  Raises:
    ValueError: as in `lincka`, fewer than 2 samples, or a bandwidth that is not positive.
  """
  x, y = sample_matrices(z_a, z_b, samples, axis_name)
  n = global_count(x.shape[0], axis_name)
  if unbiased:
    check_count(n)
  if n < 2:
    raise ValueError(f"n = {n} samples: a distance needs 2 or more.")
  grams = (rbf_kernel(centered_gram(a, axis_name), bandwidth) for a in (x, y))
  return _ratio(_gram_hsic(*grams, unbiased, axis_name), unbiased)
