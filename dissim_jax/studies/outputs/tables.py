"""The output metrics of ensembles and of members as tables."""

import dataclasses

from dissim_jax.files import run as results_lib
from dissim_jax.files.run import sequence_label
from dissim_jax.registry import metrics
from dissim_jax.registry.entry import number
from dissim_jax.registry.objectives import DISTILL, objective_name
from dissim_jax.render.table import cells

# Columns of the table of members.
_ACCURACY = dataclasses.replace(metrics.ACCURACY, decimals=3)


_CALIBRATION = dataclasses.replace(metrics.CALIBRATION, decimals=3)


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
