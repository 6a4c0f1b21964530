"""The report of a finished run: one self-contained page, pictures, and a table for the terminal.

Reads saved files only: no model, no device, no jax.
"""

import base64
import importlib.resources
import json
import os
import tempfile

import jinja2

from dissim_jax.report import figures, summary, tables
from dissim_jax.report.results import Results, read_results
from dissim_jax.report.tables import number, print_table

__all__ = ["print_table", "write_report"]

FIGURE_NAMES = ("training", "lincka_maps", "diagonal", "r2")


def write_report(workdir: str) -> str:
  """Writes `report/report.html` and its pictures `report/*.png` into a run's directory.

  Args:
    workdir: the directory of a finished run: `config.json`, `evaluation/metrics.json`,
      `evaluation/similarity.npz` and, where there are any, `<member>/metrics.jsonl`.

  Returns:
    Path of the page. It embeds its pictures and loads nothing. Made again from the same files, it
    is the same.

  Raises:
    UserError: a file is missing or damaged; the sentence names it and says what to run.
  """
  results = read_results(workdir)
  drawn = figures.draw_all(results)
  folder = os.path.join(results.workdir, "report")
  os.makedirs(folder, exist_ok=True)
  for figure in drawn:
    _write(os.path.join(folder, f"{figure['name']}.png"), figure["png"])
  for name in set(FIGURE_NAMES) - {figure["name"] for figure in drawn}:
    stale = os.path.join(folder, f"{name}.png")
    if os.path.exists(stale):
      os.remove(stale)
  path = os.path.join(folder, "report.html")
  _write(path, render(results, drawn).encode("utf-8"))
  return path


def render(results: Results, drawn: list) -> str:
  """The page as text."""
  source = importlib.resources.files(__name__).joinpath("report.html.j2").read_text("utf-8")
  environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined,
                                   trim_blocks=True, lstrip_blocks=True)
  command = results.config.get("command")
  return environment.from_string(source).render(
    title=summary.title(results), facts=summary.facts(results),
    findings=summary.sentences(results), number=number,
    output=tables.output_table(results),
    further=tables.output_table(results, tables.FURTHER_MEASURES),
    taps=tables.tap_similarity(results), tap_label=results.tap_label(),
    members=tables.member_table(results), unreadable=results.unreadable,
    figures=[{**figure, "caption": summary.caption(figure["name"], results),
              "base64": base64.b64encode(figure["png"]).decode()} for figure in drawn],
    command=command if isinstance(command, str) or command is None else " ".join(command),
    environment=summary.environment(results),
    config=json.dumps(results.config, indent=2, ensure_ascii=False))


def _write(path, content):
  """Writes a whole file or none: a reader never sees half a page."""
  handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), suffix=".tmp")
  try:
    with os.fdopen(handle, "wb") as file:
      file.write(content)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  except BaseException:
    os.unlink(temporary)
    raise
