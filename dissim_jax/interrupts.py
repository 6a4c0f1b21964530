"""Ctrl-C (SIGINT) and being told to stop (SIGTERM), from the first moment of a command on.

A handler that raises is not enough: an exception in a callback of the garbage collector is printed
and forgotten, and the run goes on. So a command ends at once, in the handler, as every file is
written whole or not at all; where there is something to save, the signal waits until it is asked
for.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence

# Commands that go on where they were when they are started again.
_RESUMABLE = ("main", "transfer")
_SAID = {signal.SIGINT: "stopped", signal.SIGTERM: "told to stop"}

_installed = False
_resumable = False
_holders = 0
_asked: int | None = None


def is_command(arguments: Sequence[str]) -> bool:
  """Whether Python was started as `python -m dissim_jax.<command>`."""
  module = arguments[arguments.index("-m") + 1 :][:1] if "-m" in arguments else []
  return bool(module) and module[0].startswith("dissim_jax.")


def install(command: str) -> None:
  """Takes both signals, unless they are to be ignored, as of a command in the background.

  Launchers take them by themselves: they have processes or jobs to see to.
  """
  global _installed, _resumable
  if command.startswith("launch."):
    return
  _installed, _resumable = True, command in _RESUMABLE
  for number in _SAID:
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, _on_signal)


def _on_signal(number: int, frame: object) -> None:
  global _asked
  again, _asked = _asked is not None, _asked or number
  # Schedulers send SIGTERM again while a state is saved; a user who presses Ctrl-C again means it.
  if _holders and not (again and number == signal.SIGINT):
    return
  text = _SAID[number] + ("; the same command goes on from here" if _resumable else "")
  with contextlib.suppress(OSError):
    os.write(2, f"{text}\n".encode())
  os._exit(code())


def installed() -> bool:
  """Whether this process is a command that has taken the signals."""
  return _installed


def asked() -> bool:
  """Whether a signal waits."""
  return _asked is not None


def code() -> int:
  """The exit code of a command that ends because of a signal."""
  if _asked == signal.SIGINT:
    return 128 + signal.SIGINT
  return os.EX_TEMPFAIL if _resumable else 128 + signal.SIGTERM


def done() -> None:
  """Nothing is left to stop: while Python ends, which forgets its handlers, signals are ignored."""
  if _installed:
    for number in _SAID:
      signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def held() -> Iterator[None]:
  """Within, a signal waits for somebody to look at `asked`."""
  global _holders
  _holders += 1
  try:
    yield
  finally:
    _holders -= 1


def from_command_line() -> None:
  """Takes the signals where Python is about to run a command of this package."""
  # While Python looks for the module, its first argument is -m.
  if sys.argv[:1] == ["-m"] and is_command(sys.orig_argv):
    name = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    install(name.removeprefix("dissim_jax."))
