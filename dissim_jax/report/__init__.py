"""The report of a finished run: one self-contained page, pictures, and a table for the terminal.

Reads saved files only: no model, no device, no jax.
"""

import base64
import importlib.resources
import json
import os

import jinja2
import rich.console

from dissim_jax.report import (
  figures,
  stitching,
  stitching_figures,
  stitching_text,
  summary,
  tables,
)
from dissim_jax.report.files import write_file
from dissim_jax.report.results import Results, read_results
from dissim_jax.report.stitching_text import print_stitches
from dissim_jax.report.tables import number

__all__ = ["print_stitches", "print_table", "write_report"]

FIGURE_NAMES = ("training", "lincka_maps", "diagonal", "r2")
_STITCHING_NAMES = tuple(stitching_figures.PREFIX + name for name in stitching.EXPERIMENTS)


def write_report(workdir: str) -> str:
  """Writes `report/report.html` and its pictures `report/*.png` into a run's directory.

  Args:
    workdir: the directory of a finished run: `config.json`, `evaluation/metrics.json`,
      `evaluation/similarity.npz` and, where there are any, `<member>/metrics.jsonl` and
      `stitching/<experiment>/<source>-<target>.json` and `.npz`.

  Returns:
    Path of the page. It embeds its pictures and loads nothing. Made again from the same files, it
    is the same.

  Raises:
    UserError: a file is missing or damaged; the sentence names it and says what to run.
  """
  results = read_results(workdir)
  found = stitching.read_stitching(results)
  drawn, stitched = figures.draw_all(results), stitching_figures.draw_all(results, found)
  folder = os.path.join(results.workdir, "report")
  os.makedirs(folder, exist_ok=True)
  for figure in drawn + stitched:
    write_file(os.path.join(folder, f"{figure['name']}.png"), figure["png"])
  for name in {*FIGURE_NAMES, *_STITCHING_NAMES} - {figure["name"] for figure in drawn + stitched}:
    stale = os.path.join(folder, f"{name}.png")
    if os.path.exists(stale):
      os.remove(stale)
  path = os.path.join(folder, "report.html")
  write_file(path, render(results, drawn, found, stitched).encode("utf-8"))
  return path


def print_table(workdir: str, console: rich.console.Console | None = None) -> None:
  """Prints the output metrics, the similarity at the regularised taps, and what stitching kept.

  Columns that do not fit the console's width are left out from the right; nothing is clipped.

  Args:
    workdir: the directory of a finished run.
    console: where to print; the default writes to stdout.

  Raises:
    UserError: a file of the run is missing or damaged.
  """
  console = console or rich.console.Console()
  tables.print_table(workdir, console)
  results = read_results(workdir)
  stitching_text.print_matching(results, stitching.read_stitching(results), console)


def render(results: Results, drawn: list, found: stitching.Stitching, stitched: list) -> str:
  """The page as text."""
  source = importlib.resources.files(__name__).joinpath("report.html.j2").read_text("utf-8")
  environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined,
                                   trim_blocks=True, lstrip_blocks=True)
  command = results.config.get("command")
  return environment.from_string(source).render(
    title=summary.title(results), facts=summary.facts(results),
    findings=[*summary.sentences(results),
              *filter(None, [stitching_text.sentence(results, found)])],
    number=number,
    output=tables.output_table(results),
    further=tables.output_table(results, tables.FURTHER_MEASURES),
    taps=tables.tap_similarity(results), tap_label=results.tap_label(),
    members=tables.member_table(results), unreadable=results.unreadable,
    figures=[{**figure, "caption": summary.caption(figure["name"], results),
              "base64": base64.b64encode(figure["png"]).decode()} for figure in drawn],
    stitched=[{**figure, "alt": stitching_text.alt(figure["experiment"], pairs),
               "caption": stitching_text.caption(figure["experiment"], results, pairs),
               "base64": base64.b64encode(figure["png"]).decode()} for figure in stitched
              for pairs in (found.pairs[figure["experiment"]],)],
    matched=stitching_text.matching_tables(results, found), not_stitched=found.left_out,
    command=command if isinstance(command, str) or command is None else " ".join(command),
    environment=summary.environment(results),
    config=json.dumps(results.config, indent=2, ensure_ascii=False))
