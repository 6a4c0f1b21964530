"""The command line of a task, and the config that a process started by it will have.

The config is what the flags of `dissim_jax.main` make of the command line, so that what is checked
is what will run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from dissim_jax.config import blocks, source
from dissim_jax.config.check import check_config
from dissim_jax.config.values import get
from dissim_jax.errors import UserError


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
  where = f"run {name!r}: "
  try:
    config = source.load(file)
  except UserError as error:
    raise UserError(f"{where}config={file!r}: {error}") from error
  texts = {}
  try:
    for field, value in values.items():
      text = _text(config, field, value)
      if text is not None:
        source.read(config, field, text)
        texts[field] = text
    config = config.copy_and_resolve_references()
    check_config(config)
  except UserError as error:
    raise UserError(f"{where}{error}") from error
  return ["-m", "dissim_jax.main", *_flags(file, texts), f"--workdir={workdir}"], config


def _text(config: ml_collections.ConfigDict, field: str, value: Any) -> str | None:
  """How the command line says a value; None where it is None already, which needs no saying."""
  source.check_field(field)
  value = _plain(value)
  if value is None and get(config, field) is None:
    return None
  if not isinstance(value, str):
    blocks.fields()[field].check_type(field, value)
  return value if isinstance(value, str) else repr(value)


def for_comparison(
  folders: Sequence[Path], measures: Sequence[str], members: Sequence[str], out: Path
) -> list[str]:
  """The arguments of the Python interpreter that do a comparison of runs."""
  members = [f"--members={','.join(members)}"] if members else []
  return [
    "-m",
    "dissim_jax.compare",
    *(f"--workdir={folder}" for folder in folders),
    f"--measures={','.join(measures)}",
    f"--out={out}",
    *members,
  ]


def _flags(file: str, texts: Mapping[str, str]) -> list[str]:
  return [f"--config={file}", *(f"--config.{field}={text}" for field, text in texts.items())]


def _plain(value: Any) -> Any:
  """A value without NumPy's types, and with tuples for lists: its `repr` can be read back."""
  if isinstance(value, np.generic | np.ndarray):
    value = value.tolist()
  if isinstance(value, list | tuple):
    return tuple(_plain(part) for part in value)
  return value
