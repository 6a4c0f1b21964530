"""Similarities of how the examples of a batch lie to each other: RSA and relative representations.

Both compare n x n matrices of the same examples, so that features may differ in number and meaning.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dissim_jax.similarity.aligned import AxisName, global_count, safe_cosine
from dissim_jax.similarity.floats import bounded
from dissim_jax.similarity.kernels import (
  centered_gram,
  safe_root,
  sample_matrices,
  squared_distances,
)

DISTANCES = ("correlation", "cosine", "euclidean")


def check_distance(distance: str, allowed: tuple[str, ...]) -> None:
  """Raises a ValueError unless the name of the distance is allowed."""
  if distance not in allowed:
    names = " and ".join(repr(name) for name in allowed)
    raise ValueError(f"distance={distance!r}: allowed are {names}.")


def dissimilarities(
  x: jax.Array, distance: str, axis_name: AxisName = None, block: int | None = None
) -> jax.Array:
  """Distances between all examples of the global batch: `[n, features]` -> `[N, N]` float32.

  "euclidean": |x_i - x_j|. "cosine": 1 - cos(x_i, x_j). "correlation": 1 - Pearson correlation of
  x_i and x_j over their features. The last two are half the squared Euclidean distance of rows of
  unit norm, which keeps its digits where all cosines are near 1; a row of norm 0 stays 0. All NaN
  where x holds NaN or infinity.
  """
  if distance == "euclidean":
    return safe_root(squared_distances(centered_gram(x, axis_name, block=block)))
  shift = 0.0
  if distance == "correlation":
    # One feature is subtracted first: a constant row then becomes exactly 0.
    anchor = lax.stop_gradient(x[:, :1]).astype(jnp.float32)
    shift = anchor + jnp.mean(x.astype(jnp.float32) - anchor, axis=1, keepdims=True)
  squares = jnp.sum((x.astype(jnp.float32) - shift) ** 2, axis=1, keepdims=True)
  none = squares <= 0
  scale = jnp.where(none, 0.0, lax.rsqrt(jnp.where(none, 1.0, squares)))
  # Not 1 / infinity = 0, which would be a row of norm 0.
  scale = jnp.where(jnp.isfinite(squares), scale, jnp.nan)
  gram = centered_gram(x, axis_name, shift=shift, scale=scale, block=block)
  return 0.5 * squared_distances(gram)


def dissimilarity_vector(
  x: jax.Array,
  distance: str,
  ranks: bool,
  axis_name: AxisName = None,
  block: int | None = None,
) -> jax.Array:
  """Centred off-diagonal entries of the dissimilarity matrix, or their ranks: `[N * N]`.

  Every pair appears twice and the diagonal is 0, which changes no correlation of two of them.
  """
  check_distance(distance, ("correlation", "euclidean"))
  n = global_count(x.shape[0], axis_name)
  if n < 3:
    raise ValueError(f"n = {n} examples: comparing dissimilarity matrices needs 3 or more.")
  matrix = dissimilarities(x, distance, axis_name, block)
  off_diagonal = ~jnp.eye(n, dtype=bool)
  if ranks:
    # The diagonal takes the first n ranks. Ties share the mean of theirs.
    matrix = jnp.where(off_diagonal, matrix, -1.0)
    finite = jnp.all(jnp.isfinite(matrix))
    matrix = jax.scipy.stats.rankdata(matrix.ravel()).reshape(n, n).astype(jnp.float32)
    matrix = jnp.where(finite, matrix, jnp.nan)
  # One entry is subtracted first: entries that are all equal then become exactly 0.
  matrix = jnp.where(off_diagonal, matrix - lax.stop_gradient(matrix[0, 1]), 0.0)
  mean = jnp.sum(matrix) / (n * (n - 1))
  return jnp.where(off_diagonal, matrix - mean, 0.0).ravel()


def _replicated(terms, axis_name: AxisName):
  """Every device holds the same numbers; the mean says so to shard_map and splits gradients."""
  return terms if axis_name is None else lax.pmean(terms, axis_name)


def rsa(
  z: jax.Array,
  z_hat: jax.Array,
  *,
  distance: str = "correlation",
  ranks: bool = False,
  axis_name: AxisName = None,
) -> jax.Array:
  """Representational similarity analysis: the correlation of two dissimilarity matrices.

  `corr_{i<j}(D_ij, E_ij)`, D and E the distances between all examples in either representation.
  Symmetric; with "correlation" unchanged by scales and offsets of single examples, with "euclidean"
  by orthogonal maps, isotropic scales and offsets of the features. Kriegeskorte et al. 2008.

  Args:
    z: `[n, ...]`, floating point, n >= 3 over all devices; an example is a sample, its features all
      the rest.
    z_hat: `[n, ...]`, features of any shape.
    distance: "correlation": 1 - Pearson correlation of two examples over their features.
      "euclidean": the Euclidean distance.
    ranks: Spearman's correlation of the distances instead of Pearson's; it has no gradient.
    axis_name: as in `expvar`: the leading axis is sharded, the statistic is of the global batch.

  Returns:
    float32 scalar in [-1, 1]; 1 = the same geometry, 0 = unrelated. 0 with a zero gradient where
    one side's distances are all equal; NaN where a side holds NaN or infinity.

  Raises:
    ValueError: unequal numbers of examples, fewer than 3, or an unknown distance.
  """
  x, y = sample_matrices(z, z_hat, axis_name=axis_name)
  a, b = (dissimilarity_vector(matrix, distance, ranks, axis_name) for matrix in (x, y))
  terms = _replicated((jnp.sum(a * b), jnp.sum(a * a), jnp.sum(b * b)), axis_name)
  return bounded(safe_cosine(*terms), -1.0, 1.0)


def relative_vector(
  x: jax.Array, centered: bool, axis_name: AxisName = None, block: int | None = None
) -> jax.Array:
  """Relative representation of every example, of unit norm: `[n, features]` -> `[N * N]`.

  All 0 where the examples are all alike, all NaN where x holds NaN or infinity.
  """
  if centered:
    gram = centered_gram(x, axis_name, block=block)
    norms = jnp.diagonal(gram)
    cosines = safe_cosine(gram, norms[:, None], norms[None, :])
  else:
    distances = dissimilarities(x, "cosine", axis_name, block)
    absent = jnp.sum(x.astype(jnp.float32) ** 2, axis=1) <= 0
    absent = absent if axis_name is None else lax.all_gather(absent, axis_name, tiled=True)
    absent = absent[:, None] | absent[None, :] | jnp.all(distances <= 0)
    cosines = jnp.where(absent & ~jnp.isnan(distances), 0.0, 1.0 - distances)
  squares = jnp.sum(cosines**2, axis=1, keepdims=True)
  return safe_cosine(cosines, squares, jnp.ones_like(squares)).ravel()


def relative(
  z: jax.Array, z_hat: jax.Array, *, centered: bool = False, axis_name: AxisName = None
) -> jax.Array:
  """Similarity of relative representations: `mean_i cos(r_i, s_i)`, `r_ij = cos(z_i, z_j)`.

  Every example is described by its cosines to the anchors, here all examples of the (global) batch,
  and the two descriptions are compared by their cosine. Symmetric; unchanged by orthogonal maps and
  isotropic scales. Moschella et al. 2023, section 3.

  The cosine of an example with itself, 1, is part of its description. With few examples of many
  nearly orthogonal features it dominates and the value is near 1 for any data.

  Args:
    z: `[n, ...]`, floating point; an example is a sample, its features all the rest.
    z_hat: `[n, ...]`, features of any shape.
    centered: subtract the batch's mean first. Without, as in the paper, a large mean makes all
      cosines, and with them the value, high.
    axis_name: as in `expvar`: the leading axis is sharded, the statistic is of the global batch.

  Returns:
    float32 scalar, at most 1 = identical up to the invariances; about 0 only where the cosines of
    the two are unrelated. 0 with a zero gradient where the examples of one side are all alike; NaN
    where one holds NaN or infinity.

  Raises:
    ValueError: unequal numbers of examples.
  """
  x, y = sample_matrices(z, z_hat, axis_name=axis_name)
  a, b = (relative_vector(matrix, centered, axis_name) for matrix in (x, y))
  mean = jnp.sum(a * b) / global_count(x.shape[0], axis_name)
  return bounded(_replicated(mean, axis_name), -1.0, 1.0)
