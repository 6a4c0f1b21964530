"""Flags and errors of the command-line programs.

What the user can mend is told in one sentence on stderr, with exit code 2.
"""

import errno
import functools
import re
import runpy
import sys
from collections.abc import Callable, Iterator

from absl import flags

from dissim_jax.errors import TRY_AGAIN, BusyError, Stopped, UserError
from dissim_jax.names import nearest

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # what the user can mend


def fail(message: str) -> None:
  """One sentence on stderr, then exit code 2."""
  print(f"error: {message}", file=sys.stderr)
  sys.exit(2)


def parse(argv: list[str]) -> list[str]:
  """Parses absl flags; returns the arguments that are no flags."""
  try:
    rest = flags.FLAGS(argv)
    if "config" in flags.FLAGS and flags.FLAGS.config is not None:
      flags.FLAGS.config.keys()  # A file that could not be read complains only when used.
    return rest
  except flags.UnrecognizedFlagError as error:
    known = [name for name in flags.FLAGS if len(name) > 1]
    name = error.flagname
    if name.startswith("config."):
      fail(f"--{name}: give --config=FILE before it")
    fail(f"--{name}: there is no such flag{nearest(name, known)}")
  except (AttributeError, KeyError) as error:
    # ml_collections says only the last part of a field that the config does not have.
    fail(_unknown_field(argv) or str(error))
  except flags.IllegalFlagValueError as error:
    told = " ".join(str(error).removeprefix("flag --config.").removeprefix("flag ").split())
    told = re.sub(r"could not convert string to float: .*", "must be a number", told)
    fail(re.sub(r"invalid literal for int\(\) .*", "must be a whole number", told))
  except Exception as error:  # The config file is the user's Python: anything can be wrong in it.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    fail(f"the config cannot be loaded: {lines[-1] if lines else type(error).__name__}")
  return []


def _unknown_field(argv: list[str]) -> str:
  """Names the first `--config.field` that the config of `--config=FILE` does not have."""
  try:
    files = [arg.split("=", 1)[1] for arg in argv if arg.startswith("--config=")]
    fields = list(_fields(runpy.run_path(files[-1].split(":")[0])["get_config"]()))
  except Exception:  # Whatever is wrong with the file, the caller has an error to tell.
    return ""
  for arg in argv:
    name = arg.split("=", 1)[0].removeprefix("--config.")
    if arg.startswith("--config.") and name not in fields:
      return f"{name}: the config has no such field{nearest(name, fields)}"
  return ""


def _fields(config, prefix: str = "") -> Iterator[str]:
  """Dotted names of all fields."""
  for name, value in config.items():
    yield prefix + name
    if hasattr(value, "items"):
      yield from _fields(value, f"{prefix}{name}.")


def define_processes(values: flags.FlagValues = flags.FLAGS) -> dict[str, flags.FlagHolder]:
  """Defines the flags that make a process one of several; by name."""
  where = {"flag_values": values}
  holders = (
    flags.DEFINE_string(
      "coordinator", None, "HOST:PORT of the first of several processes. srun needs none of these "
      "flags.", **where,
    ),
    flags.DEFINE_integer(
      "num_processes", None, "How many processes train together.", lower_bound=1, **where
    ),
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0,
                         **where),
  )  # fmt: skip
  return {holder.name: holder for holder in holders}


def guarded(main: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
  """`main`, with what the user can mend as a sentence and an exit code instead of a traceback.

  2 for bad input and a full disk, 75 where the same command can go on later, 130 after Ctrl-C.
  """

  @functools.wraps(main)
  def wrapped(argv):
    try:
      main(argv)
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
      sys.exit(TRY_AGAIN)
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
