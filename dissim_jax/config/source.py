"""An experiment's config from a file, and its fields from texts of the command line. No JAX."""

import inspect
import json
import os.path
import re
import runpy
import traceback
from pathlib import Path
from typing import Any

import ml_collections

from dissim_jax import plugins, texts
from dissim_jax.config import blocks
from dissim_jax.config.values import flat, put
from dissim_jax.errors import UserError
from dissim_jax.files import layout
from dissim_jax.names import listed, nearest

_READ = {int: texts.whole, float: texts.number, bool: texts.boolean, str: str}
PACKAGED = Path(__file__).resolve().parents[1] / "configs"


def find(path: str, folder: Path) -> str:
  """The file that a path names, or the packaged one of that name, such as `digits_expvar`.

  Raises:
    UserError: there is neither.
  """
  file = folder / f"{path}.py"
  packaged = re.fullmatch(r"\w{1,100}", path) is not None and file.is_file()
  # A folder of data may have the name of a config.
  other = packaged and os.path.isdir(path) and not os.path.isfile(os.path.join(path, layout.CONFIG))
  if os.path.exists(path) and not other:
    return path
  if packaged:
    return str(file)
  known = sorted(each.stem for each in folder.glob("[!_]*.py"))
  raise UserError(f"there is no such file{nearest(Path(path).stem, known)}")


def load(path: str) -> ml_collections.ConfigDict:
  """The config that a Python file builds, or that a run was made with.

  Args:
    path: a file with a function `get_config()`; of one that takes a text `FILE.py:TEXT`; the name
      of a packaged one, such as `digits_expvar`; the `config.json` of a run, or its folder.

  Raises:
    UserError: what is wrong with the file, in one sentence that does not name it.
  """
  file, colon, argument = path.partition(":")
  if os.path.exists(path) or not colon:
    file, colon = path, ""
  file = find(file, PACKAGED)
  if os.path.isdir(file):
    file = os.path.join(file, layout.CONFIG)
    if not os.path.isfile(file):
      raise UserError(
        f"the folder holds no {layout.CONFIG}; give a Python file or the folder of a run"
      )
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
    raise UserError(f"cannot be loaded: {_error_text(error, file)}") from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise UserError(f"get_config() returns {type(config).__name__}, a ConfigDict is needed")
  named = config.get("plugins", ())  # By the user's own Python file.
  blocks.fields()["plugins"].check_type("plugins", named)
  plugins.load(named)
  _check_fields(config)
  return config.lock()


def _check_fields(config: ml_collections.ConfigDict) -> None:
  """A config has the fields of `config.blocks`, all of them and no others."""
  known = blocks.fields()
  values = dict(flat(config))
  for field, value in values.items():
    if value is not None and not isinstance(value, ml_collections.ConfigDict):
      check_field(field)
      known[field].check_type(field, value)
  missing = [field for field in known if field not in values]
  if missing:
    raise UserError(f"{missing[0]} is missing: start from configs.default.get_config()")


def _check_arguments(get_config: Any, arguments: list[str]) -> None:
  """Whether `get_config` takes what stands after the colon of FILE.py:TEXT."""
  try:
    inspect.signature(get_config).bind(*arguments)
  except TypeError as error:
    if arguments:
      message = f"get_config() takes no argument, leave out {':' + arguments[0]!r}"
      raise UserError(message) from error
    raise UserError("get_config() needs an argument: give it as FILE.py:ARGUMENT") from error


def _error_text(error: BaseException, file: str) -> str:
  """An exception in one line, with the last line of the file that led to it."""
  lines = [
    frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file
  ]
  if isinstance(error, SyntaxError) and error.filename == file:
    lines, message = [error.lineno], error.msg
  else:
    message = str(error)
  where = f" (line {lines[-1]})" if lines else ""
  return " ".join(f"{type(error).__name__}: {message}".split()) + where


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
  plugins.require(saved.get("plugins", ()), "the run")
  config = blocks.config()
  for field, value in flat(saved):
    if value != {}:  # Measures without options have an empty block.
      assign(config, field, value)
  return config.lock()


def assign(config: ml_collections.ConfigDict, field: str, value: Any) -> None:
  """Sets a field to a value; lists are tuples.

  Raises:
    UserError: there is no such field, or the value is of another type.
  """
  check_field(field)
  blocks.fields()[field].check_type(field, value)
  put(config, field, tuple(value) if isinstance(value, list) else value)


def read(config: ml_collections.ConfigDict, field: str, text: str) -> None:
  """Sets a field to what a text of the command line says, see `dissim_jax.texts`.

  A field that is None by default ("as the member's") takes `None` again.

  Raises:
    UserError: there is no such field, or the text is no value of its type.
  """
  check_field(field)
  known = blocks.fields()[field]
  if known.default is None and text.strip().lower() == "none":
    put(config, field, None)
    return
  read = _READ.get(known.kind)
  try:
    value = texts.several(text, known.of_texts) if read is None else read(text)
  except ValueError as error:
    raise UserError(f"{field}={text!r}: {error}") from error
  put(config, field, value)


def check_field(field: str) -> None:
  """Raises UserError unless configs have a value of that dotted name."""
  known = blocks.fields()
  if field in known:
    return
  inside = [name for name in known if name.startswith(f"{field}.")]
  if inside:
    raise UserError(f"{field}: it is a block, set one of its fields, such as {inside[0]}")
  raise UserError(f"{field}: the config has no such field{nearest(field, known)}")


def canonical(field: str, value: Any) -> Any:
  """A value as configs are compared: names that earlier versions kept as one text are several."""
  known = blocks.fields().get(field)
  of_names = known is not None and known.of_texts and field != "ensemble.teachers"
  return listed(value) if of_names and value is not None else value
