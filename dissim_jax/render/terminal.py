"""Tables for a terminal: as many columns as fit, nothing clipped."""

import rich.box
import rich.console
import rich.table
import rich.text

from dissim_jax.render.table import Cell, Table


def heads(measures) -> list:
  """Short heads of columns with their units, e.g. "JSD %"."""
  return [f"{measure.head or measure.label} {measure.unit}".strip() for measure in measures]


def print_table(table: Table, console: rich.console.Console, group: int = 1) -> None:
  """Prints a table with as many columns, from the left, as the console's width has room for.

  Args:
    table: the first of its labels stands to the left; all labels are always shown.
    console: where to print.
    group: so many columns belong together and are left out together, but for the first ones.
  """
  heads = table.heads
  unbounded = console.options.update(width=1000)  # measured in full, not as squeezed
  for count in range(len(heads), -1, -1):
    if count > group and count % group:
      continue
    printed = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1))
    for index, head in enumerate([*table.corner, *heads[:count]]):
      printed.add_column(head, justify="right" if index else "left", no_wrap=True)
    for body in table.bodies:
      for row in body.rows:
        printed.add_row(*map(rich.text.Text, row.labels), *map(_text, row.cells[:count]))
      printed.add_section()
    if console.measure(printed, options=unbounded).maximum <= console.width:
      break
  console.print(printed)


def _text(cell: Cell) -> rich.text.Text:
  style = " ".join(["bold"] * cell.best + ["underline"] * cell.better)
  spread = f" ±{cell.spread}" if cell.spread else ""
  return rich.text.Text(f"{cell.text}{spread}{cell.mark}", style=style)
