"""The command line of a task, and the config that a process started by it will have.

The config is what the flags of `dissim_jax.main` make of the command line, so that what is checked
is what will run.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
from absl import flags
from ml_collections import config_flags

from dissim_jax.errors import UserError
from dissim_jax.names import nearest
from dissim_jax.validate import check_config

_KINDS = {
  bool: "True or False", int: "a whole number", float: "a number", str: "a text",
  tuple: "a tuple",
}  # fmt: skip


def for_run(
  name: str, file: str, values: Mapping[str, Any], workdir: Path
) -> tuple[list[str], ml_collections.ConfigDict]:
  """The arguments of the Python interpreter that do a run, and the config they give.

  Args:
    name: of the run, for errors.
    file: of the base config.
    values: by dotted field; a text is taken as the command line takes it.
    workdir: the run's folder.

  Raises:
    UserError: the file cannot be loaded, an unknown field, or a value that cannot be used.
  """
  base = _parse(name, file, {})
  known = list(_fields(base))
  texts = {}
  for field, value in values.items():
    if field not in known:
      raise UserError(f"run {name!r}: {field}: the config has no such field{nearest(field, known)}")
    value, kind = _plain(value), _kind(base, field)
    if value is None and _get(base, field) is None:
      continue  # What it is already; the command line cannot say it.
    if value is None or (kind is str and not isinstance(value, str)):
      raise UserError(f"run {name!r}: {field}={value!r}: must be {_KINDS.get(kind, kind.__name__)}")
    texts[field] = value if isinstance(value, str) else repr(value)
  config = _parse(name, file, texts)
  try:
    check_config(config)
  except UserError as error:
    raise UserError(f"run {name!r}: {error}") from error
  return ["-m", "dissim_jax.main", *_flags(file, texts), f"--workdir={workdir}"], config


def for_comparison(
  folders: Sequence[Path], measures: Sequence[str], members: Sequence[str], out: Path
) -> list[str]:
  """The arguments of the Python interpreter that do a comparison of runs."""
  members = [f"--members={','.join(members)}"] if members else []
  return [
    "-m", "dissim_jax.compare", *(f"--workdir={folder}" for folder in folders),
    f"--measures={','.join(measures)}", f"--out={out}", *members,
  ]  # fmt: skip


def _flags(file: str, texts: Mapping[str, str]) -> list[str]:
  return [f"--config={file}", *(f"--config.{field}={text}" for field, text in texts.items())]


def _parse(name: str, file: str, texts: Mapping[str, str]) -> ml_collections.ConfigDict:
  """The config, read as `dissim_jax.main` reads it."""
  where = f"run {name!r}: config={file!r}"
  if not Path(file.split(":")[0]).is_file():
    raise UserError(f"{where}: there is no such file")
  argv, values = ["launch", *_flags(file, texts)], flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
  # A file is loaded into the module of the one before it, and would find what that one defines.
  sys.modules.pop("config_config", None)
  try:
    values(argv)
    config = values.config
    config.keys()  # A file that could not be read complains only when used.
    return config.copy_and_resolve_references()
  except flags.IllegalFlagValueError as error:
    for field, text in texts.items():
      if str(error).startswith(f"flag --config.{field}="):
        kind = _kind(_parse(name, file, {}), field)
        allowed = _KINDS.get(kind, kind.__name__)
        raise UserError(f"run {name!r}: {field}={text!r}: must be {allowed}") from error
    raise UserError(f"{where} cannot be loaded: {_told(error)}") from error
  except (Exception, SystemExit) as error:  # The config file is the user's Python.
    raise UserError(f"{where} cannot be loaded: {_told(error)}") from error


def _told(error: BaseException) -> str:
  """An exception in one line."""
  return " ".join(f"{type(error).__name__}: {error}".split())


def _plain(value: Any) -> Any:
  """A value without NumPy's types, and with tuples for lists: its `repr` can be read back."""
  if isinstance(value, np.generic | np.ndarray):
    value = value.tolist()
  if isinstance(value, list | tuple):
    return tuple(_plain(part) for part in value)
  return value


def _kind(config: ml_collections.ConfigDict, field: str) -> type:
  """The type of a field, also of one that is None."""
  block, _, last = field.rpartition(".")
  return (_get(config, block) if block else config).get_type(last)


def _get(config: Any, field: str) -> Any:
  for part in field.split("."):
    config = config[part]
  return config


def _fields(config: ml_collections.ConfigDict, prefix: str = "") -> Iterator[str]:
  """Dotted names of all values; a block itself cannot be set."""
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _fields(value, f"{prefix}{name}.")
    else:
      yield prefix + name
