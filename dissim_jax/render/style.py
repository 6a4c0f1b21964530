"""What all pictures share: colours, fonts, size, and how they become bytes."""

import io
from typing import Any

# Told apart by colour-blind readers, and as greys in print.
PALETTE = (
  "#1f5f8b",
  "#d1495b",
  "#e0992b",
  "#2f8f83",
  "#7a5195",
  "#8d6a4f",
  "#5c9e4a",
  "#c36f9e",
  "#4c5560",
  "#70a9c9",
)
GREY = "#868d96"
STYLE: Any = {
  "font.family": "DejaVu Sans",
  "font.size": 9,
  "axes.titlesize": 10,
  "axes.labelsize": 9,
  "axes.titleweight": "bold",
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.edgecolor": "#4c5560",
  "axes.linewidth": 0.8,
  "xtick.labelsize": 8,
  "ytick.labelsize": 8,
  "legend.fontsize": 8,
  "legend.frameon": False,
  "axes.grid": True,
  "grid.color": "#e7e9ec",
  "grid.linewidth": 0.7,
  "axes.axisbelow": True,
  "text.parse_math": False,
  "svg.hashsalt": "",
}
WIDTH = 10.8  # inches; the page shows it at its full width
DPI = 130


def png(figure) -> bytes:
  """The figure as PNG bytes without a time or version stamp."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
  return buffer.getvalue()


def colours(count: int) -> list:
  """As many colours; they repeat where there are more than the palette has."""
  return [PALETTE[index % len(PALETTE)] for index in range(count)]


COLOURS = "magma"
