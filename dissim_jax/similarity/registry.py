"""All similarity measures behind one calling convention: `MEASURES[name]`."""

import dataclasses
from collections.abc import Callable

from dissim_jax.similarity import minibatch
from dissim_jax.similarity.aligned import expvar, l2corr, l2corr_squared
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
from dissim_jax.similarity.geometry import relative, rsa
from dissim_jax.similarity.neighbours import jaccard
from dissim_jax.similarity.regression import lincka_from_moments, r2, r2_reverse_from_moments
from dissim_jax.similarity.shape import procrustes, procrustes_from_moments


@dataclasses.dataclass(frozen=True)
class Pairwise:
  """All pairs of taps of many models, streamed over batches of examples.

  Attributes:
    update: `(taps, **options) -> sums`, taps L arrays `[n, ...]` of the same n examples; a pytree
      of arrays that add up over batches (in float64 on the host). May be jitted. NaN in the row and
      column of a tap that holds NaN or infinity.
    finish: `sums -> [L, L]` similarities from the summed pytree of NumPy arrays.
  """

  update: Callable
  finish: Callable


@dataclasses.dataclass(frozen=True)
class Measure:
  """A similarity of two representations.

  Attributes:
    name: its key in `MEASURES`, used in configs and on the command line.
    function: `f(z, z_hat, *, axis_name=None, **options) -> float32 scalar`, larger = more similar;
      z is the new member's representation.
    low: the value of the most dissimilar representations (of the unbiased CKAs in expectation: the
      estimate of one batch can fall somewhat below it).
    high: the value of identical ones.
    aligned: channels must correspond, so z_hat has to be a projection onto z's channels.
    penalty: differentiable and bounded: may be what a member is trained against.
    up_to_linear: 1 wherever z is an affine function of the channels of z_hat, or of what a
      projection is made from.
    symmetric: f(a, b) = f(b, a).
    samples: "position": every leading axis is samples, and must be equal for both. "example": the
      first axis is samples and the features of both may have any shape.
    pairwise: of measures with samples="example".
    from_moments: `(Moments, **options) -> scalar` of measures with samples="position" that need no
      alignment: `from_moments(moments(z, z_hat)) = function(z, z_hat)`, so that they can be
      streamed by `merge_moments`.
    describe: one line of what it is, with the reference.
  """

  name: str
  function: Callable
  low: float
  high: float
  aligned: bool
  penalty: bool
  symmetric: bool
  samples: str
  pairwise: Pairwise | None
  from_moments: Callable | None
  describe: str
  up_to_linear: bool = False


def _position(name, function, from_moments, describe, **properties) -> Measure:
  """A measure whose samples are positions; in [0, 1] and symmetric unless told otherwise."""
  defaults = dict(low=0.0, high=1.0, aligned=False, penalty=True, symmetric=True)
  return Measure(
    name, function, samples="position", pairwise=None, from_moments=from_moments,
    describe=describe, **(defaults | properties),
  )  # fmt: skip


def _example(name, function, pairwise, describe, **properties) -> Measure:
  """A measure whose samples are examples; in [0, 1] unless told otherwise."""
  defaults = dict(low=0.0, high=1.0, penalty=True)
  return Measure(
    name, function, aligned=False, symmetric=True, samples="example", pairwise=Pairwise(*pairwise),
    from_moments=None, describe=describe, **(defaults | properties),
  )  # fmt: skip


_ALL = (
  _position(
    "expvar", expvar, None, low=-1.0, aligned=True, symmetric=False, up_to_linear=True,
    describe="bounded explained variance of a projection (Wald et al. 2023, Eq. 10)",
  ),
  _position(
    # CELU(-1) with alpha 1.
    "l2corr", l2corr, None, low=-0.6321205588285577, aligned=True, up_to_linear=True,
    describe="mean channel-wise correlation with a projection (Wald et al. 2023, Eq. 11)",
  ),
  _position(
    "l2corr_squared", l2corr_squared, None, aligned=True, up_to_linear=True,
    describe="mean squared channel-wise correlation with a projection (Wald et al. 2023, code)",
  ),
  _example(
    "lincka", lincka, (minibatch.lincka_sums, minibatch.cka_from_hsic),
    describe="linear CKA of examples, unbiased (Kornblith et al. 2019; Nguyen et al. 2021)",
  ),
  _position(
    "lincka_position", lincka_position, lincka_from_moments,
    describe="linear CKA of positions, biased (Kornblith et al. 2019)",
  ),
  _example(
    "rbfcka", rbfcka, (minibatch.rbfcka_sums, minibatch.cka_from_hsic),
    describe="CKA with a Gaussian kernel, unbiased (Kornblith et al. 2019)",
  ),
  _position(
    "cca", cca, cca_from_moments, up_to_linear=True,
    describe="mean canonical correlation (Hotelling 1936; Raghu et al. 2017)",
  ),
  _position(
    "cca_squared", cca_squared, cca_squared_from_moments, up_to_linear=True,
    describe="mean squared canonical correlation, R^2_CCA (Kornblith et al. 2019)",
  ),
  _position(
    "svcca", svcca, svcca_from_moments, penalty=False,
    describe="mean canonical correlation of the principal directions (Raghu et al. 2017)",
  ),
  _position(
    "pwcca", pwcca, pwcca_from_moments, penalty=False, symmetric=False, up_to_linear=True,
    describe="projection-weighted canonical correlation (Morcos et al. 2018)",
  ),
  _position(
    "r2", r2, r2_reverse_from_moments, symmetric=False, up_to_linear=True,
    describe="R^2 of predicting the first from the second, least squares (Kornblith et al. 2019)",
  ),
  _position(
    "procrustes", procrustes, procrustes_from_moments,
    describe="alignment by the best rotation, nuclear norm (Schonemann 1966; Ding et al. 2021)",
  ),
  _example(
    "rsa", rsa, (minibatch.rsa_sums, minibatch.cka_from_hsic), low=-1.0,
    describe="correlation of dissimilarity matrices (Kriegeskorte et al. 2008)",
  ),
  _example(
    "relative", relative, (minibatch.relative_sums, minibatch.mean_from_sums),
    describe="cosine of relative representations, anchors = the batch (Moschella et al. 2023)",
  ),
  _example(
    "jaccard", jaccard, (minibatch.jaccard_sums, minibatch.mean_from_sums), penalty=False,
    describe="Jaccard similarity of sets of nearest neighbours (Schumacher et al. 2021)",
  ),
)  # fmt: skip

MEASURES: dict[str, Measure] = {measure.name: measure for measure in _ALL}

# What a member can be trained against.
PENALTIES: tuple[str, ...] = tuple(name for name, measure in MEASURES.items() if measure.penalty)
