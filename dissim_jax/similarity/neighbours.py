"""Similarity of neighbourhoods: which examples lie near an example."""

import jax
import jax.numpy as jnp
from jax import lax

from dissim_jax.similarity.aligned import AxisName
from dissim_jax.similarity.floats import bounded
from dissim_jax.similarity.geometry import check_distance, dissimilarities
from dissim_jax.similarity.kernels import sample_matrices


def neighbour_sets(
  x: jax.Array,
  k: int,
  distance: str,
  axis_name: AxisName = None,
  block: int | None = None,
) -> jax.Array:
  """Indicators of the k nearest neighbours of every example: `[n, features]` -> `[N, N]` float32.

  1 where column j is one of the k nearest to row i, never i itself; of equally near ones the first.
  All 0 where the examples are all alike, all NaN where x holds NaN or infinity.
  """
  check_distance(distance, ("cosine", "euclidean"))
  distances = dissimilarities(lax.stop_gradient(x), distance, axis_name, block)
  n = distances.shape[0]
  if not 0 < k < n:
    raise ValueError(f"k={k} neighbours of n = {n} examples: 1 to n - 1 are possible.")
  others = jnp.where(jnp.eye(n, dtype=bool), jnp.inf, distances)
  _, nearest = lax.top_k(-others, k)
  sets = jnp.zeros((n, n)).at[jnp.arange(n)[:, None], nearest].set(1.0)
  sets = jnp.where(jnp.any(distances > 0), sets, 0.0)
  return jnp.where(jnp.any(jnp.isnan(distances)), jnp.nan, sets)


def jaccard(
  z: jax.Array,
  z_hat: jax.Array,
  *,
  k: int = 10,
  distance: str = "cosine",
  axis_name: AxisName = None,
) -> jax.Array:
  """Jaccard similarity of neighbourhoods: `mean_i |N_i & M_i| / |N_i | M_i|`.

  N_i and M_i are the sets of the k nearest neighbours of example i in either representation, among
  the (global) batch. Symmetric; unchanged by orthogonal maps and isotropic scales, with "euclidean"
  by offsets too. Schumacher et al. 2021.

  No penalty: it is constant but for jumps, its gradient is 0 everywhere.

  Args:
    z: `[n, ...]`, floating point, n > k over all devices; an example is a sample, its features all
      the rest.
    z_hat: `[n, ...]`, features of any shape.
    k: number of neighbours, at least 1.
    distance: "cosine" or "euclidean".
    axis_name: as in `expvar`: the leading axis is sharded, the statistic is of the global batch.

  Returns:
    float32 scalar in [0, 1]; 1 = the same neighbours, about k / (2n - k) for unrelated
    representations. 0 where the examples of one side are all alike, NaN where one holds NaN or
    infinity.

  Raises:
    ValueError: unequal numbers of examples, no more than k of them, or an unknown distance.
  """
  x, y = sample_matrices(z, z_hat, axis_name=axis_name)
  a, b = (neighbour_sets(matrix, k, distance, axis_name) for matrix in (x, y))
  shared = jnp.sum(a * b, axis=1)
  mean = jnp.mean(shared / (2.0 * k - shared))
  return bounded(mean if axis_name is None else lax.pmean(mean, axis_name), 0.0, 1.0)
