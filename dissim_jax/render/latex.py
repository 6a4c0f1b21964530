"""Tables as a LaTeX document."""

from dissim_jax.render.table import Cell, Table

_LATEX = {
  "\\": r"\textbackslash{}",
  "{": r"\{",
  "}": r"\}",
  "&": r"\&",
  "%": r"\%",
  "$": r"\$",
  "#": r"\#",
  "_": r"\_",
  "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}",
  "<": r"\textless{}",
  ">": r"\textgreater{}",
  "|": r"\textbar{}",
  '"': r"\textquotedbl{}",
  "'": r"\textquotesingle{}",
  "`": r"\textasciigrave{}",
  "-": r"{-}",
  "↑": r"$\uparrow$",
  "↓": r"$\downarrow$",
  "κ": r"$\kappa$",
  "λ": r"$\lambda$",
  "–": "--",
  "−": "$-$",
  "∞": r"$\infty$",
  "±": r"$\pm$",
  "²": "$^2$",
  "†": r"\textsuperscript{\dag}",
}
_PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\usepackage{booktabs}
\usepackage[paperwidth=32cm,paperheight=32cm,margin=1.5cm]{geometry}
\begin{document}
"""


def escape(text: str) -> str:
  """A text as LaTeX shows it; letters that its fonts lack are question marks."""
  return "".join(_LATEX.get(letter) or (letter if ord(letter) < 0x180 else "?") for letter in text)


def document(groups: list) -> str:
  """A document of all tables; each `table` can be taken out of it (it needs booktabs).

  Args:
    groups: [(title, [Table], [sentence below the tables])].
  """
  parts = [_PREAMBLE]
  for title, grids, notes in groups:
    parts += [_table(title, grid, notes) for grid in grids]
  return "\n".join([*parts, r"\end{document}", ""])


def _table(title: str, table: Table, notes: list) -> str:
  corner = (table.of_bodies,) * bool(table.of_bodies) + table.corner
  columns = "l" * len(corner) + "r" * len(table.heads)
  caption = escape(f"{title}. {table.title}. {' '.join(notes)}")
  lines = [
    r"\begin{table}",
    r"\centering",
    r"\small",
    rf"\caption{{{caption}}}",
    rf"\begin{{tabular}}{{{columns}}}",
    r"\toprule",
  ]
  if table.titled:
    lines += _over(table, len(corner))
  lines.append(_line([*map(escape, (*corner, *table.heads))]))
  for body in table.bodies:
    lines.append(r"\midrule")
    before = ""
    for index, row in enumerate(body.rows):
      first, *rest = row.labels
      labels = [body.title if index == 0 else ""] * bool(table.of_bodies)
      labels += ["" if first == before else first, *rest]
      before = first
      lines.append(_line([*map(escape, labels), *map(_cell, row.cells)]))
      if any(cell.paper for cell in row.cells):
        blank = [""] * (len(labels) - 1)
        lines.append(_line([*blank, r"\textit{paper}", *(_paper(cell) for cell in row.cells)]))
  return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _over(table: Table, labels: int) -> list:
  """Titles of groups of columns, each over a rule of its own."""
  titles, rules, start = [], [], labels + 1
  for title, heads in table.groups:
    titles.append(rf"\multicolumn{{{len(heads)}}}{{c}}{{{escape(title)}}}")
    rules.append(rf"\cmidrule(lr){{{start}-{start + len(heads) - 1}}}")
    start += len(heads)
  return ["& " * labels + " & ".join(titles) + r" \\", *rules]


def _line(cells: list) -> str:
  return " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
  text = escape(cell.text)
  text = rf"\underline{{{text}}}" if cell.better else text
  text = rf"\textbf{{{text}}}" if cell.best else text
  return text + (rf" $\pm${escape(cell.spread)}" if cell.spread else "") + escape(cell.mark)


def _paper(cell: Cell) -> str:
  return rf"\textit{{{escape(cell.paper)}}}" if cell.paper else ""
