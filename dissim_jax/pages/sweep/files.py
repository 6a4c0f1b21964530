"""The tables as CSV."""

import math

from dissim_jax.names import shown
from dissim_jax.pages.sweep.rows import BASELINE_KEY
from dissim_jax.render import csv

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


def csv_text(tables: list) -> str:
  """One line for each measure, row and number of models; values in `unit`, "" for plain numbers.

  Args:
    tables: [(title of the group, Grid)].
  """
  rows: list[tuple] = [CSV_HEADS]
  for title, grid in tables:
    for line in grid.rows:
      key = line.key
      weight = "" if key.metric == BASELINE_KEY.metric else _full(key.weight)
      metric, taps = shown(key.metric), " ".join(map(str, key.taps))
      for value in line.values:
        paper = value.paper or (None, None)
        rows.append(
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
  return csv.text(rows)


def _full(value: float | None) -> str:
  """All digits of a number; nothing for none."""
  return "" if value is None or math.isnan(value) else repr(float(value))
