"""Checks of a single value; every complaint is one sentence that names the field."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from dissim_jax.errors import UserError
from dissim_jax.names import nearest


def check_name(field: str, value: Any, allowed: Iterable[str]) -> None:
  """Raises UserError unless the value is one of the names."""
  allowed = sorted(allowed)
  if value not in allowed:
    raise UserError(
      f"{field}={value!r}: choose one of {', '.join(allowed)}{nearest(value, allowed)}"
    )


def check_int(field: str, value: Any, low: int, high: int | None, reason: str = "") -> None:
  """Raises UserError unless `value` is an integer in low..high (high None: no upper limit)."""
  is_int = isinstance(value, int | np.integer) and not isinstance(value, bool)
  if is_int and low <= value and (high is None or value <= high):
    return
  allowed = f"an integer >= {low}" if high is None else f"an integer in {low}..{high}"
  raise UserError(f"{field}={value!r}: must be {allowed}" + (f" ({reason})" if reason else ""))
