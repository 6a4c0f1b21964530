"""Measures of predictions: of pairs, of groups and of ensembles, in the order of tables.

What has a function is computed, written and shown by its entry alone.
"""

import dataclasses
from typing import Any

from dissim_jax.registry.entry import Entry, Quantity

# What the function of a metric can take, by `Metric.of`. N examples, K classes; of a pair its two
# members one after the other, of a group and an ensemble all M members in one array.
TAKES = {
  "pair": ("classes", "labels", "probabilities"),
  "group": ("classes", "labels", "right", "wrong"),
  "ensemble": ("classes", "combined", "labels"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric(Entry):
  """A number that is computed of predictions.

  Attributes:
    of: "pair" (the mean over all pairs of an ensemble's members), "group" (of its members) or
      "ensemble" (of their common prediction beside theirs).
    takes: the arguments of the function, names in `TAKES`: "classes" int `[N]` of each member,
      of a group and an ensemble `[M, N]`; "probabilities" float32 `[N, K]`; "labels" int `[N]`;
      "combined" int `[N]`, what the ensemble predicts; "right" and "wrong" bool `[N]`, where it is
      so. It returns a scalar, and works under `jit`.
    both_ways: of a pair: the mean of f(a, b) and f(b, a).
    better: +1 if higher is better (more diverse), -1 if lower is, 0 if neither.
    unit, decimals, head: see `Quantity`.
    tables: where it is shown: "outputs" (ensembles by size, Wald et al. 2023, Table 5), "further"
      (the table below it), "diversity", "gains" (ensembles by rule), "conditions" (what is
      measured at every severity of a corruption), "corruption" (what of it is shown).
  """

  of: str
  takes: tuple[str, ...]
  both_ways: bool = False
  better: int = 0
  unit: str = ""
  decimals: int = 3
  head: str = ""
  tables: tuple[str, ...] = ()

  def quantity(self, label: str = "", decimals: int | None = None) -> Quantity:
    """How it is shown, perhaps under another label or with other decimals."""
    digits = self.decimals if decimals is None else decimals
    return Quantity(self.name, label or self.label, self.better, digits, self.unit, self.head)


_ON = ("classes", "labels")  # of correctness
_DIVERSITY = ("diversity",)


def _metric(of: str, code: str, name: str, label: str, better: int, takes=_ON, **more) -> Metric:
  fields: dict[str, Any] = {"tables": _DIVERSITY} | more
  return Metric(name=name, label=label, code=code, of=of, takes=takes, better=better, **fields)


def _pair(name: str, *about, module: str = "pairs", **more) -> Metric:
  return _metric("pair", f"metrics.{module}:{name}", name, *about, **more)


def _group(name: str, *about, function: str = "", **more) -> Metric:
  return _metric("group", f"metrics.groups:{function or name}", name, *about, **more)


def _gain(name: str, label: str, tables: tuple[str, ...] = (), **more) -> Metric:
  takes, code = ("classes", "combined", "labels"), f"metrics.gains:{name}"
  return _metric("ensemble", code, name, label, +1, takes, tables=tables, **more)


_ALL = (
  _pair(
    "error_inconsistency", "Error inconsistency", +1, unit="%", tables=("further", "diversity")
  ),
  _pair(
    "error_consistency",
    "Error consistency κ",
    -1,
    unit="%",
    head="κ",
    tables=("outputs", "diversity", "conditions", "corruption"),
  ),
  _pair(
    "cohens_kappa_label",
    "κ with label agreement",
    -1,
    unit="%",
    head="κ label",
    tables=("outputs", "diversity", "conditions"),
  ),
  _pair("error_correlation", "Error correlation ρ", -1),
  _pair("q_statistic", "Q statistic", -1),
  _pair("double_fault", "Double fault", -1, unit="%"),
  _pair(
    "label_disagreement",
    "Label disagreement",
    +1,
    ("classes",),
    unit="%",
    tables=("further", "diversity"),
  ),
  _pair(
    "jensen_shannon_divergence",
    "Jensen-Shannon divergence",
    +1,
    ("probabilities",),
    module="distributions",
    unit="%",
    head="JSD",
    tables=("outputs", "diversity", "conditions", "corruption"),
  ),
  _pair(
    "error_disagreement_ratio",
    "Error disagreement ratio",
    +1,
    head="EDR",
    tables=("outputs", "diversity"),
  ),
  _pair(
    "kullback_leibler_divergence",
    "Kullback-Leibler divergence [bits]",
    +1,
    ("probabilities",),
    module="distributions",
    both_ways=True,
  ),
  _pair(
    "cosine_similarity",
    "Cosine similarity of probabilities",
    -1,
    ("probabilities",),
    module="distributions",
  ),
  _group("entropy_measure", "Entropy measure", +1),
  _group("kohavi_wolpert_variance", "Kohavi-Wolpert variance", +1),
  _group("coincident_failure_diversity", "Coincident failure diversity", +1),
  _group("shannon_equitability", "Shannon equitability", +1, ("classes",)),
  _group(
    "shannon_equitability_right",
    "Shannon equitability, ensemble right",
    +1,
    ("classes", "right"),
    function="shannon_equitability",
  ),
  _group(
    "shannon_equitability_wrong",
    "Shannon equitability, ensemble wrong",
    +1,
    ("classes", "wrong"),
    function="shannon_equitability",
  ),
  _group("all_wrong_fraction", "All members wrong", -1, unit="%"),
  _gain(
    "gain_over_best", "Gain over the best member", unit="points", decimals=2, tables=("gains",)
  ),
  _gain("gain_over_mean", "Gain over the members' mean", unit="points", decimals=2),
  _gain("conversion_rate", "Conversion rate", unit="%", decimals=1, tables=("gains",)),
  _gain("error_reduction_rate", "Error reduction", unit="%", decimals=1, tables=("gains",)),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def metrics_of(kind: str) -> dict[str, Metric]:
  """The metrics of pairs, of groups or of ensembles."""
  return {name: metric for name, metric in METRICS.items() if metric.of == kind}


def quantities(table: str, decimals: int | None = None) -> tuple[Quantity, ...]:
  """How the metrics of a table are shown, in its order."""
  return tuple(
    metric.quantity(decimals=decimals) for metric in METRICS.values() if table in metric.tables
  )


# How members are combined.
RULES = {
  "probs": "mean of probabilities",
  "logits": "mean of logits",
  "median": "median of probabilities",
  "geometric": "geometric mean",
  "vote": "majority vote",
}

# Scores of one prediction, of a member or of an ensemble.
ACCURACY = Quantity("accuracy", "Accuracy", +1, 2, "%")
CROSS_ENTROPY = Quantity("cross_entropy", "Cross-entropy", -1, 4)
CALIBRATION = Quantity("expected_calibration_error", "Calibration error", -1, 2, "%")
SCORES = (ACCURACY, CROSS_ENTROPY, CALIBRATION)

MEMBER_ACCURACY = Quantity(
  "member_accuracy", "Accuracy of the newest member", +1, unit="%", head="acc"
)
ENSEMBLE_ACCURACY = Quantity("ensemble_accuracy", "Ensemble accuracy", +1, unit="%", head="ens acc")


def outputs() -> tuple[Quantity, ...]:
  """Rows and order of Wald et al. 2023, Table 5."""
  return (ENSEMBLE_ACCURACY, MEMBER_ACCURACY, *quantities("outputs"))


def more_outputs() -> tuple[Quantity, ...]:
  """What is shown below them."""
  return (
    Quantity("ensemble_cross_entropy", "Ensemble cross-entropy", -1, 4),
    Quantity("ensemble_expected_calibration_error", "Ensemble calibration error", -1, unit="%"),
    *quantities("further"),
  )
