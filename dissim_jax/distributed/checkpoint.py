"""Checkpoints of a running training and the weights of a finished member (orbax).

`Checkpoints` keeps the newest states of a training run, written in the background and moved into
place when whole. A state that cannot be read (a truncated file, say), or is not the one that was
written by its checksum in `checkpoints.json`, is set aside with a warning and the one before it is
used.
"""

import contextlib
import errno
import functools
import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dissim_jax.distributed import devices, processes
from dissim_jax.files import layout
from dissim_jax.files.atomic import read_json, write_json

log = logging.getLogger(__name__)


def _abstract(tree: Any) -> Any:
  """Shapes, dtypes and shardings of a pytree of arrays: what orbax needs to read it back."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None)), tree
  )


def _on_host(tree: Any, *, copy: bool | None = None) -> Any:
  """Replicated arrays as NumPy arrays.

  Of JAX arrays that several devices hold, orbax writes a part from each, and compiles a program
  for every part to cut it out.
  """
  return jax.tree.map(lambda x: np.array(x, copy=copy), devices.local(tree))


def _digest(tree: Any) -> str:
  """SHA-256 of all arrays of a pytree, their shapes and dtypes, in hexadecimal."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(_on_host(tree)):
    digest.update(f"{leaf.dtype}{leaf.shape}".encode())
    digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
  return digest.hexdigest()


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
  """A full disk is the OSError that it is elsewhere, and names the folder."""
  _be_quiet()
  try:
    yield
  except Exception as error:  # orbax passes on what tensorstore raises: a ValueError.
    for number in (errno.ENOSPC, errno.EDQUOT):
      if os.strerror(number) in str(error):
        raise OSError(number, os.strerror(number), str(path)) from error
    raise


@functools.cache
def _be_quiet() -> None:
  """Nothing on stderr of what orbax raises as well, nor of what comes after it.

  When one array cannot be written or read, those that are still on their way answer to an event
  loop that is gone, each with a traceback of its own.
  """
  orbax = os.path.dirname(ocp.__file__)
  logging.getLogger("absl").addFilter(lambda record: not record.pathname.startswith(orbax))

  def is_late(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"

  shown, shown_unraisable = sys.excepthook, sys.unraisablehook
  sys.excepthook = lambda kind, error, trace: None if is_late(error) else shown(kind, error, trace)
  sys.unraisablehook = lambda unraisable: (
    None if is_late(unraisable.exc_value) else shown_unraisable(unraisable)
  )


@contextlib.contextmanager
def _plain(folder: Path) -> Iterator[Path]:
  """The folder by a path without `*`, `?`, `[`, `]`, `\\`, which orbax takes for patterns.

  Nor can orbax write to a path that is no UTF-8.
  """
  folder = Path(folder).absolute()
  is_text = str(folder).encode("utf-8", "replace") == os.fsencode(folder)
  if is_text and not set("*?[]\\") & set(str(folder)):
    yield folder
    return
  with tempfile.TemporaryDirectory(prefix="dissim_jax_") as other:
    link = Path(other) / "folder"
    link.symlink_to(folder, target_is_directory=True)
    yield link


class Checkpoints:
  """The newest `keep` training states below `directory`, by step."""

  def __init__(self, directory: Path, keep: int):
    self._directory = Path(directory).absolute()
    self._directory.mkdir(parents=True, exist_ok=True)
    self._checksums = self._directory.parent / layout.CHECKSUMS
    self._links = contextlib.ExitStack()
    self._plain = self._links.enter_context(_plain(self._directory))
    self._options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    self._manager = ocp.CheckpointManager(self._plain, options=self._options)

  def save(self, step: int, state: Any) -> None:
    """Writes `state` in the background."""
    # A copy: the next step donates the state's buffers, which on CPU are this very memory.
    state = _on_host(state, copy=True)
    if processes.is_first():
      kept = {str(step) for step in self._manager.all_steps()}
      known = {name: digest for name, digest in self._digests().items() if name in kept}
      write_json(self._checksums, known | {str(step): _digest(state)})
    with _written(self._directory):
      self._manager.save(step, args=ocp.args.StandardSave(state))

  def _digests(self) -> dict[str, Any]:
    """Checksums of states by step; none of states that were written before there were any."""
    try:
      return read_json(self._checksums)
    except (OSError, ValueError):
      return {}

  def latest_step(self) -> int | None:
    """The step of the newest state, finished or still being written; None if there is none."""
    return self._manager.latest_step()

  def restore(self, like: Any) -> Any | None:
    """The newest readable state, shaped and placed as `like`; None if there is none."""
    _be_quiet()
    digests = self._digests()
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        state = self._manager.restore(step, args=ocp.args.StandardRestore(_abstract(like)))
        if digests.get(str(step), digest := _digest(state)) != digest:
          raise ValueError("its checksum is another one")
        return state
      except Exception as error:  # orbax raises many types for a damaged file.
        self._set_aside(step, error)
    return None

  def _set_aside(self, step: int, error: Exception) -> None:
    """Renames an unreadable state, so that training can write this step again."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    path = self._directory / str(step)
    target = self._directory / f"unreadable-{step}"
    suffix = 1
    while target.exists():
      target = self._directory / f"unreadable-{step}.{(suffix := suffix + 1)}"
    log.warning(
      "checkpoint %s cannot be read (%s); it is set aside as %s and the one before it is used",
      path,
      reason,
      target.name,
    )
    processes.first_does(lambda: None if target.exists() else path.rename(target))
    self._manager.close()
    self._manager = ocp.CheckpointManager(self._plain, options=self._options)

  def close(self) -> None:
    """Waits until everything is written."""
    with self._links, _written(self._directory), contextlib.closing(self._manager):
      self._manager.wait_until_finished()


def save_weights(path: Path, variables: Any) -> None:
  """Writes the variables of a finished member; returns when they are on disk."""
  context = _plain(Path(path).parent)
  with _written(path), context as folder, ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder / Path(path).name, _on_host(variables), force=True)


def load_weights(path: Path, like: Any) -> Any:
  """Reads variables written by `save_weights`, shaped and placed as `like`."""
  with _plain(Path(path).parent) as folder, ocp.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(folder / Path(path).name, _abstract(like))
