"""Pairs of models against the independent pair of the same seed, and how alike their taps are.

Two networks of one seed begin with the same first member, so that their difference has less noise
than either: `tests/pages/test_collect_pairs.py` recomputes every cell.
"""

import math
from collections.abc import Callable

import numpy as np
import scipy.special

from dissim_jax.files.run import RunFiles
from dissim_jax.pages import seeds_means
from dissim_jax.pages.sweep import layout
from dissim_jax.pages.sweep.layout import Grid, Line, Value
from dissim_jax.pages.sweep.rows import Group, Key, Row
from dissim_jax.registry.entry import Quantity
from dissim_jax.render.table import Body, Cell

CONFIDENCE = 0.95
# Of the second member's taps, predicted from the first member's, or compared with them.
SIMILARITIES = {
  "r2": Quantity("r2", "R²", -1),
  "lincka": Quantity("lincka", "LinCKA", -1),
  "lincka_position": Quantity("lincka_position", "LinCKA of positions", -1),
}


def make(group: Group) -> list:
  """Similarity at the regularised taps, and differences to the independent pair; none without it.

  Args:
    group: of pairs.
  """
  rows = [row for row in group.regularised if row.key.taps and row.finished]
  baseline = group.baseline
  if baseline is None or not rows or not baseline.finished:
    return []
  known = {
    key: measure
    for key, measure in SIMILARITIES.items()
    if any(math.isfinite(v) for row in rows for v in at_taps(row, key, row.key.taps).values())
  }
  similar = [_similarity(group, baseline, rows, known)] if known else []
  return [*similar, _differences(group, baseline, rows, known)]


def at_taps(row: Row, measure: str, taps: tuple) -> dict:
  """{seed: a similarity of members 0 and 1, mean over taps of member 1}; NaN where unknown."""
  similarities = {}
  for seed, (run, sequence) in row.finished.items():
    values = _by_tap(run.results, *run.results.sequences[sequence][:2], measure)
    known = values is not None and max(taps) < len(values)
    similarities[seed] = float(np.mean([values[tap] for tap in taps])) if known else math.nan
  return similarities


def _by_tap(results: RunFiles, a: str, b: str, measure: str) -> np.ndarray | None:
  """A similarity at every tap of b with the tap of a that belongs to it."""
  if measure == "lincka":
    return results.equal_taps(a, b)
  return results.arrays[measure].get((a, b))


def _similarity(group: Group, baseline: Row, rows: list, known: dict) -> Grid:
  """A body for every set of taps: the independent pair there, then those made dissimilar there."""
  bodies = []
  for taps in dict.fromkeys(row.key.taps for row in rows):
    there = [baseline, *(row for row in rows if row.key.taps == taps)]
    columns = [
      _marked(there, measure, [list(at_taps(row, key, taps).values()) for row in there])
      for key, measure in known.items()
    ]
    lines = [
      _line(group, row.key._replace(taps=taps), row, [column[index] for column in columns])
      for index, row in enumerate(there)
    ]
    bodies.append(Body(lines))
  title = "How alike the two models are at the regularised taps, on test images"
  heads = [measure.title for measure in known.values()]
  corner = layout.corner_of(group, True)
  return Grid(name="taps", title=title, corner=corner, groups=[("", heads)], bodies=bodies)


def _differences(group: Group, baseline: Row, rows: list, known: dict) -> Grid:
  """Every measure less that of the independent pair of the same seed."""
  columns = [
    (
      measure,
      lambda row, quantity=measure: _less(
        row.by_seed(quantity.key, 2), baseline.by_seed(quantity.key, 2)
      ),
    )
    for measure in layout.MEASURES
  ]
  columns += [
    (
      measure,
      lambda row, key=key: _less(
        at_taps(row, key, row.key.taps), at_taps(baseline, key, row.key.taps)
      ),
    )
    for key, measure in known.items()
  ]
  lines = [
    _line(
      group,
      row.key,
      row,
      [_difference(measure, row, differences_of) for measure, differences_of in columns],
    )
    for row in rows
  ]
  title = (
    "Less the independent pair of the same seed: mean ± half of the "
    f"{CONFIDENCE:.0%} interval (Student's t)"
  )
  heads = [measure.title for measure, _ in columns]
  return Grid(
    name="paired",
    title=title,
    corner=layout.corner_of(group, True),
    groups=[("", heads)],
    bodies=[Body(lines)],
  )


def _less(values: dict, others: dict) -> list:
  """Differences of the seeds that both have."""
  return [value - others[seed] for seed, value in values.items() if seed in others]


def _difference(measure: Quantity, row: Row, differences_of: Callable[[Row], list]) -> tuple:
  spread = seeds_means.spread(differences := differences_of(row))
  half = half_interval(differences)
  text = measure.text(spread.mean)
  sign = "" if math.isnan(spread.mean) or text.startswith("−") else "+"
  cell = Cell(
    sign + text,
    spread="" if math.isnan(half) else measure.text(half),
    mark=layout.UNDEFINED * (not spread.complete),
  )
  return cell, _value(measure, spread, len(differences), row)


def half_interval(values: list, confidence: float = CONFIDENCE) -> float:
  """Half of the t interval of a mean: t(n - 1) s / sqrt(n); NaN of fewer than two values."""
  known = [value for value in values if math.isfinite(value)]
  if len(known) < 2:
    return math.nan
  quantile = scipy.special.stdtrit(len(known) - 1, (1 + confidence) / 2)
  return float(quantile * np.std(known, ddof=1) / math.sqrt(len(known)))


def _marked(rows: list, measure: Quantity, values: list) -> list:
  """(cell, value) of every row, marked against each other."""
  spreads = [seeds_means.spread(row_values) for row_values in values]
  names = ["baseline", *range(1, len(rows))]
  cells = seeds_means.cells(measure, dict(zip(names, spreads, strict=True)))
  return [
    (_paperless(cells[name], spread), _value(measure, spread, len(row_values), row))
    for name, spread, row_values, row in zip(names, spreads, values, rows, strict=True)
  ]


def _paperless(cell: Cell, spread: seeds_means.Spread) -> Cell:
  return Cell(
    cell.text, cell.best, cell.better, cell.spread, layout.UNDEFINED * (not spread.complete)
  )


def _value(measure: Quantity, spread: seeds_means.Spread, count: int, row: Row) -> Value:
  scale = measure.scale
  shown = seeds_means.Spread(scale * spread.mean, scale * spread.std, spread.complete)
  return Value(measure, 2, shown, count, row.missing, None)


def _line(group: Group, key: Key, row: Row, columns: list) -> Line:
  cells, values = zip(*columns, strict=True)
  labels = layout.labels_of(group, key, True)
  seeds = layout.count_of(row).strip(" ()")
  return Line(key=key, labels=labels, cells=list(cells), values=list(values), seeds=seeds)
