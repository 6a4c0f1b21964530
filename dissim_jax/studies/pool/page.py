"""The page of a pool, the files beside it, and its findings for a terminal."""

import math
import os
import shlex
from pathlib import Path

import matplotlib
import numpy as np
import rich.console
import rich.text

from dissim_jax.errors import UserError
from dissim_jax.files.atomic import encoded, write_together
from dissim_jax.names import shown
from dissim_jax.render import csv, page, style, terminal, words
from dissim_jax.render.table import labelled, of_facts
from dissim_jax.studies.pool import numbers, outcomes, sections
from dissim_jax.studies.pool.analysis import Analysis, analyse
from dissim_jax.studies.pool.record import read_pool
from dissim_jax.studies.pool.settings import Settings

FOLDER, PAGE, NUMBERS, PAIRS = "analysis", "analysis.html", "analysis.json", "pairs.csv"
PICTURES = (
  "similarity",
  "importance",
  "error_reduction",
  "ensembles",
  "gains",
  "within",
  "distillation",
)


def write_page(
  folder: str | os.PathLike,
  out: str | os.PathLike | None = None,
  console: rich.console.Console | None = None,
  **settings,
) -> Path:
  """Analyses a pool of models from the files of `python -m dissim_jax.transfer`.

  Args:
    folder: with `transfer.json` and `transfer.npz`.
    out: where to write; `<folder>/analysis` by default.
    console: where to print the main findings; None prints nothing.
    **settings: fields of `settings.Settings`.

  Returns:
    Path of the page, `analysis.html`. Beside it are its pictures, `analysis.json` (all numbers;
    null where one is not defined) and `pairs.csv`. All are written or none; made again from the
    same files, they are the same.

  Raises:
    UserError: a file is missing or damaged, a setting is out of its range, or a file cannot be
      written.
  """
  chosen = Settings(**settings)
  analysis = analyse(read_pool(folder), chosen)
  with matplotlib.rc_context(style.STYLE):
    parts = all_sections(analysis)
  drawn = [picture for part in parts for picture in part.pictures]
  contents = {f"{picture.name}.png": picture.png for picture in drawn}
  contents[PAIRS] = encoded(pairs_text(analysis))
  contents[NUMBERS] = encoded(numbers.text(analysis))
  contents[PAGE] = encoded(render(analysis, parts, command(analysis, out)))
  target = Path(out) if out else Path(folder) / FOLDER
  try:
    write_together(target, contents, [f"{name}.png" for name in PICTURES])
  except OSError as error:
    raise UserError(f"{target}: cannot be written ({error.strerror or error})") from error
  if console is not None:
    print_findings(analysis, console)
  return target / PAGE


def all_sections(analysis: Analysis) -> list:
  """The sections in the order of the page."""
  return [
    sections.clusters(analysis),
    sections.components(analysis),
    sections.architectures(analysis),
    outcomes.reduction(analysis),
    outcomes.ensembles(analysis),
    outcomes.compared(analysis),
    outcomes.within(analysis),
    *outcomes.students(analysis),
    sections.members(analysis),
  ]


def findings(analysis: Analysis) -> list:
  """The main findings, a sentence each."""
  if len(analysis.pool.members) < 2:
    return outcomes.distillation_sentences(analysis)
  sentences = [sections.architecture_sentence(analysis)]
  if analysis.importance is not None:
    sentences.append(_components(analysis.importance))
  sentences.append(outcomes.reduction_sentence(analysis))
  sentences += filter(None, [_ensembles(analysis)])
  return sentences + outcomes.distillation_sentences(analysis)


def _components(analysis) -> str:
  order = np.argsort(-analysis.mean, kind="stable")[:3]
  named = ", ".join(
    f"{analysis.names[i].replace('_', ' ')} ({analysis.mean[i]:.2f})" for i in order
  )
  return f"The components that tell most of similarity: {named}. {sections.fit(analysis)}"


def _ensembles(analysis: Analysis) -> str:
  """The largest ensembles of one cluster against those of most clusters."""
  for size in sorted({size for size, _ in analysis.ensembles}, reverse=True):
    ks = sorted(k for other, k in analysis.ensembles if other == size)
    if len(ks) > 1:
      few, many = (analysis.ensembles[size, k][0] for k in (ks[0], ks[-1]))
      return (
        f"Ensembles of {size} models from {words.plural(ks[0], 'cluster')} have an error of "
        f"{100 * few.error.mean:.2f} %, all wrong on {100 * few.all_wrong.mean:.2f} % of the "
        f"images; from {words.plural(ks[-1], 'cluster')} {100 * many.error.mean:.2f} % and "
        f"{100 * many.all_wrong.mean:.2f} %."
      )
  return ""


def facts(analysis: Analysis) -> str:
  """Size of the study and its attack, in a line."""
  everything, given = analysis.everything, analysis.everything.facts
  attack = given.get("attack") if isinstance(given.get("attack"), dict) else {}
  parts = [
    words.plural(len(everything.members), "model"),
    words.plural(len(dict.fromkeys(analysis.kinds)), "architecture"),
    f"{len(everything.labels):,} images",
  ]
  data = given.get("data")
  if isinstance(data, dict) and "name" in data:
    parts.append(f"{data['name']}")
  if attack:
    settings = ", ".join(
      f"{name.replace('_', ' ')} {_short(value)}"
      for name, value in attack.items()
      if name != "name"
    )
    parts.append(f"attack {attack.get('name')} ({settings})")
  if "floor" in given:
    parts.append(f"ε_s = {_short(given['floor'])}")
  return " · ".join(parts)


def _short(value) -> str:
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def command(analysis: Analysis, out: str | os.PathLike | None) -> str:
  """What makes the page again."""
  given = {"folder": analysis.everything.folder, **analysis.settings.given}
  given |= {"out": os.fspath(out)} if out else {}
  texts = {
    name: ",".join(map(str, value)) if isinstance(value, tuple) else value
    for name, value in given.items()
  }
  return shlex.join(
    ["python", "-m", "dissim_jax.analyse", *(f"--{name}={value}" for name, value in texts.items())]
  )


def render(analysis: Analysis, parts: list, shell_command: str) -> str:
  """The page as text."""
  return page.render(
    "Similarity of models by attack transfer",
    facts(analysis),
    [*parts, made(analysis, shell_command)],
    findings(analysis),
  )


def made(analysis: Analysis, shell_command: str) -> page.Section:
  """The command, papers, versions and hardware."""
  environment = analysis.everything.facts.get("environment")
  rows = list(environment.items()) if isinstance(environment, dict) else []
  texts = [(str(name).replace("_", " "), str(value)) for name, value in rows]
  return page.Section(
    "How this was made",
    [
      page.Text("To make it again:"),
      page.Code(shell_command),
      page.Text("All numbers: analysis.json. Every pair: pairs.csv."),
      page.Text(
        "Hwang et al., “Similarity of neural architectures based on input gradient "
        "transferability”; Gontijo-Lopes et al. 2022, “No one representation to rule them all”.",
        note=True,
      ),
      *([of_facts(texts)] if texts else []),
    ],
  )


def pairs_text(analysis: Analysis) -> str:
  """One line for each pair, at full precision; an empty field where there is no value."""
  pairs, names = analysis.pairs, analysis.pool.names
  heads = [
    "a",
    "b",
    "similarity",
    "one_sided",
    "images",
    "same_architecture",
    "category",
    "in_band",
    *pairs.values,
  ]
  rows = [heads]
  for row, (a, b) in enumerate(zip(pairs.first, pairs.second, strict=True)):
    measured = [pairs.similarity[row], *(values[row] for values in pairs.values.values())]
    first, *rest = ["" if math.isnan(value) else repr(float(value)) for value in measured]
    rows.append(
      [
        names[a],
        names[b],
        first,
        int(pairs.one_sided[row]),
        int(pairs.images[row]),
        int(pairs.same_architecture[row]),
        analysis.categories[row],
        int(analysis.compared[row]),
        *rest,
      ]
    )
  return csv.text(rows)


def print_findings(analysis: Analysis, console: rich.console.Console) -> None:
  """Prints the main findings, the clusters and the categories."""
  say = lambda text, **looks: console.print(rich.text.Text(shown(text), **looks))  # noqa: E731
  say(facts(analysis))
  for sentence in findings(analysis):
    say(f"- {sentence}")
  if len(analysis.pool.members) > 2:
    say("Clusters", style="bold")
    for cluster, keywords in zip(np.unique(analysis.clusters), analysis.keywords, strict=True):
      kinds = dict.fromkeys(
        analysis.kinds[i] for i in analysis.order if analysis.clusters[i] == cluster
      )
      say(f"{cluster + 1}: {', '.join(kinds)}")
      say(f"   {'; '.join(word for word, _ in keywords)}", style="dim")
  rows = [(category, cells) for category, cells in outcomes.category_rows(analysis)]
  if rows:
    heads = ["pairs", "s", "err. inc. %", "κ", "gain mean", "gain best"]
    terminal.print_table(labelled("models differ in", [("", heads)], [rows]), console)
