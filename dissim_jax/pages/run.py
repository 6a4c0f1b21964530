"""The report of one finished run: its page, pictures, and a table for the terminal."""

import json
import os
from typing import Any

import matplotlib
import rich.console
import rich.text

from dissim_jax.files import layout
from dissim_jax.files.atomic import encoded, write_bytes
from dissim_jax.files.run import RunFiles, read_run
from dissim_jax.pages import figures, findings
from dissim_jax.registry import metrics
from dissim_jax.registry.studies import STUDIES
from dissim_jax.render import page, table, terminal
from dissim_jax.render.style import STYLE
from dissim_jax.studies.corruption import record as corruption_record
from dissim_jax.studies.corruption import report as corruption_report
from dissim_jax.studies.outputs import tables
from dissim_jax.studies.similarity import at_taps
from dissim_jax.studies.stitching import record as stitching_record
from dissim_jax.studies.stitching import report as stitching_report

FIGURE_NAMES = ("training", "lincka_maps", "diagonal", "r2")


def write_report(workdir: str) -> str:
  """Writes `report/report.html` and its pictures `report/*.png` into a run's directory.

  Args:
    workdir: the directory of a finished run: `config.json`, `evaluation/metrics.json`,
      `evaluation/similarity.npz` and, where there are any, `<member>/metrics.jsonl` and the files
      of studies (see `registry.studies`).

  Returns:
    Path of the page. It embeds its pictures and loads nothing. Made again from the same files, it
    is the same.

  Raises:
    UserError: a file is missing or damaged; the sentence names it and says what to run.
  """
  run = read_run(workdir)
  records = {name: study.part("record").read(run) for name, study in STUDIES.items()}
  parts = sections(run, records)
  folder = os.path.join(run.workdir, layout.REPORT)
  os.makedirs(folder, exist_ok=True)
  pictures = {block.name: block.png for part in parts for block in part.pictures}
  for name, content in pictures.items():
    write_bytes(os.path.join(folder, f"{name}.png"), content)
  known = [name for study in STUDIES.values() for name in study.part("report").PICTURES]
  for name in {*FIGURE_NAMES, *known} - set(pictures):
    stale = os.path.join(folder, f"{name}.png")
    if os.path.exists(stale):
      os.remove(stale)
  path = os.path.join(folder, "report.html")
  stitched = stitching_report.sentence(run, records["stitching"])
  text = page.render(
    findings.title(run),
    findings.facts(run),
    [*parts, made(run)],
    [*findings.sentences(run), *filter(None, [stitched])],
  )
  write_bytes(path, encoded(text))
  return path


def sections(run: RunFiles, records: dict[str, Any]) -> list[page.Section]:
  """All sections on what was measured, in the order of the page; records by study, None without."""
  with matplotlib.rc_context(STYLE):
    studies = {
      name: STUDIES[name].part("report").sections(run, record)
      for name, record in records.items()
      if record is not None
    }
  damaged = [
    page.Text(
      f"{count} damaged line{'s' * (count > 1)} of {name}/metrics.jsonl left out.", note=True
    )
    for name, count in run.unreadable.items()
  ]
  return [
    *tables.gains_sections(run),
    *studies.pop("corruption", []),
    *at_taps.taps_sections(run),
    tables.members_section(run),
    *figures.sections(run),
    *([page.Section("Damaged files", damaged)] if damaged else []),
    *(part for parts in studies.values() for part in parts),
  ]


def made(run: RunFiles) -> page.Section:
  """The command, versions and hardware, and the config."""
  command = run.config.get("command")
  command_line = command if isinstance(command, str) or command is None else " ".join(command)
  config = json.dumps(run.config, indent=2, ensure_ascii=False)
  return page.Section(
    "How this was made",
    [
      *([page.Text("To reproduce:"), page.Code(command_line)] if command_line else []),
      table.of_facts(findings.environment(run)),
      page.Folded("The exact config", [page.Code(config)]),
    ],
  )


def print_table(workdir: str, console: rich.console.Console | None = None) -> None:
  """Prints output metrics, similarity at regularised taps, corruptions, and what stitching kept.

  Columns that do not fit the console's width are left out from the right; nothing is clipped.

  Args:
    workdir: the directory of a finished run.
    console: where to print; the default writes to stdout.

  Raises:
    UserError: a file of the run is missing or damaged.
  """
  console = console or rich.console.Console()
  run = read_run(workdir)
  outputs = tables.output_table(run)
  if outputs.bodies:
    heads = terminal.heads(metrics.outputs())
    terminal.print_table(tables.by_sequence(outputs, tables.measured(run), heads), console)
  for line in at_taps.tap_lines(run):
    console.print(rich.text.Text(line))
  robust = corruption_record.read(run)
  if robust is not None:
    corruption_report.print_table(corruption_report.comparison(robust), robust, console)
  stitching_report.print_matching(run, stitching_record.read(run), console)
