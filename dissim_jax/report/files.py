"""Writing the files of a report."""

import os
import tempfile


def encoded(text: str) -> bytes:
  """A text as UTF-8; of paths that are no UTF-8, what is none as a backslash and a number."""
  return text.encode("utf-8", "backslashreplace")


def write_file(path: str | os.PathLike, content: bytes) -> None:
  """Writes a whole file or none: a reader never sees half a page."""
  handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), suffix=".tmp")
  try:
    with os.fdopen(handle, "wb") as file:
      file.write(content)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  except BaseException:
    os.unlink(temporary)
    raise
