"""Runs a sweep on this machine: `python -m dissim_jax.launch.local --sweep=digits_table1`.

A pool of processes; devices are shared out among them. A run that fails does not stop those that do
not need it. Started again, by the same command, it does only what is left.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import rich.console
from absl import app, flags

from dissim_jax import command_line
from dissim_jax.errors import UserError
from dissim_jax.files.atomic import exclusive
from dissim_jax.launch import flags as common
from dissim_jax.launch import progress
from dissim_jax.launch.pool import VISIBLE, run
from dissim_jax.launch.table import LiveTable
from dissim_jax.launch.tasks import Task, save_plan


def find_devices(setting: str) -> list[str]:
  """The GPUs to share out, as `CUDA_VISIBLE_DEVICES` names them; none on a machine without.

  Args:
    setting: names with commas between them; "" takes those of `CUDA_VISIBLE_DEVICES`, or all.
  """
  if setting or VISIBLE in os.environ:
    names = [name.strip() for name in (setting or os.environ[VISIBLE]).split(",")]
    return [name for name in names if name not in ("", "-1")]  # -1 and nothing hide all.
  if os.environ.get("JAX_PLATFORMS", "").startswith("cpu") or not shutil.which("nvidia-smi"):
    return []
  command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
  process = subprocess.run(command, capture_output=True, text=True, check=False)
  return process.stdout.split() if process.returncode == 0 else []


def slots(devices: Sequence[str], parallel: int) -> list[dict[str, str]]:
  """What each of `parallel` processes gets in its environment.

  More devices than processes: each gets several, all equally many. Fewer: they share, and each
  takes its part of the memory, which JAX would otherwise reserve for the first.
  """
  if not devices:
    return [{} for _ in range(parallel)]
  if len(devices) >= parallel:
    share = len(devices) // parallel
    parts = [devices[i * share : (i + 1) * share] for i in range(parallel)]
    return [{VISIBLE: ",".join(part)} for part in parts]
  crowd = -(-parallel // len(devices))
  memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / crowd:.3f}"}
  if "XLA_PYTHON_CLIENT_MEM_FRACTION" in os.environ:
    memory = {}
  return [{VISIBLE: devices[i % len(devices)], **memory} for i in range(parallel)]


@contextlib.contextmanager
def told_to_stop() -> Iterator[threading.Event]:
  """Set by Ctrl-C, SIGTERM or the end of the terminal; a second time, nothing is waited for."""
  event = threading.Event()

  def on_signal(number: int, frame: object) -> None:
    if event.is_set():
      raise KeyboardInterrupt
    event.set()

  # One that is ignored, such as by nohup, stays so.
  signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
  signals = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
  before = {number: signal.signal(number, on_signal) for number in signals}
  try:
    yield event
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
  """Keeps other launchers out of a root, until this one ends in whatever way.

  Raises:
    UserError: another one works there.
  """
  with contextlib.ExitStack() as stack:
    try:
      stack.enter_context(exclusive(root / "sweep.lock"))
    except BlockingIOError as error:
      raise UserError(f"--root={str(root)!r}: another launcher works there") from error
    yield


def define_flags(values: flags.FlagValues = flags.FLAGS) -> dict[str, flags.FlagHolder]:
  """Defines the flags of this engine; by name."""
  where = {"flag_values": values}
  parallel = command_line.define_whole(
    "parallel", None, "Processes at a time. Default: one a GPU, or one.", values, 1
  )
  devices = flags.DEFINE_string(
    "devices", "", "GPUs to use, such as 0,1. Default: CUDA_VISIBLE_DEVICES, or all.", **where
  )
  return {**common.define(values), "parallel": parallel, "devices": devices}


def main(argv: list[str], holders: dict[str, flags.FlagHolder]) -> None:
  """Runs the sweep that the flags describe."""
  from dissim_jax.launch import (
    options,  # Imports JAX, which is slow: not before the flags are right.
  )

  command_line.no_arguments(argv)
  asked, console = options.request(holders), rich.console.Console()
  if holders["dry_run"].value:
    options.dry_run(asked, holders, console)
    return
  save_plan(asked.name, asked.tasks, asked.root)
  try:
    states = _run(asked.tasks, asked.root, holders, console)
  except OSError as error:
    where = error.filename or f"--root={str(asked.root)!r}"
    raise UserError(
      f"{where}: {error.strerror or error}; the same command goes on when this is mended"
    ) from error
  failed = [task for task in asked.tasks if states[task.name] == progress.FAILED]
  if failed:
    log = shlex.quote(str(progress.log_file(failed[0], asked.root)))
    left = len(asked.tasks) - sum(state == progress.DONE for state in states.values())
    print(
      f"{len(failed)} failed, see {log}; the same command tries the {left} that are left again",
      file=sys.stderr,
    )
    sys.exit(1)
  print(f"tables: python -m dissim_jax.collect --root={shlex.quote(str(asked.root))}")


def _run(
  tasks: Sequence[Task],
  root: Path,
  holders: dict[str, flags.FlagHolder],
  console: rich.console.Console,
) -> dict[str, str]:
  """The last states of the tasks."""
  devices = find_devices(holders["devices"].value)
  parallel = holders["parallel"].value or max(1, len(devices))
  with contextlib.ExitStack() as stack:
    stack.enter_context(alone(root))
    shared = {}
    if not devices and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
      # Programs for this CPU are compiled once for all processes; of GPUs, they are kept anyway.
      folder = tempfile.TemporaryDirectory(prefix="dissim_jax_xla_", ignore_cleanup_errors=True)
      shared = {"JAX_COMPILATION_CACHE_DIR": stack.enter_context(folder)}
    stop = stack.enter_context(told_to_stop())
    shown = stack.enter_context(LiveTable(tasks, root, console))
    return run(tasks, root, [{**shared, **slot} for slot in slots(devices, parallel)], shown, stop)


if __name__ == "__main__":
  _HOLDERS = define_flags()
  app.run(command_line.guarded(lambda argv: main(argv, _HOLDERS)), flags_parser=command_line.parse)
