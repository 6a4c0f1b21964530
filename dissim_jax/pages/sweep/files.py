"""The tables as CSV and LaTeX."""

import csv
import io
import math

from dissim_jax.names import shown
from dissim_jax.pages.sweep.layout import UNDEFINED, Grid, PaperCell
from dissim_jax.pages.sweep.rows import BASELINE_KEY

CSV_HEADS = (
  "group",
  "table",
  "measure",
  "unit",
  "metric",
  "taps",
  "weight",
  "projection",
  "n_models",
  "mean",
  "std",
  "seeds",
  "missing",
  "paper_mean",
  "paper_std",
)
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
  UNDEFINED: r"\textsuperscript{\dag}",
}
_PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\usepackage{booktabs}
\usepackage[paperwidth=32cm,paperheight=32cm,margin=1.5cm]{geometry}
\begin{document}
"""


def csv_text(tables: list) -> str:
  """One line for each measure, row and number of models; values in `unit`, "" for plain numbers.

  Args:
    tables: [(title of the group, Grid)].
  """
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(CSV_HEADS)
  for title, grid in tables:
    for line in grid.lines:
      key = line.key
      weight = "" if key.metric == BASELINE_KEY.metric else _full(key.weight)
      metric, taps = shown(key.metric), " ".join(map(str, key.taps))
      for value in line.values:
        paper = value.paper or (None, None)
        writer.writerow(
          (
            title,
            grid.name,
            value.measure.key,
            value.measure.unit,
            metric,
            taps,
            weight,
            key.projection,
            value.size,
            _full(value.spread.mean),
            _full(value.spread.std),
            value.seeds,
            value.missing,
            *map(_full, paper),
          )
        )
  return text.getvalue()


def _full(value: float | None) -> str:
  """All digits of a number; nothing for none."""
  return "" if value is None or math.isnan(value) else repr(float(value))


def escape(text: str) -> str:
  """A text as LaTeX shows it; letters that its fonts lack are question marks."""
  return "".join(_LATEX.get(letter) or (letter if ord(letter) < 0x180 else "?") for letter in text)


def latex_text(groups: list) -> str:
  """A document of all tables; each `table` can be taken out of it (it needs booktabs).

  Args:
    groups: [(title, [Grid], [sentence below the tables])].
  """
  parts = [_PREAMBLE]
  for title, grids, notes in groups:
    parts += [_latex_table(title, grid, notes) for grid in grids]
  return "\n".join([*parts, r"\end{document}", ""])


def _latex_table(title: str, grid: Grid, notes: list) -> str:
  titled = any(body.title for body in grid.bodies)
  corner = ("Output metric",) * titled + grid.corner
  columns = "l" * len(corner) + "r" * len(grid.heads)
  caption = escape(f"{title}. {grid.title}. {' '.join(notes)}")
  lines = [
    r"\begin{table}",
    r"\centering",
    r"\small",
    rf"\caption{{{caption}}}",
    rf"\begin{{tabular}}{{{columns}}}",
    r"\toprule",
  ]
  if grid.over:
    start, end = len(corner) + 1, len(corner) + len(grid.heads)
    lines += [
      f"{'& ' * len(corner)}\\multicolumn{{{len(grid.heads)}}}{{c}}{{{escape(grid.over)}}}"
      r" \\",
      rf"\cmidrule(lr){{{start}-{end}}}",
    ]
  lines.append(_latex_line([*map(escape, (*corner, *grid.heads))]))
  for body in grid.bodies:
    lines.append(r"\midrule")
    before = ""
    for index, line in enumerate(body.lines):
      metric, *rest = line.labels
      labels = [body.title if index == 0 else ""] * titled
      labels += ["" if metric == before else metric, *rest]
      before = metric
      lines.append(_latex_line([*map(escape, labels), *map(_latex_cell, line.cells)]))
      if any(cell.paper for cell in line.cells):
        blank = [""] * (len(labels) - 1)
        lines.append(
          _latex_line([*blank, r"\textit{paper}", *(_latex_paper(cell) for cell in line.cells)])
        )
  return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _latex_line(cells: list) -> str:
  return " & ".join(cells) + r" \\"


def _latex_cell(cell: PaperCell) -> str:
  text = escape(cell.text)
  text = rf"\underline{{{text}}}" if cell.better else text
  text = rf"\textbf{{{text}}}" if cell.best else text
  return text + (rf" $\pm${escape(cell.spread)}" if cell.spread else "") + escape(cell.mark)


def _latex_paper(cell: PaperCell) -> str:
  return rf"\textit{{{escape(cell.paper)}}}" if cell.paper else ""
