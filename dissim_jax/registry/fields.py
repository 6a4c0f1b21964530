"""Fields of a config: default, meaning, and what is allowed, said once.

A check takes the name of a field and its value, and raises a UserError in one sentence.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dissim_jax.errors import UserError
from dissim_jax.names import listed
from dissim_jax.registry.checks import check_name, said

Check = Callable[[str, Any], None]
WIDEST = 100.0  # width multiplier: of the widest published network it is 10
_MOST = 2**31 - 1  # JAX's default integers are int32.
_KINDS: dict[type, str] = {
  int: "a whole number",
  float: "a number",
  bool: "True or False",
  str: "a text",
  tuple: "a tuple",
}
_TYPES = {int: numbers.Integral, float: numbers.Real, tuple: (tuple, list)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
  """One field of a config.

  Attributes:
    default: its value where nothing else is said.
    doc: its meaning and unit, a line.
    check: of a value that is of the field's type.
    kind: its type; of a field whose default is None ("as another field") that of other values.
    of_texts: of a tuple: its parts are texts, even those that look like numbers.
    affects: what another value changes. "images": which images there are; "training": what is
      trained; "speed": nothing but time and memory; "measuring": what is measured of finished
      members, whose results say how they were made; "seed": the random numbers of the whole run;
      "command": how a command is called.
  """

  default: Any
  doc: str
  check: Check
  kind: type
  of_texts: bool = False
  affects: str = "training"

  def verify(self, field: str, value: Any) -> None:
    """Raises UserError unless a value is of the field's type and allowed."""
    if value is None and self.default is None:
      return
    self.check_type(field, value)
    self.check(field, value)

  def check_type(self, field: str, value: Any) -> None:
    """Raises UserError unless a value has the type of the field."""
    if value is None and self.default is None:
      return
    right = isinstance(value, _TYPES.get(self.kind, self.kind))
    if not right or isinstance(value, bool) is not (self.kind is bool):
      raise UserError(f"{field}={said(value)}: must be {_KINDS[self.kind]}")
    if self.of_texts and not all(isinstance(part, str) for part in value):
      raise UserError(f"{field}={said(value)}: must be a tuple of texts")
    if self.kind is tuple and any(isinstance(part, bool) for part in value):
      raise UserError(f"{field}={said(value)}: must be a tuple of numbers")


# --- Checks --------------------------------------------------------------------------------------


def anything(field: str, value: Any) -> None:
  """Every value of the field's type is allowed."""


def is_whole(low: int, high: int | None = _MOST) -> Check:
  """A whole number in low..high; high None: of any size."""

  def check(field: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < low:
      raise UserError(f"{field}={said(value)}: must be a whole number of at least {low}")
    if high is not None and value > high:
      raise UserError(f"{field}={said(value)}: must be at most {high}")

  return check


def is_number(
  low: float = -math.inf, high: float = math.inf, above: bool = False, hint: str = ""
) -> Check:
  """A finite number in low..high, or above low; the complaint ends with the hint."""
  if high < math.inf:
    within = f"above {low:g} and up to {high:g}" if above else f"in {low:g}..{high:g}"
    allowed = f"a number {within}"
  elif low > -math.inf:
    allowed = f"a finite number {'above' if above else 'of at least'} {low:g}"
  else:
    allowed = "a finite number"

  def check(field: str, value: Any) -> None:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not low <= value <= high or (above and value <= low):
      raise UserError(f"{field}={said(value)}: must be {allowed}{hint}")

  return check


def is_one_of(allowed: Iterable[str], *more: str) -> Check:
  """One of the names; of a table of the registry, also those that are added later."""
  return lambda field, value: check_name(field, value, (*allowed, *more))


def are_names(allowed: Iterable[str], *more: str) -> Check:
  """Names, each of them allowed and none twice."""

  def check(field: str, value: Sequence[str]) -> None:
    names = listed(value)
    for name in names:
      check_name(field, name, (*allowed, *more))
    _check_unique(field, names)

  return check


def are(each: Check, *, unique: bool = False, least: int = 0, what: str = "value") -> Check:
  """Values that are each allowed: so many at least, and none twice where they must differ."""

  def check(field: str, value: Sequence[Any]) -> None:
    for part in value:
      each(field, part)
    if unique:
      _check_unique(field, value)
    if len(value) < least:
      raise UserError(f"{field}={said(tuple(value))}: name at least {least} {what}")

  return check


def _check_unique(field: str, values: Sequence[Any]) -> None:
  for place, value in enumerate(values):
    if value in values[:place]:
      raise UserError(f"{field}={said(tuple(values))}: {said(value)} is named twice")


# --- Fields --------------------------------------------------------------------------------------


def whole(default: int, doc: str, low: int = 0, high: int | None = _MOST, **more: Any) -> Field:
  """A whole number in low..high."""
  return Field(default=default, doc=doc, check=is_whole(low, high), kind=int, **more)


def seed(default: int, doc: str, **more: Any) -> Field:
  """A whole number from 0, of any size."""
  return whole(default, doc, 0, None, **more)


def number(
  default: float | None,
  doc: str,
  low: float = 0.0,
  high: float = math.inf,
  *,
  above: bool = False,
  hint: str = "",
  **more: Any,
) -> Field:
  """A finite number in low..high, or above low."""
  check = is_number(low, high, above, hint)
  return Field(default=default, doc=doc, check=check, kind=float, **more)


def flag(default: bool | None, doc: str, **more: Any) -> Field:
  """True or False."""
  return Field(default=default, doc=doc, check=anything, kind=bool, **more)


def text(default: str, doc: str, **more: Any) -> Field:
  """Any text."""
  return Field(default=default, doc=doc, check=anything, kind=str, **more)


def name(default: str | None, doc: str, allowed: Iterable[str], *others: str, **more: Any) -> Field:
  """One of several names."""
  return Field(default=default, doc=doc, check=is_one_of(allowed, *others), kind=str, **more)


def several(default: tuple, doc: str, check: Check, **more: Any) -> Field:
  """A tuple."""
  return Field(default=default, doc=doc, check=check, kind=tuple, **more)
