"""Similarity of representations: pure functions of arrays, for `jit`, `grad`, `vmap`, `shard_map`.

Arrays are `[..., C]` of any floating dtype. Results are float32 scalars that grow with similarity.
With `axis_name` they are of the global batch of a sharded program. `MEASURES` has them all behind
one calling convention.

Statistics are float32, but for co-moments of channels, which are float64. NaN or infinity in gives
NaN out. Values never leave the bounds that are promised. What is unchanged by the scale of a
representation is so from 1e-15 to 1e15; only `expvar` is not, which has an eps.
"""

from dissim_jax.registry.measures import MEASURES, PENALTIES, Measure, Pairwise
from dissim_jax.similarity.aligned import channel_correlation, expvar, l2corr, l2corr_squared
from dissim_jax.similarity.canonical import (
  cca,
  cca_from_moments,
  cca_squared,
  cca_squared_from_moments,
  pwcca,
  pwcca_from_moments,
  svcca,
  svcca_from_moments,
)
from dissim_jax.similarity.cka import lincka, lincka_position, rbfcka
from dissim_jax.similarity.geometry import dissimilarities, relative, rsa
from dissim_jax.similarity.kernels import double_center, rbf_kernel, u_center
from dissim_jax.similarity.minibatch import cka_from_hsic, gram_vectors, hsic_matrix
from dissim_jax.similarity.moment_sums import (
  Moments,
  empty_moments,
  merge_moments,
  moments,
  swap_moments,
)
from dissim_jax.similarity.neighbours import jaccard
from dissim_jax.similarity.regression import (
  lincka_from_moments,
  r2,
  r2_from_moments,
  r2_least_squares,
  r2_reverse_from_moments,
  solve_affine,
)
from dissim_jax.similarity.shape import (
  nuclear_norm,
  procrustes,
  procrustes_distance,
  procrustes_distance_squared,
  procrustes_from_moments,
)

__all__ = [
  "MEASURES",
  "PENALTIES",
  "Measure",
  "Moments",
  "Pairwise",
  "cca",
  "cca_from_moments",
  "cca_squared",
  "cca_squared_from_moments",
  "channel_correlation",
  "cka_from_hsic",
  "dissimilarities",
  "double_center",
  "empty_moments",
  "expvar",
  "gram_vectors",
  "hsic_matrix",
  "jaccard",
  "l2corr",
  "l2corr_squared",
  "lincka",
  "lincka_from_moments",
  "lincka_position",
  "merge_moments",
  "moments",
  "nuclear_norm",
  "procrustes",
  "procrustes_distance",
  "procrustes_distance_squared",
  "procrustes_from_moments",
  "pwcca",
  "pwcca_from_moments",
  "r2",
  "r2_from_moments",
  "r2_least_squares",
  "r2_reverse_from_moments",
  "rbf_kernel",
  "rbfcka",
  "relative",
  "rsa",
  "solve_affine",
  "svcca",
  "svcca_from_moments",
  "swap_moments",
  "u_center",
]
