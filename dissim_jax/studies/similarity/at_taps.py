"""Similarity at the regularised taps, as rows and as lines."""

import math

import numpy as np

from dissim_jax.files.run import RELATION_NAMES
from dissim_jax.registry.entry import number
from dissim_jax.render import page
from dissim_jax.render.table import of_texts


def _at_taps(values, taps):
  """Mean of [L] over the taps; NaN where one is missing."""
  if values is None:
    return math.nan
  chosen = [values[tap] for tap in taps if 0 <= tap < len(values)]
  return float(np.mean(chosen)) if len(chosen) == len(taps) and taps else math.nan


def tap_similarity(results) -> list:
  """Similarity at the regularised taps, averaged over the pairs of each relation.

  Returns:
    rows {"relation", "label", "pairs", "r2", "r2_reverse", "lincka", "lincka_position"}; r2 tells
    how well the earlier member's tap linearly predicts the later one's, r2_reverse the opposite;
    1 = fully alike. Several taps and several pairs are averaged; NaN where no pair has a value.
  """
  taps, groups = results.regularised_taps, {}
  for a, b in results.pairs if taps else []:
    earlier, later = (b, a) if b in results.teachers(a) else (a, b)
    position = results.arrays["lincka_position"]
    groups.setdefault(results.relation(a, b), []).append(
      (
        _at_taps(results.arrays["r2"].get((earlier, later)), taps),
        _at_taps(results.arrays["r2"].get((later, earlier)), taps),
        _at_taps(results.equal_taps(a, b), taps),
        _at_taps(position.get((a, b)), taps),
      )
    )
  rows = []
  for relation in RELATION_NAMES:
    values = np.array(groups.get(relation, np.empty((0, 4))))
    if not len(values):
      continue
    means = [
      float(np.mean(column[~np.isnan(column)])) if not np.isnan(column).all() else math.nan
      for column in values.T
    ]
    rows.append(
      {
        "relation": relation,
        "label": RELATION_NAMES[relation],
        "pairs": len(values),
        **dict(zip(("r2", "r2_reverse", "lincka", "lincka_position"), means, strict=True)),
      }
    )
  return rows


def tap_lines(results) -> list:
  """The similarity at the regularised taps, one short line for each relation of pairs."""
  rows = tap_similarity(results)
  if not rows:
    return []
  lines = [f"At {results.tap_label()}, 1 = alike (R²: least squares, later from earlier member):"]
  for row in rows:
    label = f"{row['label']} ({row['pairs']} pair{'s' * (row['pairs'] > 1)})"
    lines.append(f"  {label:<43}R² {number(row['r2']):>6}  LinCKA {number(row['lincka']):>6}")
  return lines


_HEADS = (
  "Pairs of members",
  "Pairs",
  "R² later from earlier",
  "R² earlier from later",
  "LinCKA, examples",
  "LinCKA, positions",
)


def taps_sections(results) -> list[page.Section]:
  """The similarity at the regularised taps; nothing where there are none."""
  rows = [
    (
      row["label"],
      str(row["pairs"]),
      *(number(row[key]) for key in ("r2", "r2_reverse", "lincka", "lincka_position")),
    )
    for row in tap_similarity(results)
  ]
  note = page.Text(
    "1 = alike. R² is that of a least-squares fit from one member's tap to the other's, pair by "
    "pair; the penalty in training predicts from all earlier members together. Means over taps and "
    "over pairs that have a value.",
    note=True,
  )
  title = f"Similarity at the regularised {results.tap_label()}"
  return [page.Section(title, [of_texts(_HEADS, rows, 1), note])] if rows else []
