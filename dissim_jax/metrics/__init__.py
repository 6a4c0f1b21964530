"""What predictions say about one model, about pairs of models and about ensembles of them.

Pure functions of arrays: `N` examples, `K` classes, `M` models. `pred` are predicted class indices,
integer `[N]`; `labels` true class indices, integer `[N]`; `probs` and `logits` floating `[N, K]`.
Results are float32 scalars unless said otherwise, and all functions but `greedy_selection` work
under `jit` and `vmap`. A wrong shape or dtype raises a ValueError at trace time; so do, where the
arrays are concrete, class indices out of range, NaN, and probabilities that are negative or do not
sum to 1. Where a metric is undefined it is nan, never an exception.

References: Wald et al. 2023, "Exploring new ways" (appendix B.2); Gontijo-Lopes et al. 2022, "No
one representation to rule them all"; Geirhos et al. 2020, "Beyond accuracy: quantifying
trial-by-trial behaviour of CNNs and humans by measuring error consistency"; Kuncheva & Whitaker
2003, "Measures of diversity in classifier ensembles and their relationship with the ensemble
accuracy"; Rosales et al. 2023.
"""

from dissim_jax.metrics.calibration import (
  ReliabilityDiagram,
  expected_calibration_error,
  reliability_diagram,
)
from dissim_jax.metrics.combination import (
  RULES,
  combine,
  ensemble_predictions,
  ensemble_probabilities,
)
from dissim_jax.metrics.distributions import (
  cosine_similarity,
  jensen_shannon_divergence,
  kullback_leibler_divergence,
)
from dissim_jax.metrics.gains import (
  conversion_rate,
  error_reduction_rate,
  gain_over_best,
  gain_over_mean,
)
from dissim_jax.metrics.groups import (
  all_wrong_fraction,
  coincident_failure_diversity,
  entropy_measure,
  kohavi_wolpert_variance,
  shannon_equitability,
)
from dissim_jax.metrics.interpolation import interpolate, interpolate_by_class
from dissim_jax.metrics.pairs import (
  cohens_kappa_label,
  double_fault,
  error_consistency,
  error_correlation,
  error_disagreement_ratio,
  error_inconsistency,
  label_disagreement,
  pairwise_mean,
  q_statistic,
)
from dissim_jax.metrics.scores import accuracy, cross_entropy
from dissim_jax.metrics.selection import greedy_selection
from dissim_jax.metrics.specialisation import (
  SpecialisationHistogram,
  confidence_angle,
  specialisation_by_class,
  specialisation_histogram,
)
from dissim_jax.metrics.temperature import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, fit_temperature

__all__ = [
  "HIGHEST_TEMPERATURE",
  "LOWEST_TEMPERATURE",
  "RULES",
  "ReliabilityDiagram",
  "SpecialisationHistogram",
  "accuracy",
  "all_wrong_fraction",
  "cohens_kappa_label",
  "coincident_failure_diversity",
  "combine",
  "confidence_angle",
  "conversion_rate",
  "cosine_similarity",
  "cross_entropy",
  "double_fault",
  "ensemble_predictions",
  "ensemble_probabilities",
  "entropy_measure",
  "error_consistency",
  "error_correlation",
  "error_disagreement_ratio",
  "error_inconsistency",
  "error_reduction_rate",
  "expected_calibration_error",
  "fit_temperature",
  "gain_over_best",
  "gain_over_mean",
  "greedy_selection",
  "interpolate",
  "interpolate_by_class",
  "jensen_shannon_divergence",
  "kohavi_wolpert_variance",
  "kullback_leibler_divergence",
  "label_disagreement",
  "pairwise_mean",
  "q_statistic",
  "reliability_diagram",
  "shannon_equitability",
  "specialisation_by_class",
  "specialisation_histogram",
]
