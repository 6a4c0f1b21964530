"""The page of several runs: tables as mean ± standard deviation over seeds, and errors with bands.

Reads saved files only, as the report of one run does.
"""

import math
import os

import matplotlib
import numpy as np
import rich.console
import rich.text

from dissim_jax.errors import UserError
from dissim_jax.files import layout
from dissim_jax.files.atomic import encoded, write_bytes
from dissim_jax.files.run import sequence_label
from dissim_jax.pages import seeds_findings, seeds_means
from dissim_jax.registry import metrics
from dissim_jax.registry.entry import Quantity
from dissim_jax.registry.objectives import BASELINE
from dissim_jax.render import page, table, terminal
from dissim_jax.render.style import STYLE
from dissim_jax.render.table import Cell
from dissim_jax.studies.corruption import figures as corruption_figures
from dissim_jax.studies.corruption import record as corruption_record
from dissim_jax.studies.corruption import report as corruption_report
from dissim_jax.studies.outputs import tables

PAGE, PICTURE = "report.html", "seeds_errors"
_DIFFERENCE = Quantity("difference", "Ensemble accuracy minus the baseline's", +1, 2, "points")
_WIDEST = 10  # columns "mean ± standard deviation" that fit the page


def write_seeds(workdirs: list, output: str | None = None) -> str:
  """Writes the page of several runs of one experiment, and its picture.

  Args:
    workdirs: directories of finished runs that differ in the seed alone.
    output: folder of the page; by default `report/` in the folder that all runs lie in.

  Returns:
    Path of the page. It embeds its picture and loads nothing; made again from the same files, it is
    the same.

  Raises:
    UserError: the runs are not of one experiment, one is given twice, a file is missing or damaged,
      or the page would be that of a run.
  """
  runs = seeds_means.read_runs(workdirs)
  folder = output_folder(workdirs, output)
  try:
    os.makedirs(folder, exist_ok=True)
  except OSError as error:
    raise UserError(f"--output={folder}: the folder cannot be made ({error.strerror}).") from None
  parts = sections(runs)
  for picture in (picture for part in parts for picture in part.pictures):
    write_bytes(os.path.join(folder, f"{picture.name}.png"), picture.png)
  stale = os.path.join(folder, f"{PICTURE}.png")
  if not any(part.pictures for part in parts) and os.path.exists(stale):
    os.remove(stale)
  path = os.path.join(folder, PAGE)
  text = page.render(
    seeds_findings.title(runs),
    seeds_findings.facts(runs),
    [*_gains(runs), *parts, _made(runs)],
    seeds_findings.sentences(runs),
  )
  write_bytes(path, encoded(text))
  return path


def output_folder(workdirs: list, output: str | None) -> str:
  """Where the page goes: never into a run's report."""
  if not output:
    output = os.path.join(os.path.commonpath(list(map(os.path.abspath, workdirs))), layout.REPORT)
  parent = os.path.dirname(os.path.realpath(output))
  if os.path.isfile(os.path.join(parent, layout.EVALUATION, "metrics.json")):
    raise UserError(
      f"--output={output}: this is the report of the run {parent}; give another folder."
    )
  return output


def _gains(runs) -> list[page.Section]:
  """The clean output metrics; nothing of runs of single models."""
  outputs = output_table(runs)
  if not outputs.bodies:
    return []
  text = "Mean ± standard deviation (n − 1) over seeds. "
  if len(runs.sequences) > 1:
    text += (
      "Best mean of a column bold, better than the baseline underlined, both at the printed "
      "precision; the arrow shows the better direction. "
    )
  text += (
    "κ, Jensen-Shannon divergence (base 2) and the error disagreement ratio are means over all "
    "pairs of the ensemble."
  )
  text += " † Not defined in some seeds, which do not count." * outputs.has_marks
  return [page.Section("What the ensemble gains", [outputs, page.Text(text, note=True)])]


def _made(runs) -> page.Section:
  rows = [(str(run.metrics["seed"]), run.workdir) for run in runs.runs]
  environment = table.of_facts(seeds_findings.environment(runs))
  return page.Section("How this was made", [table.of_texts(("Seed", "Run"), rows, 2), environment])


def sections(runs) -> list:
  """The sections after the clean output metrics."""
  parts = []
  differences = differences_table(runs)
  if differences is not None:
    parts.append(
      page.Section(
        "Against the baseline of the same seed",
        [
          differences,
          page.Text(
            "Ensemble accuracy minus that of the baseline with the same seed, mean ± standard "
            "deviation over seeds, which are paired.",
            note=True,
          ),
        ],
      )
    )
  if runs.robust is None:
    return parts
  compared = comparison(runs)
  note = corruption_report.note(runs.robust[0], compared.has_marks)
  with matplotlib.rc_context(STYLE):
    figure = corruption_figures.errors(runs.robust[0], error_curves(runs), runs.robust[0].sequences)
    picture = page.picture(
      PICTURE,
      figure,
      "Lines with bands: error of the ensembles "
      f"{', '.join(runs.robust[0].sequences)} against severity, a panel each for "
      f"{corruption_figures.titles(runs.robust[0])}.",
      "Error of the ensembles against the severity of a corruption; 0 is the clean test set. Mean "
      "over seeds, bands ± one standard deviation. One y axis for all panels.",
    )
  return [
    *parts,
    page.Section(
      corruption_report.TITLE,
      [
        *compared.split(_WIDEST),
        page.Text(f"Mean ± standard deviation over seeds. {note}", note=True),
        picture,
      ],
    ),
  ]


def output_table(runs) -> table.Table:
  """As `studies.outputs.tables.output_table`, of means and standard deviations over runs."""
  values = {}
  for measure in metrics.outputs():
    columns = []
    for size in runs.sizes:
      spreads = {
        name: seeds_means.clean_spread(runs, name, size, measure.key) for name in runs.sequences
      }
      marked = seeds_means.cells(measure, spreads)
      columns.append(
        {
          name: corruption_report.partial(cell, not spreads[name].complete)
          for name, cell in marked.items()
        }
      )
    values[measure] = columns
  labels = {name: sequence_label(runs.first, name) for name in runs.sequences}
  return tables.by_measure(values, labels, runs.sizes)


def comparison(runs) -> table.Table:
  """As `studies.corruption.report.comparison`, of means and standard deviations over runs."""
  first, rows = runs.robust[0], {}
  for row, label in first.rows.items():
    cells = []
    for measure in corruption_record.COMPARED:
      spreads = {
        name: seeds_means.corrupted_spread(runs, row, name, measure.key) for name in first.sequences
      }
      marked = seeds_means.cells(measure, spreads)
      cells += [
        corruption_report.partial(marked[name], not spreads[name].complete)
        for name in first.sequences
      ]
    rows[row] = label, cells
  bodies = [
    [rows[corruption_record.CLEAN]],
    [rows[name] for name in first.corruptions],
    [rows[corruption_record.MEAN]],
  ]
  return table.labelled(
    "Test images",
    [(measure.title, first.sequences) for measure in corruption_record.COMPARED],
    bodies,
  )


def differences_table(runs) -> table.Table | None:
  """Paired differences to the baseline by condition; None without a baseline."""
  bodies = seeds_means.differences(runs)
  if not bodies:
    return None
  others = [name for name in runs.sequences if name != BASELINE]
  nothing = seeds_means.Spread(math.nan, math.nan, True)
  return table.labelled(
    "Test images",
    [(_DIFFERENCE.title, others)],
    [
      [
        (label, [_difference_cell(spreads.get(name, nothing)) for name in others])
        for label, spreads in body
      ]
      for body in bodies
    ],
  )


def _difference_cell(value):
  text = _DIFFERENCE.text(value.mean)
  sign = "+" if _DIFFERENCE.shown(value.mean) > 0 else ""
  cell = seeds_means.with_spread(Cell(sign + text, better=bool(sign)), _DIFFERENCE, value)
  return corruption_report.partial(cell, not value.complete)


def error_curves(runs) -> dict:
  """Mean and standard deviation over runs of the curves of `robustness_figures.errors`."""
  single = [corruption_figures.error_curves(robustness) for robustness in runs.robust]
  curves = {}
  for key, (x, _, _) in single[0].items():
    spreads = [
      seeds_means.spread(list(values)) for values in np.array([curve[key][1] for curve in single]).T
    ]
    curves[key] = (
      x,
      np.array([value.mean for value in spreads]),
      np.array([value.std for value in spreads]),
    )
  return curves


def print_seeds(workdirs: list, console: rich.console.Console | None = None) -> None:
  """Prints the output metrics and the comparison; columns that do not fit are left out.

  Args:
    workdirs: directories of finished runs that differ in the seed alone.
    console: where to print; the default writes to stdout.

  Raises:
    UserError: see `write_seeds`.
  """
  console = console or rich.console.Console()
  runs = seeds_means.read_runs(workdirs)
  console.print(rich.text.Text(f"Mean ± standard deviation over {len(runs.runs)} seeds"))
  outputs = output_table(runs)
  if outputs.bodies:
    heads = terminal.heads(metrics.outputs())
    terminal.print_table(tables.by_sequence(outputs, runs.sequences, heads), console)
  if runs.robust is not None:
    corruption_report.print_table(comparison(runs), runs.robust[0], console)
