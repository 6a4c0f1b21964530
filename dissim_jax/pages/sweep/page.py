"""The page of a sweep, the files beside it, and its tables for a terminal."""

import dataclasses
import os
import re
import shlex
from pathlib import Path

import rich.console
import rich.text

from dissim_jax.errors import UserError
from dissim_jax.files.atomic import write_together
from dissim_jax.names import shown
from dissim_jax.pages.sweep import figures, files, layout, paired
from dissim_jax.pages.sweep.read import Collection, read_collection
from dissim_jax.pages.sweep.rows import Group, group_runs
from dissim_jax.render import latex, page, terminal
from dissim_jax.render.table import Body, Cell, Row, Table, of_facts, of_texts

FOLDER, PAGE, CSV, LATEX = "tables", "tables.html", "tables.csv", "tables.tex"
_FIGURE = re.compile(rf"(group_[0-9]+_)?{figures.PREFIX}[0-9]_")
_NAMED = 8  # missing runs that are named outside of the page
_MEANINGS = (
  "κ (Cohen's, with agreement of labels as observed), JSD (Jensen-Shannon divergence, base 2), EDR "
  "(error disagreement ratio: different by same among joint errors, ∞ where none is the same) and "
  "error consistency (Cohen's κ of being right or wrong) are means over all pairs of an ensemble. "
  "Acc_U, or New Model Acc., is the accuracy of the newest model alone. The arrow shows the better "
  "direction."
)
_MARGIN = 3  # columns of a terminal that a table's column takes beside its text


@dataclasses.dataclass(frozen=True)
class Part:
  """A group with everything that is written of it."""

  group: Group
  grids: list
  figures: list
  facts: str
  seeds: str


def write_tables(root: str | os.PathLike, output: str | os.PathLike | None = None) -> str:
  """Writes tables and figures of the finished runs below a root.

  Args:
    root: folder of a sweep, or any folder that runs are in.
    output: where to write; `<root>/tables` by default.

  Returns:
    Path of the page, `tables.html`. Beside it `tables.csv` (full precision), `tables.tex`
    and `figure_*.png`. All are written or none; made again from the same files, they are the same.

  Raises:
    UserError: there is no such root, no run is finished, or a file cannot be written.
  """
  collection = read_collection(root)
  groups, warnings = group_runs(collection)
  parts = [_part(group, collection, number, len(groups)) for number, group in enumerate(groups, 1)]
  parts = _unique_files(parts)
  tables = [(part.group.title, grid) for part in parts for grid in part.grids]
  contents = {
    f"{drawn.picture.name}.png": drawn.picture.png for part in parts for drawn in part.figures
  }
  contents[CSV] = files.csv_text(tables).encode("utf-8")
  contents[LATEX] = latex.document(
    [(part.group.title, part.grids, notes(part)) for part in parts]
  ).encode("utf-8")
  contents[PAGE] = render(collection, parts, warnings).encode("utf-8")
  folder = Path(output) if output else Path(root) / FOLDER
  try:
    write_together(folder, contents, _stale(folder))
  except OSError as error:
    reason = error.strerror or error
    raise UserError(f"--output={str(folder)!r}: cannot be written ({reason})") from error
  return str(folder / PAGE)


def _stale(folder: Path) -> list:
  """Figures of an earlier collection in the same folder."""
  if not (folder / PAGE).exists():
    return []
  return [path.name for path in folder.glob("*.png") if _FIGURE.match(path.name)]


def _part(group: Group, collection: Collection, number: int, count: int) -> Part:
  prefix = f"group_{number}_" if count > 1 else ""
  return Part(
    group,
    grids_of(group),
    figures.draw_all(group, collection.comparisons, prefix),
    facts(group),
    layout.seeds_text(group),
  )


def grids_of(group: Group) -> list:
  """The tables of a group; of pairs also how alike they are, and what changed in each seed."""
  return layout.make(group) + (paired.make(group) if group.sizes == [2] else [])


def _unique_files(parts: list) -> list:
  """Gives a number to pictures whose names are taken."""
  taken: set[str] = set()
  unique = []
  for part in parts:
    drawn = []
    for figure in part.figures:
      name, number = figure.picture.name, 2
      while name.lower() in taken:
        name, number = f"{figure.picture.name}_{number}", number + 1
      taken.add(name.lower())
      picture = dataclasses.replace(figure.picture, name=name)
      drawn.append(dataclasses.replace(figure, picture=picture))
    unique.append(dataclasses.replace(part, figures=drawn))
  return unique


def facts(group: Group) -> str:
  """Size, budget and what tells the group from others, in a line."""
  config = group.config
  size = config["ensemble.size"]
  parts = [
    f"sequences of {size}" if size > 2 else "pairs" if size == 2 else "single models",
    f"{config.get('train.epochs')} epochs",
    f"batches of {config.get('train.batch_size')}",
  ]
  parts += [f"{name} = {config.get(name)}" for name in group.differing]
  total, there = len(group.runs), len(group.finished)
  return shown(" · ".join([*parts, f"{there} of {total} runs finished"]))


def notes(part: Part) -> list:
  """Sentences below the tables of a group."""
  sentences = [f"Mean ± standard deviation (n − 1) over {part.seeds}."]
  if len(part.group.rows) > 1:
    sentences.append(
      "Best mean of a column bold, better than the baseline underlined, both at "
      "the printed precision."
    )
  if any(grid.undefined for grid in part.grids):
    sentences.append(f"{layout.UNDEFINED} Not defined in some seeds, which do not count.")
  if any(grid.has_paper for grid in part.grids):
    sentences.append(
      "In italics the value of Wald et al. 2023, who print EDR in percent, here "
      "too as a ratio; a deviation that cannot be read in the printed text is left "
      "out."
    )
  return sentences + missing(part.group)


def missing(group: Group) -> list:
  """A sentence on the runs that are missing."""
  names = group.missing
  if not names:
    return []
  more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
  return [
    f"Missing: {len(names)} of {len(group.runs)} runs ({', '.join(names[:_NAMED])}{more}); "
    "counts such as (3/5) are of finished seeds."
  ]


def environment(collection: Collection) -> list:
  """(name, values) of versions and hardware; several where runs differ."""
  rows: dict[str, dict] = {}
  for run in collection.finished:
    for key, value in run.results.metrics["environment"].items():
      rows.setdefault(shown(key).replace("_", " "), {})[shown(value)] = None
  return [(key, " / ".join(values)) for key, values in rows.items()]


def title(collection: Collection) -> str:
  """The heading of the page."""
  return f"Results of {collection.sweep}" if collection.sweep else "Results of collected runs"


def progress(collection: Collection) -> str:
  """How much of the sweep there is."""
  parts = [f"{len(collection.finished)} of {len(collection.runs)} runs"]
  if collection.planned_comparisons:
    parts.append(f"{len(collection.comparisons)} of {collection.planned_comparisons} comparisons")
  return f"{' and '.join(parts)} are finished."


def render(collection: Collection, parts: list, warnings: list) -> str:
  """The page as text."""
  sections = [*map(_section, parts), _made(collection)]
  findings = [*collection.warnings, *warnings]
  return page.render(title(collection), progress(collection), sections, findings)


def _section(part: Part) -> page.Section:
  """Tables and figures of a group."""
  blocks: list = [page.Text(part.facts, note=True), *part.grids]
  if part.grids:
    blocks += [page.Text(sentence, note=True) for sentence in [*notes(part), _MEANINGS]]
  else:
    blocks.append(page.Text("Single models: there are no ensembles to measure."))
  if more := part.group.missing[_NAMED:]:
    blocks.append(page.Folded("Further missing runs", [page.Listing(more)]))
  for drawn in part.figures:
    folded = page.Folded(drawn.title, [drawn.picture])
    blocks += [folded] if drawn.folded else [page.Heading(drawn.title), drawn.picture]
  return page.Section(part.group.title, blocks)


def _made(collection: Collection) -> page.Section:
  """The command, the runs, versions and hardware."""
  command = shlex.join(["python", "-m", "dissim_jax.collect", f"--root={collection.root}"])
  runs = [
    (run.name, str(run.seed), "finished" if run.results is not None else "missing")
    for run in collection.runs
  ]
  return page.Section(
    "How this was made",
    [
      page.Text("To make it again:"),
      page.Code(shown(command)),
      page.Text(
        "All values at full precision, with their units: tables.csv. For LaTeX: tables.tex."
      ),
      page.Folded("Runs", [of_texts(("Run", "Seed", "State"), runs, 3)]),
      of_facts(environment(collection)),
    ],
  )


def print_tables(root: str | os.PathLike, console: rich.console.Console | None = None) -> None:
  """Prints the tables of the finished runs below a root; wide ones in several parts.

  Args:
    root: folder of a sweep, or any folder that runs are in.
    console: where to print; the default writes to stdout.

  Raises:
    UserError: see `write_tables`.
  """
  console = console or rich.console.Console()
  collection = read_collection(root)
  groups, warnings = group_runs(collection)
  say = lambda text, **style: console.print(rich.text.Text(text, **style))  # noqa: E731
  say(f"{title(collection)}: {progress(collection)}")
  for sentence in [*collection.warnings, *warnings]:
    say(sentence, style="yellow")
  for group in groups:
    part = Part(group, grids_of(group), [], facts(group), layout.seeds_text(group))
    say("")
    say(group.title, style="bold")
    say(part.facts)
    for grid in part.grids:
      say(grid.title)
      print_grid(grid, console)
    if part.grids:
      say(" ".join(notes(part)))


def print_grid(grid: layout.Grid, console: rich.console.Console) -> None:
  """Prints a table, its columns in as many parts as the width needs."""
  heads = [f"N={head}" if grid.titled else head.replace(" ", "\n", 1) for head in grid.heads]
  for bodies in [[body] for body in grid.bodies] if grid.of_bodies else [grid.bodies]:
    lines = [line for body in bodies for line in body.rows]
    title = bodies[0].title.replace(" ", "\n", 1)
    label = max(len(text) for text in [*title.split("\n"), *map(_label, lines)])
    count = _fitting(console.width - label - _MARGIN - 1, lines, heads)
    for start in range(0, len(heads), count):
      chosen = slice(start, start + count)
      shown_bodies = [
        Body([Row((_label(row),), list(map(_shown_cell, row.cells[chosen]))) for row in body.rows])
        for body in bodies
      ]
      terminal.print_table(Table((title,), [("", heads[chosen])], shown_bodies), console)


def _fitting(room: int, lines: list, heads: list) -> int:
  """How many columns go into each of as few parts as possible."""
  texts = [
    f"{cell.text} ±{cell.spread}" * bool(cell.spread) + cell.mark
    for line in lines
    for cell in map(_shown_cell, line.cells)
  ]
  widest = max(map(len, [*texts, *(part for head in heads for part in head.split("\n"))]))
  most = min(len(heads), max(1, room // (widest + _MARGIN)))
  return -(-len(heads) // -(-len(heads) // most))


def _label(line: layout.Line) -> str:
  """What was done to the members, and the number of finished seeds, in few columns."""
  text = " ".join(label for label in line.labels if label != "–")
  return f"{text} ({line.seeds})" if line.seeds else text


def _shown_cell(cell: Cell) -> Cell:
  """The count of seeds stands in the label."""
  return dataclasses.replace(cell, mark=cell.mark.partition(" ")[0])
