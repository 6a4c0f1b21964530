"""Figures of panels with a legend below; the constrained layout gives every text its room."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from dissim_jax.render import style

LEGEND_ROW = 0.2  # inches
WIDE, HIGH = 0.08, 0.07  # inches beside and above a panel with its texts


def panels(
  count: int,
  height: float,
  handles: Sequence[Line2D] = (),
  *,
  columns: int | None = None,
  legend_columns: int = 4,
) -> tuple[Figure, list[Axes]]:
  """A figure as wide as the page with `count` panels in rows.

  Args:
    count: of panels.
    height: of a row of panels with all their texts, inches.
    handles: of the legend; there may be none.
    columns: of panels; None: all in one row.
    legend_columns: of the legend.

  Returns:
    (figure, axes).
  """
  columns = columns or count
  rows = math.ceil(count / columns)
  figure = blank(rows * height + legend_height(handles, legend_columns))
  grid = figure.subplots(rows, columns, squeeze=False).flat
  for ax in grid[count:]:
    ax.remove()
  legend(figure, handles, legend_columns, "left" if count < columns else "center")
  return figure, list(grid[:count])


def blank(height: float) -> Figure:
  """A figure as wide as the page, whose parts are placed by the constrained layout."""
  engine = ConstrainedLayoutEngine(w_pad=WIDE, h_pad=HIGH)
  return Figure(figsize=(style.WIDTH, height), layout=engine)


def legend_height(handles: Sequence[Line2D], columns: int = 4) -> float:
  """Inches that a legend below needs."""
  return LEGEND_ROW * math.ceil(len(handles) / columns) + 0.1 if handles else 0.0


def legend(
  figure: Figure, handles: Sequence[Line2D], columns: int = 4, side: str = "center"
) -> None:
  """A legend below all panels, where there is something to explain."""
  place: Any = f"outside lower {side}"  # matplotlib's types do not know these places.
  if handles:
    figure.legend(
      handles=list(handles),
      loc=place,
      ncols=min(columns, len(handles)),
      handlelength=2.8,
    )
