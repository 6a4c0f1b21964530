"""What a section of the page is made of: text, tables, pictures."""

import base64
import dataclasses

import jinja2
import matplotlib

from dissim_jax.render.style import STYLE, png

TALL = 10  # columns of a table from which their heads stand upright


@dataclasses.dataclass(frozen=True)
class Text:
  """A paragraph; a `note` is smaller."""

  text: str
  note: bool = False
  kind: str = "text"


@dataclasses.dataclass(frozen=True)
class Heading:
  """A heading within a section."""

  text: str
  kind: str = "heading"


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of one label and groups of columns.

  Attributes:
    corner: head of the labels.
    groups: [(title, heads of its columns)]; groups without titles have one row of heads.
    bodies: [[(label, [Cell, ...])]], ruled apart; all rows have as many cells as there are heads.
    folded: what to click on to see the table; "" shows it at once.
  """

  corner: str
  groups: list
  bodies: list
  folded: str = ""
  kind: str = "table"

  @property
  def titled(self) -> bool:
    return any(title for title, _ in self.groups)

  @property
  def heads(self) -> list:
    """(text, whether it is the first of its group) of every column."""
    return [(text, not index) for _, heads in self.groups for index, text in enumerate(heads)]

  @property
  def tall(self) -> bool:
    """Whether the heads of columns stand upright: many columns of short numbers."""
    return self.titled and len(self.heads) >= TALL

  def split(self, most: int) -> list:
    """Tables of whole groups, each of at most `most` columns where a group is not wider."""
    parts, start = [[]], 0
    for group in self.groups:
      if parts[-1] and sum(len(heads) for _, heads in [*parts[-1], group]) > most:
        parts.append([])
      parts[-1].append(group)
    tables = []
    for groups in parts:
      end = start + sum(len(heads) for _, heads in groups)
      tables.append(
        Table(
          self.corner,
          groups,
          [[(label, cells[start:end]) for label, cells in body] for body in self.bodies],
        )
      )
      start = end
    return tables


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture with its caption and what a reader who cannot see it is told."""

  name: str
  png: bytes
  alt: str
  caption: str
  kind: str = "picture"

  @property
  def base64(self) -> str:
    return base64.b64encode(self.png).decode()


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page under its own title."""

  title: str
  blocks: list

  @property
  def pictures(self) -> list:
    return [block for block in self.blocks if block.kind == "picture"]


def picture(name: str, figure, alt: str, caption: str) -> Picture:
  """Renders a figure; the same figure gives the same bytes."""
  with matplotlib.rc_context(STYLE):
    return Picture(name, png(figure), alt, caption)


def template(name: str) -> jinja2.Template:
  """A template of this package by its file's name; it may extend and import others."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("dissim_jax.render"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.get_template(name)
