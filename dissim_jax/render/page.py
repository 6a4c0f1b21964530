"""Pages: sections of text, tables and pictures, as one file of HTML that loads nothing."""

import base64
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jinja2
import matplotlib
from matplotlib.figure import Figure

from dissim_jax.render.style import STYLE, png


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
class Code:
  """Text as it was typed: a command, a file."""

  text: str
  kind: str = "code"


@dataclasses.dataclass(frozen=True)
class Listing:
  """Short texts in columns."""

  texts: Sequence[str]
  kind: str = "list"


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture with its caption and what a reader who cannot see it is told.

  `width` in pixels; None: as wide as the page.
  """

  name: str
  png: bytes
  alt: str
  caption: str
  width: int | None = None
  kind: str = "picture"

  @property
  def base64(self) -> str:
    return base64.b64encode(self.png).decode()


@dataclasses.dataclass(frozen=True)
class Folded:
  """Blocks that are seen after a click on the title."""

  title: str
  blocks: Sequence[Any]
  kind: str = "folded"


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page under its own title; its blocks are of this module, or tables."""

  title: str
  blocks: Sequence[Any]

  @property
  def pictures(self) -> list[Picture]:
    """All pictures, also the folded ones."""
    return list(_pictures(self.blocks))


def _pictures(blocks: Sequence[Any]) -> Iterable[Picture]:
  for block in blocks:
    if block.kind == "picture":
      yield block
    elif block.kind == "folded":
      yield from _pictures(block.blocks)


def picture(name: str, figure: Figure, alt: str, caption: str) -> Picture:
  """Renders a figure; the same figure gives the same bytes."""
  with matplotlib.rc_context(STYLE):
    return Picture(name, png(figure), alt, caption)


def render(
  title: str,
  facts: str,
  sections: Iterable[Section],
  findings: Iterable[str] = (),
  heading: str = "",
) -> str:
  """The page as text.

  Args:
    title: of the browser's window, and the heading if there is no other.
    facts: a line below the heading.
    sections: in order.
    findings: sentences above all sections.
    heading: of the page.
  """
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("dissim_jax.render"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.get_template("page.html.j2").render(
    title=title,
    heading=heading or title,
    facts=facts,
    findings=list(findings),
    sections=list(sections),
  )
