"""Flags and errors of the command-line programs.

What the user can mend is told in one sentence on stderr, with exit code 2.
"""

import contextlib
import errno
import functools
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from absl import flags, logging

from dissim_jax import interrupts, plugins, texts
from dissim_jax.config import blocks, source
from dissim_jax.config.values import put
from dissim_jax.errors import TRY_AGAIN, BusyError, Stopped, UserError
from dissim_jax.names import nearest
from dissim_jax.registry.fields import Field

flags.disclaim_key_flags()  # They are the program's that calls: `--help` shows them.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # what the user can mend
PLUGINS = "plugins"  # the flag, and the field of a config
CONFIG = "config"  # the flag that names a config, and begins those that set its fields
_SETTING = re.compile(rf"--?(no)?{CONFIG}\.([^=]*)(?:=(.*))?", re.DOTALL)
_ABSL_SAYS = {
  r"\('Non-boolean argument .*": "must be True or False",
  "invalid literal for int.*": "must be a whole number",
  "could not convert string to float.*": "must be a number",
}
_PIPE_IS_CLOSED = 141  # as a shell says of a program that SIGPIPE ended
_FLAG = re.compile(r"-(?![\d.])")  # and not a negative number


def fail(message: str) -> None:
  """One sentence on stderr, then exit code 2."""
  print(f"error: {message}", file=sys.stderr)
  sys.exit(2)


def loading(what: str = "JAX", module: str = "jax") -> None:
  """The first sign of life: says on stderr why nothing happens while a module is imported."""
  if module not in sys.modules:
    print(f"loading {what} …", file=sys.stderr, flush=True)


@contextlib.contextmanager
def computing(module: str) -> Iterator[str]:
  """Around what needs JAX, when the flags are right; yields the command that repeats it."""
  logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a restore.
  loading()
  from dissim_jax.distributed import compilation

  with compilation.cache():
    yield shlex.join(["python", "-m", f"dissim_jax.{module}", *sys.argv[1:]])


def parse(argv: list[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
  """Parses absl flags, and the fields of the config; returns the arguments that are no flags."""
  try:
    argv = ["--help" if arg == "-h" else arg for arg in argv]
    argv = values.read_flags_from_files(argv, force_gnu=False)
    named = _plugins(argv)
    plugins.load(named)  # Before configs and flags: they may name what these add.
    settings, argv = _settings(argv) if CONFIG in values else ([], argv)
    with _help_is_no_error():
      rest = values(argv)
    for field, text in settings:
      _set_field(values, field, text)
    if named and CONFIG in values and values[CONFIG].value is not None:
      put(values[CONFIG].value, PLUGINS, tuple(named))
    return rest
  except flags.UnrecognizedFlagError as error:
    known = [name for name in values if len(name) > 1]
    fail(f"--{error.flagname}: there is no such flag{nearest(error.flagname, known)}")
  except flags.IllegalFlagValueError as error:
    message = " ".join(str(error).removeprefix("flag ").split())
    for said, meant in _ABSL_SAYS.items():
      message = re.sub(said, meant, message)
    fail(message)
  except flags.Error as error:
    message = " ".join(str(error).removeprefix("ERROR:: ").split())
    fail(re.sub(r"Missing value for flag (.*)", r"\1: the value is missing", message))
  except UserError as error:
    fail(str(error))
  return []


def _plugins(argv: list[str]) -> list[str]:
  """The modules that `--plugins` or `--config.plugins` name."""
  modules: list[str] = []
  for word, after in zip(argv, [*argv[1:], ""], strict=True):
    match = re.fullmatch(rf"--?(?:{CONFIG}\.)?{PLUGINS}(?:=(.*))?", word, re.DOTALL)
    if match:
      text = after if match[1] is None else match[1]
      try:
        modules += map(str, texts.several(text, True))
      except ValueError as error:
        raise UserError(f"{PLUGINS}={text!r}: {error}") from error
  return list(dict.fromkeys(modules))


@contextlib.contextmanager
def _help_is_no_error() -> Iterator[None]:
  """absl prints what `--help` asks for and then exits as after a mistake."""
  try:
    yield
    return
  except SystemExit:
    pass
  except BrokenPipeError:
    _nobody_reads()
  try:
    sys.stdout.flush()  # Here, and not when it is too late to notice.
  except BrokenPipeError:
    _nobody_reads()
  sys.exit(0)


def _nobody_reads() -> NoReturn:
  """The end of a command whose output went to a program that has ended, such as `head`."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  sys.exit(_PIPE_IS_CLOSED)


def _settings(argv: list[str]) -> tuple[list[tuple[str, str | None]], list[str]]:
  """(field, text) of every `--config.field=text` or `--config.field text`; and what is left."""
  settings, left, pending = [], argv[:1], argv[1:]
  while pending:
    word = pending.pop(0)
    match = _SETTING.fullmatch(word)
    if word == "--":
      return settings, [*left, word, *pending]
    if match is None:
      left.append(word)
      continue
    negated, field, text = match.groups()
    if negated:
      text = "False" if text is None else text
    elif text is None and pending and not _FLAG.match(pending[0]):
      text = pending.pop(0)
    settings.append((field, text))
  return settings, left


def _set_field(values: flags.FlagValues, field: str, text: str | None) -> None:
  """Sets a field of the config that `--config` named."""
  config = values[CONFIG].value
  if config is None:
    raise UserError(f"--{CONFIG} is missing: --{CONFIG}.{field} sets a field of its config")
  source.check_field(field)
  if text is None and blocks.fields()[field].kind is not bool:
    raise UserError(f"{field}: the value is missing")
  source.read(config, field, "True" if text is None else text)


class _Parser(flags.ArgumentParser):
  """A flag whose text is read by a function of `texts`, as the fields of a config are."""

  def __init__(self, read: Callable[[str], Any], kind: str, least: float | None = None):
    self._read, self._kind, self._least = read, kind, least

  def parse(self, argument: Any) -> Any:
    """The value; a default is one already."""
    value = self._read(argument) if isinstance(argument, str) else argument
    if self._least is not None and not value >= self._least:
      raise ValueError(f"must be {self._kind} of at least {self._least}")
    return value

  def flag_type(self) -> str:
    """As help texts call it."""
    return self._kind


def define_config(values: flags.FlagValues = flags.FLAGS, help_text: str = "") -> flags.FlagHolder:
  """Defines `--config=FILE`; its value is the config, with every `--config.field=…` set."""
  help_text = help_text or "File that builds the experiment, or the folder or config.json of a run."
  help_text += f" Its fields are set by --{CONFIG}.FIELD=VALUE. {texts.SEVERAL}"
  return _define(_Parser(source.load, "a file"), CONFIG, None, help_text, values)


def define_whole(
  name: str,
  default: int | None,
  help_text: str,
  values: flags.FlagValues = flags.FLAGS,
  least: int | None = None,
) -> flags.FlagHolder:
  """Defines a flag that is a whole number."""
  return _define(_Parser(texts.whole, "a whole number", least), name, default, help_text, values)


def define_number(
  name: str,
  default: float | None,
  help_text: str,
  values: flags.FlagValues = flags.FLAGS,
  least: float | None = None,
) -> flags.FlagHolder:
  """Defines a flag that is a number, or a fraction such as 8/255."""
  return _define(_Parser(texts.number, "a number", least), name, default, help_text, values)


def define_several(
  name: str,
  default: Sequence[Any],
  help_text: str,
  values: flags.FlagValues = flags.FLAGS,
  of_texts: bool = True,
) -> flags.FlagHolder:
  """Defines a flag that is a list of values, see `texts.SEVERAL`."""
  read = lambda text: list(texts.several(text, of_texts))  # noqa: E731
  parser = _Parser(read, "values such as a,b")
  return _define(parser, name, list(default), help_text, values, flags.ListSerializer(","))


def define_settings(
  settings: Mapping[str, Field], values: flags.FlagValues = flags.FLAGS
) -> list[flags.FlagHolder]:
  """Defines a flag for each of the fields; None where it is not given, for its default."""
  parsers = {
    int: _Parser(texts.whole, "a whole number"),
    float: _Parser(texts.number, "a number"),
  }
  holders = []
  for name, field in settings.items():
    help_text = f"{field.doc[0].upper()}{field.doc[1:]}. Default: {texts.shown(field.default)}."
    if field.kind is bool:
      holders.append(flags.DEFINE_bool(name, None, help_text, flag_values=values))
    else:
      holders.append(_define(parsers[field.kind], name, None, help_text, values))
  return holders


def _define(parser, name, default, help_text, values, serializer=None) -> flags.FlagHolder:
  serializer = serializer or flags.ArgumentSerializer()
  return flags.DEFINE(parser, name, default, help_text, values, serializer)


def define_plugins(values: flags.FlagValues = flags.FLAGS) -> flags.FlagHolder:
  """Defines `--plugins`, before flags whose help names what is registered."""
  if values is flags.FLAGS:
    try:
      plugins.load(_plugins(sys.argv))
    except UserError as error:
      fail(str(error))
  return define_several(
    PLUGINS,
    [],
    "Modules of your own, imported first, that add measures, metrics, corruptions, "
    "architectures, attacks or data sets: see dissim_jax.plugins.",
    values,
  )


def define_processes(values: flags.FlagValues = flags.FLAGS) -> dict[str, flags.FlagHolder]:
  """Defines the flags that make a process one of several; by name."""
  where = {"flag_values": values}
  holders = (
    flags.DEFINE_string(
      "coordinator",
      None,
      "HOST:PORT of the first of several processes. srun needs none of these flags.",
      **where,
    ),
    define_whole("num_processes", None, "How many processes train together.", values, 1),
    define_whole("process_id", None, "Which of them this is, from 0.", values, 0),
  )
  return {holder.name: holder for holder in holders}


def guarded(main: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
  """`main`, with what the user can mend as a sentence and an exit code instead of a traceback.

  2 for bad input and a full disk, 75 where the same command can go on later, 130 after Ctrl-C.
  """

  @functools.wraps(main)
  def wrapped(argv):
    if isinstance(sys.stdout, io.TextIOWrapper):
      sys.stdout.reconfigure(errors="surrogateescape")  # paths need not be UTF-8
    try:
      main(argv)
      sys.stdout.flush()
      interrupts.done()
    except BrokenPipeError:
      _nobody_reads()
    except BusyError as error:
      print(f"error: {error}", file=sys.stderr)
      sys.exit(TRY_AGAIN)
    except UserError as error:
      fail(str(error))
    except OSError as error:
      if error.errno not in _DISK:
        raise
      fail(f"{error.filename or 'a file'} cannot be written: {error.strerror}")
    except Stopped as error:
      print(f"{error}; the same command goes on from here", file=sys.stderr)
      sys.exit(interrupts.code() if interrupts.asked() else TRY_AGAIN)
    except KeyboardInterrupt:
      print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
      sys.exit(130)

  return wrapped


def no_arguments(argv: list[str]) -> None:
  """Everything is a flag."""
  if len(argv) > 1:
    raise UserError(f"unexpected argument {argv[1]!r}: give values as --name=value")


def require(*holders: flags.FlagHolder) -> None:
  """These flags must be given."""
  for holder in holders:
    if not holder.value:
      raise UserError(f"--{holder.name} is missing")
