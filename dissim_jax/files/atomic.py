"""Files that are written whole or not at all, and the lock of a folder.

What is written lies beside its place under a name that no other process has, and takes its name
when all of it is on disk: a reader never sees half of a file, and of two writers one wins.
"""

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_PART = ".part"  # at the end of the name of a file that is being written


def is_part(name: str) -> bool:
  """Whether a file of this name was left by a process that was killed while it wrote."""
  return name.endswith(_PART)


def part_of(path: Path) -> Path:
  """A hidden name beside `path` that no other process has, for what will be moved there."""
  return path.with_name(f".{uuid.uuid4().hex}{_PART}")


@contextlib.contextmanager
def named(path: str | os.PathLike) -> Iterator[None]:
  """An OSError of the block that names no file, as of a full disk, names this one."""
  try:
    yield
  except OSError as error:
    if error.filename is not None:
      raise
    raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """A file to write bytes to, that is `path` once the block has ended; the folder is made.

  After an exception, `path` is as it was and nothing is left beside it.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  part = part_of(path)
  try:
    with named(path), part.open("xb") as file:
      yield file
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file."""
  with whole(path) as file:
    file.write(content)


def write_json(path: str | os.PathLike, values: Mapping[str, Any]) -> None:
  """Writes JSON."""
  write_bytes(path, (json.dumps(values, indent=2) + "\n").encode())


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes an npz file.

  Raises:
    TypeError: an array holds Python objects, which only a pickle could.
  """
  for name, array in arrays.items():
    if np.asarray(array).dtype.hasobject:
      raise TypeError(f"{name} holds Python objects: numbers or texts are needed")
  with whole(path) as file:
    np.savez(file, **arrays)  # ty: ignore[invalid-argument-type]


def write_together(
  folder: Path, contents: Mapping[str, bytes], stale: Collection[str] = ()
) -> None:
  """Writes every file or none: all are on disk before the first takes its name.

  Args:
    folder: made if it is not there.
    contents: by name of the file.
    stale: names of files to remove afterwards, if they are there and not in `contents`.

  Raises:
    OSError: something cannot be written; no file has changed.
  """
  folder.mkdir(parents=True, exist_ok=True)
  parts = {name: part_of(folder / name) for name in contents}
  try:
    for name, content in contents.items():
      with named(folder / name):
        parts[name].write_bytes(content)
    for name, part in parts.items():
      os.replace(part, folder / name)
  finally:
    for part in parts.values():
      part.unlink(missing_ok=True)
  for name in set(stale) - set(contents):
    (folder / name).unlink(missing_ok=True)


def read_json(path: str | os.PathLike) -> dict[str, Any]:
  """A JSON file as a dict.

  Raises:
    ValueError: it is no JSON object, or no text.
    OSError: it cannot be read.
  """
  try:
    values = json.loads(Path(path).read_text("utf-8"))
  except RecursionError as error:
    raise ValueError("it is nested too deeply") from error
  if not isinstance(values, dict):
    raise ValueError("it must hold a JSON object")
  return values


def encoded(text: str) -> bytes:
  """A text as UTF-8; of paths that are no UTF-8, what is none as a backslash and a number."""
  return text.encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
  """Holds the lock of a file, which is made; released when the process ends in whatever way.

  Raises:
    BlockingIOError: another process holds it.
    OSError: the file cannot be made.
  """
  with Path(path).open("a") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise
    except OSError:
      pass  # Not every file system has locks.
    yield


def is_held(path: Path) -> bool:
  """Whether some process holds the lock of a file. False where that cannot be told."""
  try:
    with Path(path).open("rb") as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return False
  except BlockingIOError:
    return True
  except OSError:  # There is no such file, or no lock can be had here.
    return False
