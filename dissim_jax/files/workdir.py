"""The folder of a run: keeping others out, whether it is that of an experiment, its config."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import ml_collections

from dissim_jax import plugins
from dissim_jax.config.blocks import complete, fields
from dissim_jax.config.source import canonical
from dissim_jax.config.values import flat, plain
from dissim_jax.errors import BusyError, UserError
from dissim_jax.files import layout
from dissim_jax.files.atomic import exclusive, is_part, read_json


@contextlib.contextmanager
def locked(workdir: Path, field: str = "workdir") -> Iterator[None]:
  """Keeps other processes out of a run's folder, until this one ends in whatever way.

  `field` names who asked for the folder, for the error.

  Raises:
    BusyError: another process works there.
    UserError: the folder cannot be made or written.
  """
  with contextlib.ExitStack() as stack:
    try:
      workdir.mkdir(parents=True, exist_ok=True)
      stack.enter_context(exclusive(workdir / layout.LOCK))
    except BlockingIOError as error:
      raise BusyError(f"{field}={str(workdir)!r}: another process works there") from error
    except OSError as error:
      raise UserError(
        f"{field}={str(workdir)!r}: cannot be written ({error.strerror or error})"
      ) from error
    yield


def check_workdir(config: ml_collections.ConfigDict, workdir: Path) -> bool:
  """Whether the folder is already that of this experiment; a new one is not.

  The blocks of what is done with finished members may differ. A field that the folder's config
  lacks, as an earlier version wrote it, has its default there.

  Raises:
    UserError: the workdir belongs to another config (the fields that differ are named), or holds
      other files than an experiment's.
  """
  path = workdir / layout.CONFIG
  if not path.exists():
    if workdir.exists() and (not workdir.is_dir() or any(map(_is_foreign, os.listdir(workdir)))):
      raise UserError(
        f"workdir={str(workdir)!r}: it holds no config.json but is not empty; "
        "choose a new folder or one of an earlier run"
      )
    return False
  try:
    saved = read_json(path)
  except ValueError as error:
    raise UserError(f"workdir={str(workdir)!r}: config.json cannot be read ({error})") from error
  saved.pop("command", None)
  old, new = dict(flat(complete(saved))), dict(flat(complete(plain(config))))
  differ = [
    key
    for key in sorted(old | new)
    if canonical(key, old.get(key)) != canonical(key, new.get(key)) and not _is_later(key)
  ]
  if differ:
    differences = ", ".join(
      f"{key} ({old.get(key)!r} there, {new.get(key)!r} now)" for key in differ
    )
    raise UserError(
      f"workdir={str(workdir)!r}: it belongs to another config, which differs in {differences}; "
      "choose another workdir"
    )
  return True


def _is_later(field: str) -> bool:
  """Whether a field is of what is measured of finished members: results say how they were made."""
  block = field.partition(".")[0]
  if field in fields() and fields()[field].affects == "command":
    return True
  return any(
    known.affects == "measuring" for name, known in fields().items() if name.startswith(f"{block}.")
  )


def _is_foreign(name: str) -> bool:
  """Whether a file shows that a folder without config is not that of a run just begun."""
  return name != layout.LOCK and not is_part(name)


def read_config(
  workdir: Path, field: str, needed: Sequence[str] = ("data", "dtype", "ensemble")
) -> ml_collections.ConfigDict:
  """The config of a run; a field that it lacks has its default.

  Args:
    workdir: the folder of the run.
    field: names who asked, for the error.
    needed: what every version wrote.

  Raises:
    UserError: there is no readable `config.json`, or it lacks one of `needed`.
  """
  path = Path(workdir) / layout.CONFIG
  try:
    values = read_json(path)
  except (OSError, ValueError) as error:
    raise UserError(
      f"{field}: {str(workdir)!r} is not the folder of a run (config.json is missing or damaged)"
    ) from error
  values.pop("command", None)
  if missing := [key for key in needed if key not in values]:
    raise UserError(f"{field}={workdir}: its config.json has no {missing[0]!r}")
  plugins.require(values.get("plugins", ()), f"{field}={workdir}")
  return ml_collections.ConfigDict(complete(values))
