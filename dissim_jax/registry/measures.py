"""All similarity measures behind one calling convention: `MEASURES[name]`."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from dissim_jax.errors import UserError
from dissim_jax.names import nearest
from dissim_jax.registry import fields
from dissim_jax.registry.entry import Entry, load


class Pairwise(NamedTuple):
  """All pairs of taps of many models, streamed over batches of examples.

  Attributes:
    update: `(taps, **options) -> sums`, taps L arrays `[n, ...]` of the same n examples; a pytree
      of arrays that add up over batches (in float64 on the host). May be jitted. NaN in the row and
      column of a tap that holds NaN or infinity.
    finish: `sums -> [L, L]` similarities from the summed pytree of NumPy arrays.
  """

  update: Callable
  finish: Callable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure(Entry):
  """A similarity of two representations.

  `function` is `f(z, z_hat, *, axis_name=None, **options) -> float32 scalar`, larger = more
  similar; z is the new member's representation.

  Attributes:
    describe: one line of what it is, with the reference.
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
    streamed: where the parts are that sum it up over batches: of examples the two of `Pairwise`, of
      positions `(Moments, **options) -> scalar` with `from_moments(moments(z, z_hat)) =
      function(z, z_hat)`, which `merge_moments` adds up; none of what needs aligned channels.
    fitted: which channels there must be more samples than, because otherwise some map fits any two
      taps and the value says nothing of them: "both" together, the "second" that predicts the
      first, the "larger"; "" where there is no such map.
  """

  describe: str
  low: float = 0.0
  high: float = 1.0
  aligned: bool = False
  penalty: bool = True
  up_to_linear: bool = False
  symmetric: bool = True
  samples: str = "position"
  streamed: tuple[str | Callable, ...] = ()
  fitted: str = ""

  @property
  def pairwise(self) -> Pairwise | None:
    """The parts that sum it up over batches of examples."""
    return Pairwise(*map(load, self.streamed)) if len(self.streamed) == 2 else None

  @property
  def from_moments(self) -> Callable | None:
    """It from summed moments of positions."""
    return load(self.streamed[0]) if len(self.streamed) == 1 else None


def _position(name: str, module: str, label: str, describe: str, **more) -> Measure:
  """A measure whose samples are positions."""
  streamed = more.pop("streamed", f"{module}:{name}_from_moments")
  return Measure(
    name=name,
    label=label,
    code=f"similarity.{module}:{name}",
    describe=describe,
    streamed=(f"similarity.{streamed}",) if streamed else (),
    **more,
  )


def _example(name: str, module: str, label: str, finish: str, describe: str, **more) -> Measure:
  """A measure whose samples are examples."""
  streamed = tuple(f"similarity.minibatch:{part}" for part in (f"{name}_sums", finish))
  return Measure(
    name=name,
    label=label,
    code=f"similarity.{module}:{name}",
    describe=describe,
    streamed=streamed,
    samples="example",
    **more,
  )


_SAMPLES = fields.name("example", "or position: every place is a sample", ("example", "position"))

_ALL = (
  _position(
    "expvar",
    "aligned",
    "ExpVar",
    "bounded explained variance of a projection (Wald et al. 2023, Eq. 10)",
    low=-1.0,
    aligned=True,
    symmetric=False,
    up_to_linear=True,
    streamed=None,
    options={
      "alpha": fields.number(1.0, "of CELU", above=True),
      "eps": fields.number(1e-4, "in the denominator", above=True),
    },
  ),
  _position(
    # CELU(-1) with alpha 1.
    "l2corr",
    "aligned",
    "L2Corr",
    "mean channel-wise correlation with a projection (Wald et al. 2023, Eq. 11)",
    low=-0.6321205588285577,
    aligned=True,
    up_to_linear=True,
    streamed=None,
  ),
  _position(
    "l2corr_squared",
    "aligned",
    "L2Corr²",
    "mean squared channel-wise correlation with a projection (Wald et al. 2023, code)",
    aligned=True,
    up_to_linear=True,
    streamed=None,
  ),
  _example(
    "lincka",
    "cka",
    "LinCKA",
    "cka_from_hsic",
    "linear CKA of examples, unbiased (Kornblith et al. 2019; Nguyen et al. 2021)",
    options={
      "unbiased": fields.flag(True, "Eq. 13; False is the biased HSIC"),
      "samples": _SAMPLES,
    },
  ),
  _position(
    "lincka_position",
    "cka",
    "LinCKA of positions",
    "linear CKA of positions, biased (Kornblith et al. 2019)",
    streamed="regression:lincka_from_moments",
  ),
  _example(
    "rbfcka",
    "cka",
    "RBF-CKA",
    "cka_from_hsic",
    "CKA with a Gaussian kernel, unbiased (Kornblith et al. 2019)",
    options={
      "bandwidth": fields.number(0.8, "of the kernel, fraction of the median distance", above=True),
      "unbiased": fields.flag(True, "False is the biased HSIC"),
      "samples": _SAMPLES,
    },
  ),
  _position(
    "cca",
    "canonical",
    "CCA",
    "mean canonical correlation (Hotelling 1936; Raghu et al. 2017)",
    up_to_linear=True,
    fitted="both",
  ),
  _position(
    "cca_squared",
    "canonical",
    "CCA²",
    "mean squared canonical correlation, R^2_CCA (Kornblith et al. 2019)",
    up_to_linear=True,
    fitted="both",
  ),
  _position(
    "svcca",
    "canonical",
    "SVCCA",
    "mean canonical correlation of the principal directions (Raghu et al. 2017)",
    penalty=False,
    fitted="both",
  ),
  _position(
    "pwcca",
    "canonical",
    "PWCCA",
    "projection-weighted canonical correlation (Morcos et al. 2018)",
    symmetric=False,
    penalty=False,
    up_to_linear=True,
    fitted="both",
  ),
  _position(
    "r2",
    "regression",
    "R²",
    "R^2 of predicting the first from the second, least squares (Kornblith et al. 2019)",
    symmetric=False,
    up_to_linear=True,
    fitted="second",
    streamed="regression:r2_reverse_from_moments",
    options={
      "weighting": fields.name(
        "channel", "mean over channels; variance: by their variance", ("channel", "variance")
      ),
    },
  ),
  _position(
    "procrustes",
    "shape",
    "Procrustes similarity",
    "alignment by the best rotation, nuclear norm (Schonemann 1966; Ding et al. 2021)",
    fitted="larger",
  ),
  _example(
    "rsa",
    "geometry",
    "RSA",
    "cka_from_hsic",
    "correlation of dissimilarity matrices (Kriegeskorte et al. 2008)",
    low=-1.0,
    options={
      "distance": fields.name(
        "correlation", "of two examples' features", ("correlation", "euclidean")
      ),
    },
  ),
  _example(
    "relative",
    "geometry",
    "relative cosine",
    "mean_from_sums",
    "cosine of relative representations, anchors = the batch (Moschella et al. 2023)",
    options={
      "centered": fields.flag(False, "True: subtract the batch's mean first"),
    },
  ),
  _example(
    "jaccard",
    "neighbours",
    "Jaccard",
    "mean_from_sums",
    "Jaccard similarity of sets of nearest neighbours (Schumacher et al. 2021)",
    penalty=False,
  ),
)

MEASURES: dict[str, Measure] = {measure.name: measure for measure in _ALL}

# What a member can be trained against.
PENALTIES: list[str] = [name for name, measure in MEASURES.items() if measure.penalty]


def check_comparable(name: str) -> None:
  """Raises UserError unless taps of two networks can be compared by a measure."""
  comparable = sorted(key for key, measure in MEASURES.items() if not measure.aligned)
  if name in MEASURES and MEASURES[name].aligned:
    raise UserError(
      f"--measures={name}: it compares channel c with channel c, and the channels of two networks "
      "do not correspond; r2 compares them after the best linear map"
    )
  if name not in MEASURES:
    near = nearest(name, comparable)
    raise UserError(f"--measures={name}: choose among {', '.join(comparable)}{near}")


def measure_label(name: str) -> str:
  """Display name of a similarity measure, or the name of one that is not known here."""
  return MEASURES[name].label if name in MEASURES else str(name)
