"""A pool of processes on this machine that does the tasks of a sweep."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dissim_jax.launch import progress
from dissim_jax.launch.table import LiveTable
from dissim_jax.launch.tasks import Task, is_done

VISIBLE = "CUDA_VISIBLE_DEVICES"
_POLL = 0.2  # seconds between two looks at the processes
_RETRY = 5.0  # seconds before a run whose folder is in use is tried again
_PATIENCE = 120.0  # seconds that stopped processes have to write a checkpoint


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

  def waits(self, task: Task) -> bool:
    """Whether the folder of a task is in use, or was a moment ago."""
    soon = time.monotonic() < self._not_before.get(task.name, 0)
    return soon or progress.in_use(task, self._root)

  def free(self, elsewhere: Sequence[Task]) -> list[Mapping[str, str]]:
    """Slots that can be used while some tasks are worked on by processes of an earlier launcher."""
    free = list(self._free)
    for task in elsewhere[: len(free)]:
      try:
        devices = self._devices_file(task).read_text()
      except OSError:
        devices = ""
      same = [slot for slot in free if slot.get(VISIBLE, "") == devices]
      free.remove(same[0] if same else free[-1])
    return free

  def _devices_file(self, task: Task) -> Path:
    return progress.launch_folder(task, self._root) / "devices"

  def start(self, task: Task, slot: Mapping[str, str]) -> None:
    """Starts a task in a free slot."""
    progress.launch_folder(task, self._root).mkdir(parents=True, exist_ok=True)
    progress.exit_file(task, self._root).unlink(missing_ok=True)
    self._devices_file(task).write_text(slot.get(VISIBLE, ""))
    with progress.log_file(task, self._root).open("ab") as log:
      # A session of its own: Ctrl-C reaches the launcher alone, which tells the others to stop.
      process = subprocess.Popen(
        [sys.executable, *task.argv],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **slot},
        start_new_session=True,
      )
    self._free.remove(slot)
    self._running[task.name] = (task, process, slot)

  def collect(self, stopped: bool = False) -> None:
    """Notes the processes that have ended; those `stopped` before they could listen go on later."""
    for name, (task, process, slot) in list(self._running.items()):
      code = process.poll()
      if code is None:
        continue
      del self._running[name]
      self._free.append(slot)
      # Before it could listen, or when there was nothing to go on from.
      if stopped and code in (-signal.SIGTERM, 128 + signal.SIGTERM):
        code = progress.TRY_AGAIN
      if code == progress.TRY_AGAIN:
        self._not_before[name] = time.monotonic() + _RETRY
      if code == 0 and not is_done(task, self._root):
        code = 1
        with progress.log_file(task, self._root).open("a") as log:
          log.write("error: the process ended without its results\n")
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
        process.wait()
    with contextlib.suppress(OSError):  # Whatever stopped the launcher is what is told.
      self.collect(stopped=True)


def run(
  tasks: Sequence[Task],
  root: Path,
  environments: Sequence[Mapping[str, str]],
  table: LiveTable,
  stop: threading.Event,
) -> dict[str, str]:
  """Does every task whose parents are done, until none is left; the last states.

  Raises:
    KeyboardInterrupt: `stop` was set; the processes have ended.
    OSError: the root cannot be written; the processes have ended.
  """
  for task in tasks:  # What failed before is tried again.
    progress.exit_file(task, root).unlink(missing_ok=True)
  pool = Pool(root, environments)
  try:
    while True:
      pool.collect()
      states = progress.states(tasks, root, dict.fromkeys(pool.names, progress.RUNNING))
      ready = [task for task in tasks if states[task.name] == progress.READY]
      elsewhere = [task for task in ready if pool.waits(task)]
      states |= dict.fromkeys((task.name for task in elsewhere), progress.ELSEWHERE)
      ready = [task for task in ready if task not in elsewhere]
      for task, slot in zip(ready, pool.free(elsewhere), strict=False):
        pool.start(task, slot)
        states[task.name] = progress.RUNNING
      table.show(states)
      if not {progress.RUNNING, progress.READY, progress.ELSEWHERE} & set(states.values()):
        return states
      if stop.wait(_POLL):
        raise KeyboardInterrupt
  finally:
    pool.stop()
