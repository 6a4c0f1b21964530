"""The numbers in words and tables."""

import dataclasses
import math

import numpy as np

from dissim_jax.registry import metrics
from dissim_jax.registry.entry import Quantity, number
from dissim_jax.registry.measures import MEASURES
from dissim_jax.registry.objectives import BASELINE, DISTILL, JOINT, SEQUENTIAL
from dissim_jax.report import results as results_lib

RELATION_NAMES = {
  "independent": "independent",
  "against": "dissimilar",
  "joint": "trained jointly",
  "other": "not trained against each other",
}

# Columns of the table of members.
_ACCURACY = dataclasses.replace(metrics.ACCURACY, decimals=3)
_CALIBRATION = dataclasses.replace(metrics.CALIBRATION, decimals=3)


@dataclasses.dataclass(frozen=True)
class Cell:
  """One printed value: `best` of its column, `better` than the baseline.

  `spread` is a standard deviation, `mark` a sign that a note explains.
  """

  text: str
  best: bool = False
  better: bool = False
  spread: str = ""
  mark: str = ""


def measure_label(name: str) -> str:
  """Display name of a similarity measure, or the name of one that is not known here."""
  return MEASURES[name].label if name in MEASURES else str(name)


def metric_name(results) -> str:
  """Display name of the similarity that was minimised."""
  return measure_label(results.metrics["dissim"]["metric"])


def objective_name(objective: str) -> str:
  """Display name of a joint objective."""
  return JOINT[objective].label if objective in JOINT else objective.replace("_", " ")


def objective_weight(results) -> str:
  """The weight of the diversity term of joint objectives, e.g. "λ = 0.2", or nothing."""
  weight = results.metrics.get("objective", {}).get("weight")
  return "" if weight is None else f"λ = {weight:g}"


def sequence_label(results, sequence) -> str:
  """Name of a sequence with what was done to it, e.g. "dissimilar (ExpVar, tap 3)"."""
  taps, objective = results.regularised_taps, results.sequence_objective(sequence)
  if objective != SEQUENTIAL:
    parts = [objective_name(objective)] if sequence != objective else []
    parts += ["jointly"] * ("jointly" not in "".join(parts))
    weight = objective_weight(results) if objective != results_lib.INDEPENDENT else ""
    return f"{sequence} ({', '.join(filter(None, [*parts, weight]))})"
  regularised = any(
    results.teachers(name) for name in results.sequences[sequence] if name in results.members
  )
  if sequence == BASELINE or not taps or not regularised:
    return sequence
  return (
    f"{sequence} ({metric_name(results)}, tap{'s' if len(taps) > 1 else ''} "
    f"{', '.join(str(tap) for tap in taps)})"
  )


def cells(measure: Quantity, values: dict) -> dict:
  """Marks one column of one measure.

  Values are compared at the printed precision, so two equal-looking numbers are never told apart.

  Args:
    measure: gives direction, unit and precision.
    values: sequence name -> value (None or NaN: not defined).

  Returns:
    sequence name -> Cell. `best` needs at least two defined values that are not all equal.
  """
  shown = {name: measure.shown(value) for name, value in values.items()}
  defined = [value for value in shown.values() if not math.isnan(value)]
  best = max(defined, key=lambda value: measure.better * value, default=math.nan)
  compared = measure.better and len(set(defined)) > 1
  baseline = shown.get(BASELINE, math.nan)
  return {
    name: Cell(
      number(value, measure.decimals),
      best=bool(compared and value == best),
      better=measure.better * value > measure.better * baseline,
    )
    for name, value in shown.items()
  }


def output_table(results, measures=None) -> dict:
  """The output metrics per sequence and ensemble size, as in Wald et al. 2023, Table 1.

  Returns:
    {"sizes": [2, ...], "sequences": [name, ...], "groups": [{"title": str,
    "rows": [(sequence label, [Cell, ...])]}]}, the rows in the order of "sequences"; a size that a
    sequence lacks is shown as "–".
  """
  rows = {(row["sequence"], row["size"]): row for row in results.metrics["ensembles"]}
  sizes = sorted({size for _, size in rows})
  sequences = [name for name in results.sequences if any((name, size) in rows for size in sizes)]
  groups = []
  for measure in measures or metrics.outputs():
    columns = [
      cells(measure, {name: rows.get((name, size), {}).get(measure.key) for name in sequences})
      for size in sizes
    ]
    groups.append(
      {
        "title": measure.title,
        "rows": [
          (sequence_label(results, name), [column[name] for column in columns])
          for name in sequences
        ],
      }
    )
  return {"sizes": sizes, "sequences": sequences, "groups": groups if sizes else []}


def member_table(results) -> list:
  """One row of texts per member: how it was trained and how it does alone."""
  rows = []
  for name, member in results.members.items():
    reused = member.get("reused_from")
    parameters, epochs = member.get("parameters"), member.get("epochs")
    rows.append(
      {
        "name": name,
        "model": member["model"],
        "teachers": _regularised_against(results, name),
        "accuracy": _ACCURACY.text(member["accuracy"]),
        "cross_entropy": number(member["cross_entropy"], 4),
        "calibration": _CALIBRATION.text(member["expected_calibration_error"]),
        "parameters": "–" if parameters is None else f"{parameters:,}",
        "epochs": "–" if epochs is None else str(epochs),
        "seconds": number(member.get("train_seconds"), 1),
        "reused_from": "" if reused is None else str(reused),
      }
    )
  return rows


def _regularised_against(results, name):
  if results.enforces_diversity(name):
    return f"jointly ({objective_name(results.objective(name))})"
  if results.objective(name) == DISTILL:
    return f"– (distilled from {', '.join(results.members[name]['teachers'])})"
  if results.objective(name) == results_lib.INDEPENDENT:
    return "– (trained jointly)"
  return ", ".join(results.teachers(name)) or "–"


def _at_taps(values, taps):
  """Mean of [L] over the taps; NaN where one is missing."""
  if values is None:
    return math.nan
  chosen = [values[tap] for tap in taps if 0 <= tap < len(values)]
  return float(np.mean(chosen)) if len(chosen) == len(taps) and taps else math.nan


def tap_similarity(results) -> list:
  """Similarity at the regularised taps, averaged over the pairs of each relation.

  Returns:
    rows {"relation", "label", "pairs", "r2", "r2_reverse", "lincka", "lincka_position"}; r2 tells
    how well the earlier member's tap linearly predicts the later one's, r2_reverse the opposite;
    1 = fully alike. Several taps and several pairs are averaged; NaN where no pair has a value.
  """
  taps, groups = results.regularised_taps, {}
  for a, b in results.pairs if taps else []:
    earlier, later = (b, a) if b in results.teachers(a) else (a, b)
    position = results.arrays["lincka_position"]
    groups.setdefault(results.relation(a, b), []).append(
      (
        _at_taps(results.arrays["r2"].get((earlier, later)), taps),
        _at_taps(results.arrays["r2"].get((later, earlier)), taps),
        _at_taps(results.equal_taps(a, b), taps),
        _at_taps(position.get((a, b)), taps),
      )
    )
  rows = []
  for relation in RELATION_NAMES:
    values = np.array(groups.get(relation, np.empty((0, 4))))
    if not len(values):
      continue
    means = [
      float(np.mean(column[~np.isnan(column)])) if not np.isnan(column).all() else math.nan
      for column in values.T
    ]
    rows.append(
      {
        "relation": relation,
        "label": RELATION_NAMES[relation],
        "pairs": len(values),
        **dict(zip(("r2", "r2_reverse", "lincka", "lincka_position"), means, strict=True)),
      }
    )
  return rows


def tap_lines(results) -> list:
  """The similarity at the regularised taps, one short line for each relation of pairs."""
  rows = tap_similarity(results)
  if not rows:
    return []
  lines = [f"At {results.tap_label()}, 1 = alike (R²: least squares, later from earlier member):"]
  for row in rows:
    label = f"{row['label']} ({row['pairs']} pair{'s' * (row['pairs'] > 1)})"
    lines.append(f"  {label:<43}R² {number(row['r2']):>6}  LinCKA {number(row['lincka']):>6}")
  return lines
