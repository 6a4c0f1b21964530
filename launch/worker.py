"""Runs one process of a sweep, for engines that know processes only.

  python -m dissim_jax.launch.worker --log=FILE --exit_code=FILE -- ARGUMENTS

starts Python with ARGUMENTS, appends what it prints to the log, and writes down how it ended. A
process that ends with 75 (EX_TEMPFAIL) is started again. When this one gets SIGTERM or its parent
ends, the process is told by SIGTERM and has time to write a checkpoint.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

# Nothing else is imported: this process is there as long as the training, and for each of them.

_POLL = 0.1  # seconds between two looks at the process
_RETRY = 5.0  # seconds before a run whose folder is in use is tried again
_PATIENCE = 120.0  # seconds that a stopped process has to write a checkpoint


class Stop(threading.Event):
  """Set by SIGTERM; also when the parent has ended: it may be a shell that hands on no signal."""

  def __init__(self):
    super().__init__()
    self._parent = os.getppid()
    signal.signal(signal.SIGTERM, lambda number, frame: self.set())

  def wait(self, timeout: float) -> bool:
    """Whether to stop, after at most `timeout` seconds."""
    if os.getppid() != self._parent:
      self.set()
    return super().wait(timeout)


def run(arguments: Sequence[str], log: Path, stop: threading.Event) -> int:
  """Runs Python with the arguments until it ends with anything but 75, or `stop` is set.

  Returns:
    The exit code of the last process; minus the signal's number if one killed it.
  """
  while True:
    with log.open("ab") as file:
      process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=subprocess.STDOUT,
      )
    code = _wait(process, stop)
    # Told to stop before it could listen, or when there was nothing to go on from.
    if code in (-signal.SIGTERM, 128 + signal.SIGTERM) and stop.wait(0):
      code = os.EX_TEMPFAIL
    if code != os.EX_TEMPFAIL or stop.wait(_RETRY):
      return code


def _wait(process: subprocess.Popen, stop: threading.Event) -> int:
  """How the process ended; told to stop, it has some time."""
  while process.poll() is None:
    if stop.wait(_POLL):
      process.terminate()
      try:
        return process.wait(_PATIENCE)
      except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
  return process.returncode


def main(argv: Sequence[str] | None = None) -> int:
  """Runs what the command line says; its exit code, as a shell counts (128 + signal)."""
  parser = argparse.ArgumentParser(prog="launch.worker", allow_abbrev=False)
  parser.add_argument("--log", type=Path, required=True)
  parser.add_argument("--exit_code", type=Path, required=True)
  parser.add_argument("arguments", nargs="+")
  given = parser.parse_args(argv)
  try:
    given.log.parent.mkdir(parents=True, exist_ok=True)
    given.exit_code.unlink(missing_ok=True)
    code = run(given.arguments, given.log, Stop())
    given.exit_code.write_text(f"{code}\n")
  except OSError as error:
    print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
    return os.EX_IOERR
  return code if code >= 0 else 128 - code


if __name__ == "__main__":
  sys.exit(main())
