"""From the text of a command line to a value, in one way for fields of a config and for flags.

Every function raises a ValueError that says what is allowed: "must be …".
"""

import ast
import re
import sys
from typing import Any

# One sentence for all lists of values.
SEVERAL = (
  "Lists are written a,b (one value: a; none: nothing after the =); a value that holds a comma "
  "stands in quotes: \"'/data/a,b','/data/c'\"."
)
NUMBER = "must be a number or a fraction such as 8/255"
# A text in quotes, or anything up to the next comma.
_PART = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,]*?)\s*,""")


def whole(text: str) -> int:
  """A whole number, of any size."""
  text = text.strip()
  if re.fullmatch(r"[+-]?\d[\d_]*", text) and len(text) > (most := sys.get_int_max_str_digits()):
    raise ValueError(f"must be a whole number of at most {most} digits")
  try:
    return int(text)
  except ValueError as error:
    raise ValueError("must be a whole number") from error


def number(text: str) -> float:
  """A number or a fraction of two: `0.1`, `8/255`; also `nan` and `inf`, which few fields take."""
  above, slash, below = text.partition("/")
  try:
    return float(above) / float(below) if slash else float(above)
  except (ValueError, ZeroDivisionError) as error:
    raise ValueError(NUMBER) from error


def shown(value: Any) -> str:
  """A default in a help text: `8/255`, `yes`, `50`."""
  if isinstance(value, bool):
    return "yes" if value else "no"
  levels = 255 * value
  return f"{levels:g}/255" if 0 < value < 1 and levels == int(levels) else f"{value:g}"


def boolean(text: str) -> bool:
  """`true` or `false`, `1` or `0`."""
  known = {"true": True, "false": False, "1": True, "0": False}
  try:
    return known[text.strip().lower()]
  except KeyError as error:
    raise ValueError("must be True or False") from error


def several(text: str, of_texts: bool = False) -> tuple[Any, ...]:
  """A tuple, see `SEVERAL`; a pair of brackets around all of it may be there or not.

  Args:
    text: as given.
    of_texts: what stands in no quotes is a text even where it could be a number.
  """
  parts, inner = _split(text), text.strip()
  if inner[:1] + inner[-1:] in ("()", "[]"):
    within = _split(inner[1:-1])
    parts = within if all(map(_balanced, within)) else parts
  if not all(parts):
    raise ValueError("has nothing between two commas")
  return tuple(_item(part, of_texts) for part in parts)


def _split(text: str) -> list[str]:
  """What stands between commas that are not in quotes; there may be one at the end."""
  inner = text.strip().removesuffix(",")
  return _PART.findall(inner + ",") if inner else []


def _balanced(part: str) -> bool:
  """Whether the brackets of `(a),(b)` are not one pair around all."""
  return part[:1] in "'\"" or all(part.count(a) == part.count(b) for a, b in ("()", "[]"))


def _item(part: str, of_texts: bool) -> Any:
  """One value of several: a text in quotes, a number, or a text."""
  if part[0] in "'\"":
    return _quoted(part)
  if of_texts:
    return part
  for read in (whole, number):
    try:
      return read(part)
    except ValueError:
      continue
  return part


def _quoted(part: str) -> str:
  try:
    return ast.literal_eval(part)
  except (ValueError, SyntaxError) as error:
    raise ValueError("must have both quotes around a text that begins with one") from error
