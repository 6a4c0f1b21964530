"""An experiment's config from a file, and its fields from texts of the command line. No JAX."""

import functools
import inspect
import json
import numbers
import os.path
import runpy
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from dissim_jax import texts
from dissim_jax.errors import UserError
from dissim_jax.names import listed, nearest

# Tuples of names and paths: in these even 1 is a text.
OF_TEXTS = (
  "ensemble.teachers", "ensemble.models", "ensemble.compare", "corruption.names",
  "stitch.experiments", "stitch.pairs",
)  # fmt: skip
_READ = {int: texts.whole, float: texts.number, bool: texts.boolean, str: str}
_TYPES = {int: numbers.Integral, float: numbers.Real, tuple: (tuple, list)}
_KINDS = {
  int: "a whole number", float: "a number", bool: "True or False", str: "a text",
  tuple: "a tuple",
}  # fmt: skip
_RESULTS = "config.json"  # what a run writes


def load(path: str) -> ml_collections.ConfigDict:
  """The config that a Python file builds, or that a run was made with.

  Args:
    path: a file with a function `get_config()`; of one that takes a text `FILE.py:TEXT`; the
      `config.json` of a run, or its folder.

  Raises:
    UserError: what is wrong with the file, in one sentence that does not name it.
  """
  file, colon, argument = path.partition(":")
  if os.path.exists(path) or not colon:
    file, colon = path, ""
  if os.path.isdir(file):
    file = os.path.join(file, _RESULTS)
    if not os.path.isfile(file):
      raise UserError(f"the folder holds no {_RESULTS}; give a Python file or the folder of a run")
  if not os.path.isfile(file):
    raise UserError("there is no such file")
  if file.endswith(".json"):
    return _of_run(Path(file))
  return _built(file, [argument] if colon else [])


def _built(file: str, arguments: list[str]) -> ml_collections.ConfigDict:
  """What `get_config` of a Python file returns."""
  try:
    get_config = runpy.run_path(file).get("get_config")
    if not callable(get_config):
      raise UserError("it needs a function get_config() that returns a ConfigDict")
    _check_arguments(get_config, arguments)
    config = get_config(*arguments)
  except UserError:
    raise
  except (Exception, SystemExit) as error:  # The file is the user's Python.
    raise UserError(f"cannot be loaded: {_told(error, file)}") from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise UserError(f"get_config() returns {type(config).__name__}, a ConfigDict is needed")
  _check_fields(config)
  return config.lock()


def _check_fields(config: ml_collections.ConfigDict) -> None:
  """A config has the fields of `configs/default.py`, all of them and no others."""
  found = list(fields(config))
  for field in found:
    check_field(field)
    check_value(field, get(config, field))
  missing = [field for field in known_fields() if field not in found]
  if missing:
    raise UserError(f"{missing[0]} is missing: start from configs.default.get_config()")


def _check_arguments(get_config: Any, arguments: list[str]) -> None:
  """Whether `get_config` takes what stands after the colon of FILE.py:TEXT."""
  try:
    inspect.signature(get_config).bind(*arguments)
  except TypeError as error:
    if arguments:
      told = f"get_config() takes no argument, leave out {':' + arguments[0]!r}"
      raise UserError(told) from error
    raise UserError("get_config() needs an argument: give it as FILE.py:ARGUMENT") from error


def _told(error: BaseException, file: str) -> str:
  """An exception in one line, with the last line of the file that led to it."""
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
           if frame.filename == file]  # fmt: skip
  if isinstance(error, SyntaxError) and error.filename == file:
    lines, told = [error.lineno], error.msg
  else:
    told = str(error)
  where = f" (line {lines[-1]})" if lines else ""
  return " ".join(f"{type(error).__name__}: {told}".split()) + where


def _of_run(file: Path) -> ml_collections.ConfigDict:
  """The config of a finished or begun run; fields that it lacks have their defaults."""
  try:
    saved = json.loads(file.read_text())
  except OSError as error:
    raise UserError(f"cannot be read: {error.strerror}") from error
  except ValueError as error:
    raise UserError(f"is damaged: {error}") from error
  if not isinstance(saved, dict) or "seed" not in saved:
    raise UserError("is not the config.json of a run")
  saved.pop("command", None)
  config = _default().get_config()
  for field, value in _flat(saved):
    assign(config, field, value)
  return config.lock()


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """(dotted field, value) of everything in a nested dict."""
  for name, value in values.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f"{prefix}{name}.")
    else:
      yield prefix + name, value


def fields(config: ml_collections.ConfigDict, prefix: str = "") -> Iterator[str]:
  """Dotted names of all values; a block itself cannot be set."""
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from fields(value, f"{prefix}{name}.")
    else:
      yield prefix + name


def assign(config: ml_collections.ConfigDict, field: str, value: Any) -> None:
  """Sets a field to a value; lists are tuples.

  Raises:
    UserError: there is no such field, or the value is of another type.
  """
  check_field(field)
  check_value(field, value)
  _set(config, field, tuple(value) if isinstance(value, list) else value)


def read(config: ml_collections.ConfigDict, field: str, text: str) -> None:
  """Sets a field to what a text of the command line says, see `dissim_jax.texts`.

  A field that is None by default ("as the member's") takes `None` again.

  Raises:
    UserError: there is no such field, or the text is no value of its type.
  """
  check_field(field)
  kind, may_be_none = known_fields()[field]
  if may_be_none and text.strip().lower() == "none":
    _set(config, field, None)
    return
  try:
    value = texts.several(text, field in OF_TEXTS) if kind is tuple else _READ[kind](text)
  except ValueError as error:
    raise UserError(f"{field}={text!r}: {error}") from error
  _set(config, field, value)


def check_field(field: str) -> None:
  """Raises UserError unless configs have a value of that dotted name."""
  known = known_fields()
  if field in known:
    return
  inside = [name for name in known if name.startswith(f"{field}.")]
  if inside:
    raise UserError(f"{field}: it is a block, set one of its fields, such as {inside[0]}")
  raise UserError(f"{field}: the config has no such field{nearest(field, known)}")


def check_value(field: str, value: Any) -> None:
  """Raises UserError unless a value has the type of its field."""
  kind, may_be_none = known_fields()[field]
  if value is None and may_be_none:
    return
  if not isinstance(value, _TYPES.get(kind, kind)) or isinstance(value, bool) is not (kind is bool):
    raise UserError(f"{field}={value!r}: must be {_KINDS[kind]}")
  if field in OF_TEXTS and not all(isinstance(part, str) for part in value):
    raise UserError(f"{field}={value!r}: must be a tuple of texts")
  if kind is tuple and any(isinstance(part, bool) for part in value):
    raise UserError(f"{field}={value!r}: must be a tuple of numbers")


@functools.cache
def known_fields() -> dict[str, tuple[type, bool]]:
  """By the dotted name of every field of `configs/default.py` its type, and if it may be None."""
  default = _default()
  config = default.get_config()
  kinds = {}
  for field in fields(config):
    path, _, last = field.rpartition(".")
    block = get(config, path) if path else config
    kinds[field] = (block.get_type(last), block[last] is None)
  return kinds


def _default():
  """The module of the default config; not before it is needed, other commands run anywhere."""
  try:
    from configs import default
  except ImportError as error:
    raise UserError("configs/default.py is not found: start in the folder that holds it") from error
  return default


def canonical(field: str, value: Any) -> Any:
  """A value as configs are compared: names that earlier versions kept as one text are several."""
  of_names = field in OF_TEXTS and field != "ensemble.teachers"
  return listed(value) if of_names and value is not None else value


def _set(config: ml_collections.ConfigDict, field: str, value: Any) -> None:
  path, _, last = field.rpartition(".")
  block = get(config, path) if path else config
  block[last] = value


def get(config: ml_collections.ConfigDict, field: str) -> Any:
  """The value of a dotted field."""
  for part in field.split("."):
    config = config[part]
  return config

