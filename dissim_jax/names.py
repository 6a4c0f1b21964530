"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(value: Any, allowed: Iterable[str]) -> str:
  """", did you mean …?" for a misspelt name, or nothing."""
  close = difflib.get_close_matches(str(value), list(allowed), n=1, cutoff=0.5)
  return f", did you mean {close[0]!r}?" if close else ""


def listed(values: Iterable[str]) -> list[str]:
  """The names in a config's tuple; one given on the command line as `a,b` is two."""
  return [name.strip() for value in values for name in str(value).split(",")]


def expanded(values: Iterable[str], known: Iterable[str]) -> list[str]:
  """As `listed`, with every known name in the place of `all`."""
  names = listed(values)
  return list(known) if "all" in names else names
