"""How far the tasks of a sweep are, from the files they write alone.

Beside the results of a task n, `<root>/launch/n/` holds what its process printed (`output.log`) and
how it ended (`exit_code`); whichever engine started it.
"""

import contextlib
import dataclasses
import errno
import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from dissim_jax.errors import TRY_AGAIN as TRY_AGAIN
from dissim_jax.files import layout
from dissim_jax.files.atomic import is_held
from dissim_jax.launch.tasks import Task, folder, is_done

WAITING, READY, RUNNING, DONE, FAILED, BLOCKED = (
  "waiting",
  "ready",
  "running",
  "done",
  "failed",
  "blocked",
)
ELSEWHERE = "elsewhere"  # a process that this engine did not start works in the task's folder
_TAIL = 4096  # bytes at the end of a file that are read


@dataclasses.dataclass(frozen=True)
class Progress:
  """How far a run's trainings are.

  Attributes:
    training: folder of the training in progress, or of the last one; "" before the first epoch.
    epoch: its last finished epoch.
    done: epochs of all models that are finished.
    total: epochs of all models.
    seconds_left: estimated from the last epochs, None before the first one.
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


def failure(task: Task, root: Path) -> str:
  """Why a task failed: the signal that ended its process, or the last thing it printed."""
  code = exit_code(task, root)
  if code is not None and (code < 0 or code > 128):  # A shell adds 128.
    with contextlib.suppress(ValueError):
      return f"killed by {signal.Signals(-code if code < 0 else code - 128).name}"
  return last_line(task, root) or f"exit code {code}"


def in_use(task: Task, root: Path) -> bool:
  """Whether some process works in the task's folder, such as one whose launcher was killed."""
  return is_held(folder(task, root) / layout.LOCK)


def states(tasks: Sequence[Task], root: Path, running: Mapping[str, str]) -> dict[str, str]:
  """The state of every task, in order.

  Args:
    tasks: parents first.
    root: folder of the sweep.
    running: tasks that the engine has started, and what to call their state.
  """
  task_states: dict[str, str] = {}
  for task in tasks:
    parents = [task_states[name] for name in task.needs]
    if is_done(task, root):
      task_states[task.name] = DONE
    elif task.name in running:
      task_states[task.name] = running[task.name]
    elif exit_code(task, root) not in (None, 0, TRY_AGAIN):
      task_states[task.name] = FAILED
    elif FAILED in parents or BLOCKED in parents:
      task_states[task.name] = BLOCKED
    else:
      task_states[task.name] = WAITING if any(state != DONE for state in parents) else READY
  return task_states


def progress(task: Task, root: Path) -> Progress:
  """How far the trainings of a run are, from their `metrics.jsonl`.

  The time left is that of the training in progress at its present speed, and of those after it as
  if a model of theirs took as long.
  """
  done, rate, current = 0, None, ("", 0)
  for name, models in task.trainings.items():
    rows = _rows(folder(task, root) / name / layout.LOG)
    if rows:
      # The first epoch compiles: it says little where there are more.
      (epoch, seconds), (past, before) = rows[-1], rows[0] if len(rows) > 1 else (0, 0.0)
      rate = (seconds - before) / max(1, epoch - past) / models
      done, current = done + models * epoch, (name, epoch)
  total = task.epochs * task.models
  left = None if rate is None else max(0.0, rate * (total - done))
  return Progress(*current, done, total, left)


def _rows(path: Path) -> list[tuple[int, float]]:
  """(epoch, seconds so far) in the last whole lines of a training's log."""
  rows = []
  for line in _tail(path).splitlines(keepends=True):
    try:
      row = json.loads(line) if line.endswith("\n") else {}
      rows.append((int(row["epoch"]), float(row["seconds"])))
    except (ValueError, KeyError, TypeError):
      continue
  return rows


def last_line(task: Task, root: Path) -> str:
  """The last thing a task's process printed: of a failed one, mostly why."""
  lines = [line.strip() for line in _tail(log_file(task, root)).splitlines() if line.strip()]
  # What moves the cursor or colours the text has no place in a table.
  return "".join(c if c.isprintable() else " " for c in lines[-1]) if lines else ""


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
