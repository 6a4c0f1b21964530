"""The report of one finished run: its page, pictures, and a table for the terminal."""

import base64
import json
import os

import matplotlib
import rich.console

from dissim_jax.files import layout
from dissim_jax.files.atomic import encoded, write_bytes
from dissim_jax.registry import metrics
from dissim_jax.registry.entry import number
from dissim_jax.report import (
  attribution,
  blocks,
  diversity,
  diversity_text,
  features,
  figures,
  robustness,
  robustness_text,
  stitching,
  stitching_figures,
  stitching_text,
  summary,
  tables,
  terminal,
  transferability,
)
from dissim_jax.report.results import Results, read_results

FIGURE_NAMES = ("training", "lincka_maps", "diagonal", "r2")
_STITCHING_NAMES = tuple(stitching_figures.PREFIX + name for name in stitching.EXPERIMENTS)
# What reads a run's optional files, and what writes of them, in the order of the page.
_SECTIONS = {
  robustness: robustness_text,
  transferability: transferability,
  diversity: diversity_text,
  attribution: attribution,
  features: features,
}
_SECTION_NAMES = tuple(name for text in _SECTIONS.values() for name in text.PICTURES)


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
  results = read_results(workdir)
  measured = {reader: reader.read(results) for reader in _SECTIONS}
  found = stitching.read_stitching(results)
  drawn, stitched = figures.draw_all(results), stitching_figures.draw_all(results, found)
  sections = _draw_sections(results, measured)
  compared = sections.pop(robustness, [])
  further = [part for parts in sections.values() for part in parts]
  folder = os.path.join(results.workdir, layout.REPORT)
  os.makedirs(folder, exist_ok=True)
  pictures = {figure["name"]: figure["png"] for figure in drawn + stitched}
  pictures |= {block.name: block.png for part in compared + further for block in part.pictures}
  for name, content in pictures.items():
    write_bytes(os.path.join(folder, f"{name}.png"), content)
  for name in {*FIGURE_NAMES, *_STITCHING_NAMES, *_SECTION_NAMES} - set(pictures):
    stale = os.path.join(folder, f"{name}.png")
    if os.path.exists(stale):
      os.remove(stale)
  path = os.path.join(folder, "report.html")
  page = render(results, drawn, found, stitched, compared, further)
  write_bytes(path, encoded(page))
  return path


def _draw_sections(results: Results, found: dict) -> dict:
  """{reader: the sections on what it read}."""
  with matplotlib.rc_context(figures.STYLE):
    return {
      reader: text.sections(results, found[reader])
      for reader, text in _SECTIONS.items()
      if found[reader] is not None
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
  results = read_results(workdir)
  terminal.print_outputs(results, console)
  robust = robustness.read(results)
  if robust is not None:
    robustness_text.print_table(robustness_text.comparison(robust), robust, console)
  stitching_text.print_matching(results, stitching.read_stitching(results), console)


def render(
  results: Results,
  drawn: list,
  found: stitching.Stitching,
  stitched: list,
  compared: list = (),
  further: list = (),
) -> str:
  """The page as text; `compared` and `further` are sections."""
  command = results.config.get("command")
  return blocks.template("report.html.j2").render(
    title=summary.title(results),
    facts=summary.facts(results),
    findings=[
      *summary.sentences(results),
      *filter(None, [stitching_text.sentence(results, found)]),
    ],
    number=number,
    output=tables.output_table(results),
    further=tables.output_table(results, metrics.further()),
    compared=compared,
    further_sections=further,
    taps=tables.tap_similarity(results),
    tap_label=results.tap_label(),
    members=tables.member_table(results),
    unreadable=results.unreadable,
    figures=[
      {
        **figure,
        "caption": summary.caption(figure["name"], results),
        "base64": base64.b64encode(figure["png"]).decode(),
      }
      for figure in drawn
    ],
    stitched=[
      {
        **figure,
        "alt": stitching_text.alt(figure["experiment"], pairs),
        "caption": stitching_text.caption(figure["experiment"], results, pairs),
        "base64": base64.b64encode(figure["png"]).decode(),
      }
      for figure in stitched
      for pairs in (found.pairs[figure["experiment"]],)
    ],
    matched=stitching_text.matching_tables(results, found),
    not_stitched=found.left_out,
    command=command if isinstance(command, str) or command is None else " ".join(command),
    environment=summary.environment(results),
    config=json.dumps(results.config, indent=2, ensure_ascii=False),
  )
