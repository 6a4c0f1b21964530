"""The numbers that an analysis of a pool can be told; defaults are the papers'."""

import dataclasses
import math

from dissim_jax.errors import UserError

# Hwang et al. find 10 clusters of 69 models.
_PAPER_CLUSTERS, _PAPER_MODELS = 10, 69


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a pool is analysed.

  Attributes:
    clusters: number of clusters; 0 = the paper's ratio, 10 for 69 models, and at least 2.
    restarts: of K-means, of which the best counts.
    keywords: named for each cluster.
    stages: boosting stages, the trees of the regressor.
    max_depth: of a tree.
    rate: learning rate of boosting.
    least_samples: a node of a tree with fewer pairs is not split (`min_samples_split`).
    repeats: times each component is permuted.
    folds: parts of the architectures that are held out in turn, for the second R².
    accuracy_band: lowest and highest accuracy of models whose categories are compared, 0..1.
    ensemble_size: models of the largest ensemble.
    most_ensembles: of one size and number of clusters; more are sampled.
    permutations: of the models, for p-values that know that pairs share models.
    confidence: of the band around trend lines, 0..1.
    seed: of everything that is drawn at random.

  Raises:
    UserError: a value is out of its range.
  """

  clusters: int = 0
  restarts: int = 100
  keywords: int = 5
  stages: int = 500
  max_depth: int = 12
  rate: float = 0.02
  least_samples: int = 4
  repeats: int = 10
  folds: int = 5
  accuracy_band: tuple = (0.8, 0.95)
  ensemble_size: int = 5
  most_ensembles: int = 500
  permutations: int = 10_000
  confidence: float = 0.9
  seed: int = 0

  def __post_init__(self):
    object.__setattr__(self, "accuracy_band", _band(self.accuracy_band))
    for name, least in _LEAST.items():
      value = getattr(self, name)
      if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}={value!r}: must be a whole number of at least {least}")
    for name, most in (("rate", math.inf), ("confidence", 1.0)):
      value = getattr(self, name)
      if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < most:
        allowed = "above 0" if math.isinf(most) else f"above 0 and below {most:g}"
        raise UserError(f"{name}={value!r}: must be {allowed}")

  def cluster_count(self, models: int) -> int:
    """The number of clusters of a pool of so many models."""
    wanted = self.clusters or max(2, round(models * _PAPER_CLUSTERS / _PAPER_MODELS))
    return max(1, min(wanted, models - 1))

  @property
  def given(self) -> dict:
    """The settings that are not the defaults."""
    return {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if getattr(self, field.name) != field.default
    }


_LEAST = {
  "clusters": 0,
  "restarts": 1,
  "keywords": 1,
  "stages": 1,
  "max_depth": 1,
  "least_samples": 2,
  "repeats": 1,
  "folds": 2,
  "ensemble_size": 2,
  "most_ensembles": 1,
  "permutations": 1,
  "seed": 0,
}


def _band(value) -> tuple:
  try:
    low, high = map(float, value)
  except (TypeError, ValueError):
    raise UserError(f"accuracy_band={value!r}: must be two numbers, as in 0.8,0.95") from None
  if not 0 <= low < high <= 1:
    raise UserError(f"accuracy_band={low:g},{high:g}: must rise within 0..1")
  return low, high
