"""The report of one finished run: its page, pictures, and a table for the terminal."""

import base64
import json
import os

import matplotlib
import rich.box
import rich.console
import rich.table
import rich.text

from dissim_jax.files import layout
from dissim_jax.files.atomic import encoded, write_bytes
from dissim_jax.files.run import RunFiles, read_run
from dissim_jax.pages import figures, findings
from dissim_jax.registry import metrics
from dissim_jax.registry.entry import number
from dissim_jax.registry.studies import STUDIES, Study
from dissim_jax.render import page, terminal
from dissim_jax.render.style import STYLE
from dissim_jax.studies.corruption import record as corruption_record
from dissim_jax.studies.corruption import report as corruption_report
from dissim_jax.studies.outputs import tables
from dissim_jax.studies.similarity import at_taps
from dissim_jax.studies.stitching import figures as stitching_figures
from dissim_jax.studies.stitching import record as stitching_record
from dissim_jax.studies.stitching import report as stitching_report

FIGURE_NAMES = ("training", "lincka_maps", "diagonal", "r2")
_STITCHING_NAMES = tuple(stitching_figures.PREFIX + name for name in stitching_record.EXPERIMENTS)


def write_report(workdir: str) -> str:
  """Writes `report/report.html` and its pictures `report/*.png` into a run's directory.

  Args:
    workdir: the directory of a finished run: `config.json`, `evaluation/metrics.json`,
      `evaluation/similarity.npz` and, where there are any, `<member>/metrics.jsonl`,
      `evaluation/robustness.json`, `corruptions.npz`, `transferability.json`,
      `transferability.npz`, `diversity.json`, `attribution.json`, `attribution.npz` and
      `features.json`, and `stitching/<experiment>/<source>-<target>.json` and
      `.npz`.

  Returns:
    Path of the page. It embeds its pictures and loads nothing. Made again from the same files, it
    is the same.

  Raises:
    UserError: a file is missing or damaged; the sentence names it and says what to run.
  """
  results = read_run(workdir)
  found = stitching_record.read_stitching(results)
  drawn, stitched = figures.draw_all(results), stitching_figures.draw_all(results, found)
  sections = _draw_sections(results)
  compared = sections.pop("corruption", [])
  further = [part for parts in sections.values() for part in parts]
  folder = os.path.join(results.workdir, layout.REPORT)
  os.makedirs(folder, exist_ok=True)
  pictures = {figure["name"]: figure["png"] for figure in drawn + stitched}
  pictures |= {block.name: block.png for part in compared + further for block in part.pictures}
  for name, content in pictures.items():
    write_bytes(os.path.join(folder, f"{name}.png"), content)
  for name in {*FIGURE_NAMES, *_STITCHING_NAMES, *_section_pictures()} - set(pictures):
    stale = os.path.join(folder, f"{name}.png")
    if os.path.exists(stale):
      os.remove(stale)
  path = os.path.join(folder, "report.html")
  text = render(results, drawn, found, stitched, compared, further)
  write_bytes(path, encoded(text))
  return path


def _shown() -> list[Study]:
  """The studies that are sections of the page."""
  return [study for study in STUDIES.values() if not study.own_page]


def _section_pictures() -> list[str]:
  """The names of all pictures that sections may have."""
  return [name for study in _shown() for name in study.part("report").PICTURES]


def _draw_sections(run: RunFiles) -> dict[str, list[page.Section]]:
  """By study, the sections on what was measured of the run."""
  records = {study.name: study.part("record").read(run) for study in _shown()}
  with matplotlib.rc_context(STYLE):
    return {
      name: STUDIES[name].part("report").sections(run, record)
      for name, record in records.items()
      if record is not None
    }


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
  results = read_run(workdir)
  print_outputs(results, console)
  robust = corruption_record.read(results)
  if robust is not None:
    corruption_report.print_table(corruption_report.comparison(robust), robust, console)
  stitching_report.print_matching(results, stitching_record.read_stitching(results), console)


def render(
  results: RunFiles,
  drawn: list,
  found: stitching_record.Stitching,
  stitched: list,
  compared: list = (),
  further: list = (),
) -> str:
  """The page as text; `compared` and `further` are sections."""
  command = results.config.get("command")
  return page.template("report.html.j2").render(
    title=findings.title(results),
    facts=findings.facts(results),
    findings=[
      *findings.sentences(results),
      *filter(None, [stitching_report.sentence(results, found)]),
    ],
    number=number,
    output=tables.output_table(results),
    further=tables.output_table(results, metrics.further()),
    compared=compared,
    further_sections=further,
    taps=at_taps.tap_similarity(results),
    tap_label=results.tap_label(),
    members=tables.member_table(results),
    unreadable=results.unreadable,
    figures=[
      {
        **figure,
        "caption": findings.caption(figure["name"], results),
        "base64": base64.b64encode(figure["png"]).decode(),
      }
      for figure in drawn
    ],
    stitched=[
      {
        **figure,
        "alt": stitching_report.alt(figure["experiment"], pairs),
        "caption": stitching_report.caption(figure["experiment"], results, pairs),
        "base64": base64.b64encode(figure["png"]).decode(),
      }
      for figure in stitched
      for pairs in (found.pairs[figure["experiment"]],)
    ],
    matched=stitching_report.matching_tables(results, found),
    not_stitched=found.left_out,
    command=command if isinstance(command, str) or command is None else " ".join(command),
    environment=findings.environment(results),
    config=json.dumps(results.config, indent=2, ensure_ascii=False),
  )


def print_outputs(results, console: rich.console.Console) -> None:
  """Prints the output metrics by sequence and size, and the similarity at the regularised taps."""
  output, rows = tables.output_table(results), []
  for position, name in enumerate(output["sequences"]):
    rows.append(None)
    for column, size in enumerate(output["sizes"]):
      found = [group["rows"][position][1][column] for group in output["groups"]]
      rows.append([name, str(size), *found])
  if rows:
    terminal.print_fitting(["sequence", "N"], terminal.heads(metrics.outputs()), rows, console)
  for line in at_taps.tap_lines(results):
    console.print(rich.text.Text(line))
