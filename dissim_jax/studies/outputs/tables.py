"""The output metrics of ensembles and of members as tables."""

import dataclasses

from dissim_jax.files import run as results_lib
from dissim_jax.files.run import sequence_label
from dissim_jax.registry import metrics
from dissim_jax.registry.entry import number
from dissim_jax.registry.objectives import DISTILL, objective_name
from dissim_jax.render import page
from dissim_jax.render.table import Body, Row, Table, marked, of_texts

# Columns of the table of members.
_ACCURACY = dataclasses.replace(metrics.ACCURACY, decimals=3)
_CALIBRATION = dataclasses.replace(metrics.CALIBRATION, decimals=3)


def output_table(results, measures=None) -> Table:
  """The output metrics per sequence and ensemble size, as in Wald et al. 2023, Table 1.

  Returns:
    A body a measure, a row a sequence, a column a size; a size that a sequence lacks is "–".
  """
  rows = {(row["sequence"], row["size"]): row for row in results.metrics["ensembles"]}
  sizes = sorted({size for _, size in rows})
  sequences = measured(results)
  values = {
    measure: [
      marked(measure, {name: rows.get((name, size), {}).get(measure.key) for name in sequences})
      for size in sizes
    ]
    for measure in measures or metrics.outputs()
  }
  return by_measure(values, {name: sequence_label(results, name) for name in sequences}, sizes)


def measured(results) -> list[str]:
  """The sequences that have ensembles, the baseline first."""
  known = {row["sequence"] for row in results.metrics["ensembles"]}
  return [name for name in results.sequences if name in known]


def by_measure(values: dict, labels: dict[str, str], sizes: list[int]) -> Table:
  """The table of output metrics: bodies of measures.

  Args:
    values: {measure: [{sequence: Cell} of every size]}.
    labels: of sequences.
    sizes: of ensembles.
  """
  bodies = [
    Body(
      [Row((label,), [column[name] for column in columns]) for name, label in labels.items()],
      measure.title,
    )
    for measure, columns in values.items()
  ]
  groups = [("Ensemble of N models", [str(size) for size in sizes])]
  return Table(("Sequence",), groups, bodies if sizes else [], of_bodies="Output metric")


def by_sequence(table: Table, sequences: list[str], heads: list[str]) -> Table:
  """The same for a terminal: a body a sequence, a row a size, a column a measure."""
  bodies = [
    Body(
      [
        Row((name, size), [body.rows[place].cells[column] for body in table.bodies])
        for column, size in enumerate(table.heads)
      ]
    )
    for place, name in enumerate(sequences)
  ]
  return Table(("sequence", "N"), [("", heads)], bodies)


def gains_sections(results) -> list[page.Section]:
  """What the ensembles of a run gain; nothing of a run of single models."""
  table = output_table(results)
  if not table.bodies:
    return []
  text = ""
  if len(table.bodies[0].rows) > 1:
    text = (
      "Best value of a column bold, better than the baseline underlined, both at the printed "
      "precision; the arrow shows the better direction. "
    )
  text += (
    "κ, Jensen-Shannon divergence (base 2) and the error disagreement ratio (different to same "
    "among joint errors) are means over all pairs of the ensemble. Error consistency is Cohen's κ "
    "of being right or wrong; “κ with label agreement” counts agreement of labels as observed."
  )
  folded = page.Folded("More output metrics", [output_table(results, metrics.more_outputs())])
  return [page.Section("What the ensemble gains", [table, page.Text(text, note=True), folded])]


_HEADS = (
  "Member",
  "Model",
  "Regularised against",
  "Accuracy [%]",
  "Cross-entropy",
  "Calibration error [%]",
  "Parameters",
  "Epochs",
  "Training [s]",
)


def members_section(results) -> page.Section:
  """How each member was trained, and how it does alone."""
  notes = [
    page.Text(f"{name} was trained by another run: {member['reused_from']}", note=True)
    for name, member in results.members.items()
    if member.get("reused_from") is not None
  ]
  return page.Section("Members", [of_texts(_HEADS, _member_rows(results), 3), *notes])


def _member_rows(results) -> list[tuple[str, ...]]:
  rows = []
  for name, member in results.members.items():
    parameters, epochs = member.get("parameters"), member.get("epochs")
    rows.append(
      (
        name,
        member["model"],
        _regularised_against(results, name),
        _ACCURACY.text(member["accuracy"]),
        number(member["cross_entropy"], 4),
        _CALIBRATION.text(member["expected_calibration_error"]),
        "–" if parameters is None else f"{parameters:,}",
        "–" if epochs is None else str(epochs),
        number(member.get("train_seconds"), 1),
      )
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
