"""Checks of a single value; every complaint is one sentence that names the field."""

import numbers
from collections.abc import Iterable
from typing import Any

from dissim_jax.errors import UserError
from dissim_jax.names import nearest

_LONGEST = 200  # characters of a value in a sentence


def said(value: Any) -> str:
  """A value in a sentence: in one line, cut short, without ConfigDict's own layout."""
  value = value.to_dict() if hasattr(value, "to_dict") else value
  text = " ".join(repr(value).split())
  return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def check_name(field: str, value: Any, allowed: Iterable[str]) -> None:
  """Raises UserError unless the value is one of the names."""
  allowed = sorted(allowed)
  if not isinstance(value, str) or value not in allowed:
    raise UserError(
      f"{field}={said(value)}: choose one of {', '.join(allowed)}{nearest(value, allowed)}"
    )


def check_int(field: str, value: Any, low: int, high: int | None, reason: str = "") -> None:
  """Raises UserError unless `value` is an integer in low..high (high None: no upper limit)."""
  is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if is_int and low <= value and (high is None or value <= high):
    return
  allowed = f"an integer >= {low}" if high is None else f"an integer in {low}..{high}"
  raise UserError(f"{field}={said(value)}: must be {allowed}" + (f" ({reason})" if reason else ""))
