"""All pairs of taps of many models, streamed over batches of examples.

Each measure has a function from the taps of one batch to sums that add up over batches, and one
from the added sums to `[L, L]` similarities; n may differ from batch to batch. Taps are gone
through by blocks of features, so that no centred copy of a whole tap is held.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.similarity.floats import float64, unit_scale
from dissim_jax.similarity.geometry import dissimilarity_vector, relative_vector
from dissim_jax.similarity.kernels import (
  HIGHEST,
  centered_gram,
  check_count,
  double_center,
  feature_block,
  rbf_kernel,
  tap_matrices,
  u_center,
)
from dissim_jax.similarity.neighbours import neighbour_sets

KERNELS = ("linear", "rbf")


def gram_vectors(
  taps: Sequence[jax.Array],
  *,
  kernel: str = "linear",
  unbiased: bool = True,
  bandwidth: float = 0.8,
) -> jax.Array:
  """Centred Gram matrix of every tap, flattened: L arrays `[n, ...]` -> `[L, n * n]`.

  Args:
    taps: representations of the same n examples, in any feature shapes, floating point.
    kernel: "linear", or "rbf" as in `rbfcka`.
    unbiased: U-centred (n >= 4), or centred on both sides.
    bandwidth: of the kernel "rbf".

  Returns:
    float32 `[L, n * n]`; the inner product of two rows over n(n-3), or over (n-1)^2 where biased,
    is their HSIC.

  Raises:
    ValueError: no taps, too few examples, unequal numbers of them, or an unknown kernel.
  """
  if kernel not in KERNELS:
    raise ValueError(f"kernel={kernel!r}: allowed are 'linear' and 'rbf'.")
  matrices = tap_matrices(taps)
  if unbiased:
    check_count(matrices[0].shape[0])

  def vector(x):
    gram = centered_gram(x, block=feature_block())
    gram = rbf_kernel(gram, bandwidth) if kernel == "rbf" else gram
    return (u_center(gram) if unbiased else double_center(gram)).ravel()

  return jnp.stack([vector(x) for x in matrices])


def _products(vectors: jax.Array) -> jax.Array:
  """Inner products of all pairs of rows, in float64: HSIC is of the fourth power of activations.

  Multiplied in float32, every row by a power of two of its own, which is then undone.
  """
  scale = unit_scale(jnp.max(jnp.abs(vectors), axis=1))
  vectors = vectors * scale[:, None]
  products = jnp.matmul(vectors, vectors.T, precision=HIGHEST)
  with float64():
    undo = 1.0 / scale.astype(jnp.float64)
    return products.astype(jnp.float64) * undo[:, None] * undo[None, :]


def hsic_matrix(
  taps: Sequence[jax.Array],
  *,
  kernel: str = "linear",
  unbiased: bool = True,
  bandwidth: float = 0.8,
) -> jax.Array:
  """HSIC between all pairs of taps of one batch: L arrays `[n, ...]` -> `[L, L]` float64.

  Wald et al. 2023, Eq. 13, for all pairs by one matrix product. Add the matrices of all batches,
  whose n may differ, as NumPy arrays and give the sum to `cka_from_hsic`. Arguments and errors as
  in `gram_vectors`.

  Returns:
    An array of float64 also where `jax_enable_x64` is off: `np.asarray` of it is right, JAX would
    compute with it in float32, in which HSIC of activations of 1e10 does not fit. Rows and columns
    of taps that hold NaN or infinity are NaN.
  """
  vectors = gram_vectors(taps, kernel=kernel, unbiased=unbiased, bandwidth=bandwidth)
  n = taps[0].shape[0]
  with float64():
    return _products(vectors) / (n * (n - 3) if unbiased else (n - 1) ** 2)


def cka_from_hsic(hsic_sum: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
  """Minibatch CKA of all pairs from `hsic_matrix` summed over batches (Wald et al. 2023, Eq. 12).

  Args:
    hsic_sum: `[L, L]`, NumPy or JAX; the sum or the mean over batches.

  Returns:
    `[L, L]` of the same kind and dtype, in [-1, 1], 1 on the diagonal. The rows and columns of taps
    whose self term is not positive (dead taps) are 0, of those whose self term is not finite NaN.

  Raises:
    ValueError: the matrix is not square.
  """
  if hsic_sum.ndim != 2 or hsic_sum.shape[0] != hsic_sum.shape[1]:
    raise ValueError(f"hsic_sum has shape {hsic_sum.shape}: a square matrix is needed.")
  if isinstance(hsic_sum, jax.Array):
    with float64():  # Which leaves float32 what it is.
      return _cosines(hsic_sum, jnp)
  return _cosines(hsic_sum, np)


def _cosines(products, xp):
  """Of inner products `[L, L]` of L vectors, by NumPy or JAX."""
  norms = xp.diagonal(products)
  finite, alive = xp.isfinite(norms), norms > 0
  root = xp.sqrt(xp.where(alive & finite, norms, 1.0))
  cosines = xp.clip(products / (root[:, None] * root[None, :]), -1.0, 1.0)
  cosines = xp.where(alive[:, None] & alive[None, :], cosines, 0.0)
  return xp.where(finite[:, None] & finite[None, :], cosines, xp.nan)


def _check_examples(samples: str, measure: str, instead: str) -> None:
  if samples != "example":
    raise ValueError(
      f"{measure}.samples={samples!r}: all pairs of taps are compared by example{instead}."
    )


def lincka_sums(taps, *, unbiased: bool = True, samples: str = "example") -> jax.Array:
  """`hsic_matrix` by the options of `lincka`; `samples` can only be "example"."""
  _check_examples(samples, "lincka", "; for positions there is lincka_position")
  return hsic_matrix(taps, unbiased=unbiased)


def rbfcka_sums(
  taps, *, bandwidth: float = 0.8, unbiased: bool = True, samples: str = "example"
) -> jax.Array:
  """`hsic_matrix` by the options of `rbfcka`; `samples` can only be "example"."""
  _check_examples(samples, "rbfcka", "")
  return hsic_matrix(taps, kernel="rbf", unbiased=unbiased, bandwidth=bandwidth)


def rsa_sums(taps, *, distance: str = "correlation", ranks: bool = False) -> jax.Array:
  """Covariances `[L, L]` of the entries of dissimilarity matrices within one batch (`rsa`).

  Entries are centred (and ranked) within their batch and pooled: over several batches the result is
  the correlation within batches, not that of one large dissimilarity matrix.
  """
  vectors = [
    dissimilarity_vector(x, distance, ranks, block=feature_block()) for x in tap_matrices(taps)
  ]
  return _products(jnp.stack(vectors))


def relative_sums(taps, *, centered: bool = False) -> dict[str, jax.Array]:
  """Sums over examples of the cosines of their relative representations, anchors = the batch."""
  vectors = [relative_vector(x, centered, block=feature_block()) for x in tap_matrices(taps)]
  return {"sum": _products(jnp.stack(vectors)), "count": jnp.float32(taps[0].shape[0])}


def jaccard_sums(taps, *, k: int = 10, distance: str = "cosine") -> dict[str, jax.Array]:
  """Sums over examples of the Jaccard similarity of their nearest neighbours in the batch."""
  sets = [neighbour_sets(x, k, distance, block=feature_block()) for x in tap_matrices(taps)]
  sets = jnp.stack(sets).swapaxes(0, 1)
  shared = jnp.matmul(sets, sets.swapaxes(1, 2))
  # k neighbours each, but none of a tap without variance. NaN of a tap stays in its row and column.
  union = 2.0 * k - shared
  return {"sum": jnp.sum(shared / union, axis=0), "count": jnp.float32(taps[0].shape[0])}


def mean_from_sums(sums: dict[str, np.ndarray]) -> np.ndarray:
  """`[L, L]` means over examples, of similarities in [-1, 1]."""
  return np.clip(sums["sum"] / sums["count"], -1.0, 1.0)
