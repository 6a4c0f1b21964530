"""The comparison of ensembles, clean and corrupted, as a section of the page and in a terminal."""

import dataclasses
import math

from dissim_jax.registry import entry
from dissim_jax.render import page, terminal
from dissim_jax.render.table import Table, labelled, marked
from dissim_jax.studies.corruption import figures
from dissim_jax.studies.corruption.record import CLEAN, COMPARED, DETAILED, MEAN

TITLE = "Ensembles compared, clean and corrupted"
PICTURES = ("robustness_errors", "robustness_gains", "robustness_examples")
PARTIAL = "†"
WIDEST = 20  # columns of numbers that fit the page


def sections(results, record) -> list:
  """The section on a `Robustness`."""
  table = comparison(record)
  return [
    page.Section(
      TITLE,
      [
        *table.split(WIDEST),
        page.Text(note(record, table.has_marks), note=True),
        page.Folded("Every severity", [every_severity(record)]),
        *_pictures(results, record),
      ],
    )
  ]


def comparison(record) -> Table:
  """Clean, each corruption (mean over severities), and their mean; a column an ensemble."""
  columns = {
    measure.key: {row: _cells(record, measure, row) for row in record.rows} for measure in COMPARED
  }
  rows = {
    row: (
      title,
      [columns[measure.key][row][name] for measure in COMPARED for name in record.sequences],
    )
    for row, title in record.rows.items()
  }
  bodies = [[rows[CLEAN]], [rows[name] for name in record.corruptions], [rows[MEAN]]]
  return labelled(
    "Test images", [(measure.title, record.sequences) for measure in COMPARED], bodies
  )


def every_severity(record) -> Table:
  """Accuracy, shared errors and gain of the ensembles under each corruption at each severity."""
  bodies = []
  for name, title in record.corruptions.items():
    body = []
    for severity in record.severities:
      values = record.values[name, severity]
      columns = [
        marked(measure, {ensemble: values[ensemble][measure.key] for ensemble in record.sequences})
        for measure in DETAILED
      ]
      body.append(
        (
          f"{title} {severity:g}",
          [row[ensemble] for row in columns for ensemble in record.sequences],
        )
      )
    bodies.append(body)
  groups = [(measure.title, record.sequences) for measure in DETAILED]
  return labelled("Test images", groups, bodies)


def _cells(record, measure, row):
  means = {name: record.mean(row, name, measure.key) for name in record.sequences}
  cells = marked(measure, {name: mean.value for name, mean in means.items()})
  return {name: partial(cell, not means[name].complete) for name, cell in cells.items()}


def partial(cell, some_missing: bool):
  """The cell with a mark if it has a value that lacks some of its parts."""
  missing = some_missing and cell.text != entry.number(math.nan)
  return dataclasses.replace(cell, mark=PARTIAL) if missing else cell


def note(record, some_missing: bool) -> str:
  """How to read the comparison."""
  levels = ", ".join(f"{severity:g}" for severity in record.severities)
  text = (
    f"Means over severities {levels}; below, the mean of the corruptions. Each ensemble at "
    "its full size; member accuracy, κ and Jensen-Shannon divergence (JSD, base 2) are means "
    f"over its members or pairs; members are combined by “{record.rule}”. "
  )
  if len(record.sequences) > 1:
    text += (
      "Best value of a group bold, better than the baseline underlined, both at the printed "
      "precision; the arrow shows the better direction. "
    )
  return text + some_missing * f"{PARTIAL} Some conditions have no value and do not count."


def _pictures(results, record):
  names, images = ", ".join(record.sequences), results.metrics["dataset"]["name"]
  rows = figures.titles(record)
  drawn = [
    (
      "robustness_errors",
      figures.errors(record, figures.error_curves(record), record.sequences),
      f"Lines: error of the ensembles {names} against severity, a panel each for {rows}.",
      "Error of the ensembles against the severity of a corruption; 0 is the clean test set. One y "
      "axis for all panels.",
    ),
    (
      "robustness_gains",
      figures.gains(record),
      f"Points: gain of the ensembles {names} over their best member for {rows}.",
      "Accuracy of an ensemble minus that of its best member on the same images, mean over "
      "severities; right of the line the ensemble is better than any of its members.",
    ),
    (
      "robustness_examples",
      figures.examples(record),
      f"Images: one test image of {images} under {rows}, by severity.",
      f"One test image of {images} under every corruption (rows) and severity (columns).",
    ),
  ]
  return [
    page.picture(name, figure, alt, caption)
    for name, figure, alt, caption in drawn
    if figure is not None
  ]


def print_table(table: Table, record, console) -> None:
  """Prints a comparison, ensemble accuracies first; what has no room at the right is left out."""
  order = sorted(range(len(COMPARED)), key=lambda i: COMPARED[i].key != "ensemble_accuracy")
  width = len(record.sequences)
  columns = [measure * width + index for measure in order for index in range(width)]
  short = terminal.heads(COMPARED)
  heads = [
    f"{short[column // width] if not column % width else ''}\n{record.sequences[column % width]}"
    for column in columns
  ]
  bodies = [
    [(row.labels[0], [row.cells[column] for column in columns]) for row in body.rows]
    for body in table.bodies
  ]
  terminal.print_table(labelled("\ntest images", [("", heads)], bodies), console, group=width)
