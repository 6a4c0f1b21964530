"""How far the tasks of a sweep are, from the files they write alone.

Beside the results of a task n, `<root>/launch/n/` holds what its process printed (`output.log`) and
how it ended (`exit_code`); whichever engine started it.
"""

import dataclasses
import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.tasks import Task, folder, is_done

WAITING, READY, RUNNING, DONE, FAILED, BLOCKED = (
  "waiting", "ready", "running", "done", "failed", "blocked",
)  # fmt: skip
TRY_AGAIN = 75  # EX_TEMPFAIL: stopped early, or its folder is in use; to be started again
_TAIL = 4096  # bytes at the end of a file that are read


@dataclasses.dataclass(frozen=True)
class Progress:
  """How far a run's trainings are.

  Attributes:
    training: folder of the training in progress, or of the last one; "" before the first epoch.
    epoch: its last finished epoch.
    done: epochs of all trainings that are finished.
    total: epochs of all trainings.
    seconds_left: estimated from the epochs so far, None before the first one.
  """

  training: str
  epoch: int
  done: int
  total: int
  seconds_left: float | None


def launch_folder(task: Task, root: Path) -> Path:
  """Where what the launcher writes about a task goes."""
  return root / "launch" / task.name


def log_file(task: Task, root: Path) -> Path:
  """What the task's process printed."""
  return launch_folder(task, root) / "output.log"


def exit_file(task: Task, root: Path) -> Path:
  """Holds the exit code of the task's last process; absent while it has none."""
  return launch_folder(task, root) / "exit_code"


def exit_code(task: Task, root: Path) -> int | None:
  """How the task's last process ended; None if it has not, or was killed with its engine."""
  try:
    return int(exit_file(task, root).read_text())
  except (OSError, ValueError):
    return None


def states(tasks: Sequence[Task], root: Path, running: Mapping[str, str]) -> dict[str, str]:
  """The state of every task, in order.

  Args:
    tasks: parents first.
    root: folder of the sweep.
    running: tasks that the engine has started, and what to call their state.
  """
  found: dict[str, str] = {}
  for task in tasks:
    parents = [found[name] for name in task.needs]
    if is_done(task, root):
      found[task.name] = DONE
    elif task.name in running:
      found[task.name] = running[task.name]
    elif exit_code(task, root) not in (None, 0, TRY_AGAIN):
      found[task.name] = FAILED
    elif FAILED in parents or BLOCKED in parents:
      found[task.name] = BLOCKED
    else:
      found[task.name] = WAITING if any(state != DONE for state in parents) else READY
  return found


def progress(task: Task, root: Path) -> Progress:
  """How far the trainings of a run are, from their `metrics.jsonl`."""
  done, seconds, current = 0, 0.0, ("", 0)
  for name in task.trainings:
    row = _last_row(folder(task, root) / name / "metrics.jsonl")
    if row:
      done, seconds = done + row["epoch"], seconds + row["seconds"]
      current = (name, row["epoch"])
  total = task.epochs * len(task.trainings)
  left = seconds / done * (total - done) if done else None
  return Progress(*current, done, total, left)


def _last_row(path: Path) -> dict | None:
  """The last whole line of a training's log."""
  for line in reversed(_tail(path).splitlines(keepends=True)):
    try:
      row = json.loads(line) if line.endswith("\n") else None
      if row:
        return {"epoch": int(row["epoch"]), "seconds": float(row["seconds"])}
    except (ValueError, KeyError, TypeError):
      continue
  return None


def last_line(task: Task, root: Path) -> str:
  """The last thing a task's process printed: of a failed one, mostly why."""
  lines = [line.strip() for line in _tail(log_file(task, root)).splitlines() if line.strip()]
  return lines[-1] if lines else ""


def _tail(path: Path) -> str:
  """The end of a text file; empty if there is none."""
  try:
    with path.open("rb") as file:
      file.seek(0, os.SEEK_END)
      file.seek(max(0, file.tell() - _TAIL))
      return file.read().decode("utf-8", "replace")
  except OSError as error:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
      return ""
    raise
