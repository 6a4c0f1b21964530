"""CSV for spreadsheets, which execute a cell that begins like a formula."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

# Also in the wide form of East Asian keyboards, which some programs take for the same.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def text(rows: Iterable[Sequence[Any]]) -> str:
  """Lines of comma-separated cells; a text that begins like a formula gets a ' before it."""
  content = io.StringIO()
  csv.writer(content, lineterminator="\n").writerows(map(_safe, row) for row in rows)
  return content.getvalue()


def _safe(cell: Any) -> Any:
  if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA) and not _is_number(cell):
    return f"'{cell}"
  return cell


def _is_number(cell: str) -> bool:
  try:
    float(cell)
  except ValueError:
    return False
  return True
