"""Checks of a config's fields that several blocks share."""

import numbers

import ml_collections

from dissim_jax.config_file import get
from dissim_jax.errors import UserError


def check_number(
  config: ml_collections.ConfigDict, field: str, least: int, most: int | None = 2**31 - 1
) -> None:
  """The value of a field must be a whole number in least..most; without `most` of any size."""
  value = get(config, field)
  if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
    raise UserError(f"{field}={value!r}: must be a whole number of at least {least}")
  if most is not None and value > most:
    raise UserError(f"{field}={value!r}: must be at most {most}")
