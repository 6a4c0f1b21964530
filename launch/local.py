"""Runs a sweep on this machine: `python -m launch.local --sweep=configs/sweeps/digits_table1.py`.

A pool of processes; devices are shared out among them. A run that fails does not stop those that do
not need it. Started again, by the same command, it does only what is left.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import rich.console
from absl import app, flags

from dissim_jax import command_line
from dissim_jax.errors import UserError
from launch import progress
from launch.table import LiveTable
from launch.tasks import Task, is_done, save_plan

_POLL = 0.2  # seconds between two looks at the processes
_RETRY = 5.0  # seconds before a run whose folder is in use is tried again
_PATIENCE = 120.0  # seconds that stopped processes have to write a checkpoint


def find_devices(setting: str) -> list[str]:
  """The GPUs to share out, as `CUDA_VISIBLE_DEVICES` names them; none on a machine without."""
  given = setting or os.environ.get("CUDA_VISIBLE_DEVICES", "")
  if given:
    return [name.strip() for name in given.split(",") if name.strip()]
  if not shutil.which("nvidia-smi"):
    return []
  command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
  found = subprocess.run(command, capture_output=True, text=True, check=False)
  return found.stdout.split() if found.returncode == 0 else []


def slots(devices: Sequence[str], parallel: int) -> list[dict[str, str]]:
  """What each of `parallel` processes gets in its environment.

  More devices than processes: each gets several. Fewer: they share, and each takes its part of the
  memory, which JAX would otherwise reserve for the first.
  """
  if not devices:
    return [{} for _ in range(parallel)]
  if len(devices) >= parallel:
    share = len(devices) // parallel
    parts = [devices[i * share : (i + 1) * share] for i in range(parallel)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(part)} for part in parts]
  crowd = -(-parallel // len(devices))
  memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / crowd:.3f}"}
  if "XLA_PYTHON_CLIENT_MEM_FRACTION" in os.environ:
    memory = {}
  return [
    {"CUDA_VISIBLE_DEVICES": devices[i % len(devices)], **memory} for i in range(parallel)
  ]


class Pool:
  """Processes of tasks, at most one a slot."""

  def __init__(self, root: Path, environments: Sequence[Mapping[str, str]]):
    self._root = root
    self._free = list(environments)
    self._running: dict[str, tuple[Task, subprocess.Popen, Mapping[str, str]]] = {}
    self._not_before: dict[str, float] = {}

  @property
  def names(self) -> list[str]:
    """Tasks that have a process."""
    return list(self._running)

  def start(self, task: Task) -> bool:
    """Starts a task if there is a free slot and it is not to wait."""
    if not self._free or time.monotonic() < self._not_before.get(task.name, 0):
      return False
    progress.launch_folder(task, self._root).mkdir(parents=True, exist_ok=True)
    progress.exit_file(task, self._root).unlink(missing_ok=True)
    own = self._free.pop(0)
    with progress.log_file(task, self._root).open("ab") as log:
      # A session of its own: Ctrl-C reaches the launcher alone, which tells the others to stop.
      process = subprocess.Popen(
        [sys.executable, *task.argv], stdin=subprocess.DEVNULL, stdout=log,
        stderr=subprocess.STDOUT, env={**os.environ, **own}, start_new_session=True,
      )  # fmt: skip
    self._running[task.name] = (task, process, own)
    return True

  def collect(self) -> None:
    """Notes the processes that have ended."""
    for name, (task, process, own) in list(self._running.items()):
      code = process.poll()
      if code is not None:
        del self._running[name]
        self._free.append(own)
        if code == 0 and not is_done(task, self._root):
          code = 1
        if code == progress.TRY_AGAIN:
          self._not_before[name] = time.monotonic() + _RETRY
        progress.exit_file(task, self._root).write_text(f"{code}\n")

  def stop(self) -> None:
    """Tells all processes to write a checkpoint and end, and waits for them."""
    for _, process, _ in self._running.values():
      process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    for _, process, _ in self._running.values():
      try:
        process.wait(max(0.0, deadline - time.monotonic()))
      except subprocess.TimeoutExpired:
        process.kill()
    self.collect()


def run(tasks: Sequence[Task], root: Path, environments: Sequence[Mapping[str, str]],
        table: LiveTable) -> dict[str, str]:  # fmt: skip
  """Does every task whose parents are done, until none is left; the last states."""
  for task in tasks:  # What failed before is tried again.
    progress.exit_file(task, root).unlink(missing_ok=True)
  pool = Pool(root, environments)
  try:
    while True:
      pool.collect()
      running = dict.fromkeys(pool.names, progress.RUNNING)
      found = progress.states(tasks, root, running)
      for task in tasks:
        if found[task.name] == progress.READY and pool.start(task):
          found[task.name] = progress.RUNNING
      table.show(found)
      if not {progress.RUNNING, progress.READY} & set(found.values()):
        return found
      time.sleep(_POLL)
  finally:
    pool.stop()


def _terminate(number: int, frame: object) -> None:
  raise KeyboardInterrupt


def main(argv: list[str], holders: dict[str, flags.FlagHolder]) -> None:
  """Runs the sweep that the flags describe."""
  from launch import options  # Imports JAX, which is slow: not before the flags are right.

  command_line.no_arguments(argv)
  asked, console = options.request(holders), rich.console.Console()
  if holders["dry_run"].value:
    options.dry_run(asked, holders, console)
    return
  save_plan(asked.name, asked.tasks, asked.root)
  devices = find_devices(holders["devices"].value)
  parallel = holders["parallel"].value or max(1, len(devices))
  signal.signal(signal.SIGTERM, _terminate)
  with tempfile.TemporaryDirectory(prefix="dissim_jax_xla_") as programs:
    # Programs for this CPU are compiled once for all processes; of GPUs, JAX's own folder is kept.
    shared = {} if devices else {"JAX_COMPILATION_CACHE_DIR": programs}
    shared = {key: value for key, value in shared.items() if key not in os.environ}
    environments = [{**shared, **own} for own in slots(devices, parallel)]
    try:
      with LiveTable(asked.tasks, asked.root, console) as shown:
        found = run(asked.tasks, asked.root, environments, shown)
    except OSError as error:
      raise UserError(
        f"--root={str(asked.root)!r}: {error.filename or ''}: {error.strerror or error}; "
        "the same command goes on when this is mended"
      ) from error
  failed = [name for name, state in found.items() if state == progress.FAILED]
  if failed:
    logs = asked.root / "launch" / failed[0] / "output.log"
    print(f"{len(failed)} failed: see {logs}", file=sys.stderr)
    sys.exit(1)
  print(f"tables: python -m dissim_jax.collect --root={asked.root}")


if __name__ == "__main__":
  from launch.flags import define

  _HOLDERS = define()
  _HOLDERS["parallel"] = flags.DEFINE_integer(
    "parallel", None, "Processes at a time. Default: one a GPU, or one.", lower_bound=1
  )
  _HOLDERS["devices"] = flags.DEFINE_string(
    "devices", "", "GPUs to use, such as 0,1. Default: CUDA_VISIBLE_DEVICES, or all."
  )
  app.run(
    command_line.guarded(lambda argv: main(argv, _HOLDERS)), flags_parser=command_line.parse
  )
