"""Tables for a terminal: as many columns as fit, nothing clipped."""

import rich.box
import rich.console
import rich.table
import rich.text

from dissim_jax.render import table


def heads(measures) -> list:
  """Short heads of columns with their units, e.g. "JSD %"."""
  return [f"{measure.head or measure.label} {measure.unit}".strip() for measure in measures]


def print_fitting(first: list, heads: list, rows: list, console, group: int = 1) -> None:
  """Prints a table with as many columns, from the left, as the console's width has room for.

  Args:
    first: heads of the columns that are always shown, the first of them to the left.
    heads: of the others.
    rows: texts or `tables.Cell`s of all columns; None is a rule.
    console: where to print.
    group: so many columns belong together and are left out together, but for the first ones.
  """
  unbounded = console.options.update(width=1000)  # measured in full, not as squeezed
  for count in range(len(heads), -1, -1):
    if count > group and count % group:
      continue
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1))
    for index, head in enumerate([*first, *heads[:count]]):
      table.add_column(head, justify="right" if index else "left", no_wrap=True)
    for row in rows:
      if row is None:
        table.add_section()
      else:
        table.add_row(*map(_text, row[: len(first) + count]))
    if console.measure(table, options=unbounded).maximum <= console.width:
      break
  console.print(table)


def _text(cell) -> rich.text.Text:
  if not isinstance(cell, table.Cell):
    return rich.text.Text(cell)
  style = " ".join(["bold"] * cell.best + ["underline"] * cell.better)
  spread = f" ±{cell.spread}" if cell.spread else ""
  return rich.text.Text(f"{cell.text}{spread}{cell.mark}", style=style)
