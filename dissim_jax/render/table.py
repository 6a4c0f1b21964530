"""Cells: the values of a table as they are printed and marked."""

import dataclasses
import math

from dissim_jax.registry.entry import Quantity, number
from dissim_jax.registry.objectives import BASELINE


@dataclasses.dataclass(frozen=True)
class Cell:
  """One printed value: `best` of its column, `better` than the baseline.

  `spread` is a standard deviation, `mark` a sign that a note explains.
  """

  text: str
  best: bool = False
  better: bool = False
  spread: str = ""
  mark: str = ""


def cells(measure: Quantity, values: dict) -> dict:
  """Marks one column of one measure.

  Values are compared at the printed precision, so two equal-looking numbers are never told apart.

  Args:
    measure: gives direction, unit and precision.
    values: sequence name -> value (None or NaN: not defined).

  Returns:
    sequence name -> Cell. `best` needs at least two defined values that are not all equal.
  """
  shown = {name: measure.shown(value) for name, value in values.items()}
  defined = [value for value in shown.values() if not math.isnan(value)]
  best = max(defined, key=lambda value: measure.better * value, default=math.nan)
  compared = measure.better and len(set(defined)) > 1
  baseline = shown.get(BASELINE, math.nan)
  return {
    name: Cell(
      number(value, measure.decimals),
      best=bool(compared and value == best),
      better=measure.better * value > measure.better * baseline,
    )
    for name, value in shown.items()
  }
