"""Similarity of representations: pure functions of arrays, for `jit`, `grad`, `vmap`, `shard_map`.

Arrays are `[..., C]`. Statistics are float32 for any floating dtype; results are float32 scalars
that grow with similarity. With `axis_name` they are of the global batch of a sharded program.
"""

import dataclasses
from collections.abc import Callable

from dissim_jax.similarity.aligned import channel_correlation, expvar, l2corr, l2corr_squared
from dissim_jax.similarity.cka import cka_from_hsic, gram_vectors, hsic_matrix, lincka, u_center
from dissim_jax.similarity.regression import (
  Moments,
  empty_moments,
  lincka_from_moments,
  merge_moments,
  moments,
  r2_from_moments,
  r2_least_squares,
  solve_affine,
  swap_moments,
)

__all__ = [
  "MEASURES",
  "Measure",
  "Moments",
  "channel_correlation",
  "cka_from_hsic",
  "empty_moments",
  "expvar",
  "gram_vectors",
  "hsic_matrix",
  "l2corr",
  "l2corr_squared",
  "lincka",
  "lincka_from_moments",
  "merge_moments",
  "moments",
  "r2_from_moments",
  "r2_least_squares",
  "solve_affine",
  "swap_moments",
  "u_center",
]


@dataclasses.dataclass(frozen=True)
class Measure:
  """A similarity that can be a training penalty.

  Attributes:
    name: its key in `MEASURES`, used in configs.
    function: `f(z, z_hat, *, axis_name=None) -> float32 scalar`, z the new member's representation.
    aligned: channels must correspond, so z_hat has to be a projection onto z's channels.
    low: the value of the most dissimilar representations (of lincka in expectation: the unbiased
      estimate of one batch can fall somewhat below it).
    high: the value of identical ones.
  """

  name: str
  function: Callable
  aligned: bool
  low: float
  high: float


MEASURES: dict[str, Measure] = {
  measure.name: measure
  for measure in (
    Measure("expvar", expvar, aligned=True, low=-1.0, high=1.0),
    # CELU(-1) with alpha 1.
    Measure("l2corr", l2corr, aligned=True, low=-0.6321205588285577, high=1.0),
    Measure("l2corr_squared", l2corr_squared, aligned=True, low=0.0, high=1.0),
    Measure("lincka", lincka, aligned=False, low=0.0, high=1.0),
  )
}
