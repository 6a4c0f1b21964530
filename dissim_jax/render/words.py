"""Numbers and counts in words."""

import math
from typing import NamedTuple

from dissim_jax.registry.entry import number
from dissim_jax.render.table import Cell

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_NAMED = 6  # of a longer list


class Spread(NamedTuple):
  """Mean and standard deviation (n - 1) of `count` values; NaN where there are too few."""

  mean: float
  std: float
  count: int


def p_value(p: float, least: float = 1e-300) -> str:
  """ "p = 0.012", "p = 1.7·10⁻⁵"; "p ≤ ..." where p is the least there can be."""
  if math.isnan(p):
    return "p not defined"
  sign, p = ("=", p) if p > least else ("≤", least)
  if p >= 0.001:
    return f"p {sign} {p:.3f}"
  digits, exponent = f"{p:.1e}".split("e")
  digits = "" if digits == "1.0" and sign == "≤" else f"{digits}·"
  return f"p {sign} {digits}10{str(int(exponent)).translate(_RAISED)}"


def plural(count: int, word: str) -> str:
  """ "1 pair", "2 pairs"."""
  return f"{count:,} {word}{'s' * (count != 1)}"


def mean_std(spread: Spread, decimals: int = 2, factor: float = 1.0) -> str:
  """ "2.73 ± 0.41", without a deviation of one value."""
  text = number(factor * spread.mean, decimals)
  return text if math.isnan(spread.std) else f"{text} ± {number(factor * spread.std, decimals)}"


def cell(spread: Spread, decimals: int = 2, factor: float = 1.0) -> Cell:
  """The same as a cell."""
  deviation = "" if math.isnan(spread.std) else number(factor * spread.std, decimals)
  return Cell(number(factor * spread.mean, decimals), spread=deviation)


def value(number_: float, decimals: int = 2, factor: float = 1.0) -> Cell:
  """One number as a cell."""
  return Cell(number(factor * number_, decimals))


def some(names: list) -> str:
  """The first names, and how many more there are."""
  more = len(names) - _NAMED
  return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
