"""Names as they are shown: suggestions for misspelt ones, names of files that cannot be printed."""

import difflib
import unicodedata
from collections.abc import Iterable
from typing import Any

_TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def nearest(value: Any, allowed: Iterable[str]) -> str:
  """ ", did you mean …?" for a misspelt name, or nothing."""
  by_lower = {name.lower(): name for name in allowed}
  close = difflib.get_close_matches(str(value).lower(), by_lower, n=1, cutoff=0.5)
  return f", did you mean {by_lower[close[0]]!r}?" if close else ""


def listed(values: Iterable[str]) -> list[str]:
  """The names in a config's tuple; one given on the command line as `a,b` is two."""
  return [name.strip() for value in values for name in str(value).split(",")]


def expanded(values: Iterable[str], known: Iterable[str]) -> list[str]:
  """As `listed`, with every known name in the place of `all`."""
  names = listed(values)
  return list(known) if "all" in names else names


def printable(name: str) -> str:
  r"""A file name as text that can be printed and encoded; different names stay different.

  Bytes that are no UTF-8 become `\xff`, control characters and marks that turn the direction of
  writing `\n` or `\u202e`, and a backslash is doubled.
  """
  if name.isprintable() and "\\" not in name:
    return name
  return "".join(map(_shown, name))


def _shown(letter: str) -> str:
  if letter == "\\":
    return "\\\\"
  if "\udc80" <= letter <= "\udcff":  # what os.fsdecode makes of a byte that is no UTF-8
    return f"\\x{ord(letter) - 0xDC00:02x}"
  category, direction = unicodedata.category(letter), unicodedata.bidirectional(letter)
  if category in ("Cc", "Cs", "Zl", "Zp") or direction in _TURNING:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(letter, f"\\u{ord(letter):04x}")
  return letter


def shown(text: Any) -> str:
  """A text that can be printed and encoded: other characters are question marks."""
  return "".join(letter if letter.isprintable() else "?" for letter in str(text))
