"""Tables, as pages, LaTeX and terminals show them; `marked` marks a column of one measure."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from dissim_jax.registry.entry import Quantity, number
from dissim_jax.registry.objectives import BASELINE


@dataclasses.dataclass(frozen=True)
class Cell:
  """One printed value.

  Attributes:
    text: the value.
    best: whether it is the best of its column.
    better: whether it is better than the baseline's.
    spread: a standard deviation, or half of an interval.
    mark: a sign that a note explains.
    paper: the value that a paper has there.
  """

  text: str
  best: bool = False
  better: bool = False
  spread: str = ""
  mark: str = ""
  paper: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
  """One row: its labels, then its values."""

  labels: tuple[str, ...]
  cells: Sequence[Cell] = ()


@dataclasses.dataclass(frozen=True)
class Body:
  """Rows that belong together, under a title if they have one."""

  rows: Sequence[Row]
  title: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
  """A table.

  Attributes:
    corner: heads of the labels.
    groups: (title, heads of its columns) of columns that belong together; without a title there is
      one row of heads.
    bodies: ruled apart.
    title: what stands above it.
    of_bodies: head of the titles of bodies.
  """

  corner: tuple[str, ...]
  groups: Sequence[tuple[str, Sequence[str]]]
  bodies: Sequence[Body]
  title: str = ""
  of_bodies: str = ""
  kind: str = "table"

  @property
  def titled(self) -> bool:
    """Whether a group of columns has a title."""
    return any(title for title, _ in self.groups)

  @property
  def heads(self) -> list[str]:
    """Of all columns of values."""
    return [head for _, heads in self.groups for head in heads]

  @property
  def firsts(self) -> list[bool]:
    """Whether a column is the first of its group."""
    return [not index for _, heads in self.groups for index, _ in enumerate(heads)]

  @property
  def rows(self) -> list[Row]:
    """Of all bodies."""
    return [row for body in self.bodies for row in body.rows]

  @property
  def has_marks(self) -> bool:
    """Whether a cell has a mark that a note must explain."""
    return any(cell.mark for row in self.rows for cell in row.cells)

  def split(self, most: int) -> list["Table"]:
    """Tables of whole groups, each of at most `most` columns where a group is not wider."""
    parts, start, tables = [[]], 0, []
    for group in self.groups:
      if parts[-1] and sum(len(heads) for _, heads in [*parts[-1], group]) > most:
        parts.append([])
      parts[-1].append(group)
    for groups in parts:
      end = start + sum(len(heads) for _, heads in groups)
      bodies = [
        dataclasses.replace(
          body,
          rows=[dataclasses.replace(row, cells=row.cells[start:end]) for row in body.rows],
        )
        for body in self.bodies
      ]
      tables.append(dataclasses.replace(self, groups=groups, bodies=bodies))
      start = end
    return tables


def labelled(
  corner: str,
  groups: Sequence[tuple[str, Sequence[str]]],
  bodies: Iterable[Iterable[tuple[str, Sequence[Cell]]]],
) -> Table:
  """A table of one label a row: bodies of (label, cells)."""
  return Table(
    (corner,), groups, [Body([Row((label,), cells) for label, cells in body]) for body in bodies]
  )


def of_texts(heads: Sequence[str], rows: Iterable[Sequence[str]], labels: int) -> Table:
  """A table of texts, of which the first columns are labels and the others values."""
  body = Body([Row(tuple(row[:labels]), [Cell(text) for text in row[labels:]]) for row in rows])
  groups = [("", list(heads[labels:]))] if len(heads) > labels else []
  return Table(tuple(heads[:labels]), groups, [body])


def of_facts(facts: Iterable[tuple[str, str]]) -> Table:
  """Names with their values, without heads."""
  return of_texts(("", ""), facts, 2)


def marked(measure: Quantity, values: dict) -> dict:
  """Marks one column of one measure.

  Values are compared at the printed precision, so two equal-looking numbers are never told apart.

  Args:
    measure: gives direction, unit and precision.
    values: sequence name -> value (None or NaN: not defined).

  Returns:
    sequence name -> Cell. `best` needs at least two defined values that are not all equal.
  """
  shown = {name: measure.shown(value) for name, value in values.items()}
  defined = [value for value in shown.values() if not math.isnan(value)]
  best = max(defined, key=lambda value: measure.better * value, default=math.nan)
  compared = measure.better and len(set(defined)) > 1
  baseline = shown.get(BASELINE, math.nan)
  return {
    name: Cell(
      number(value, measure.decimals),
      best=bool(compared and value == best),
      better=measure.better * value > measure.better * baseline,
    )
    for name, value in shown.items()
  }
