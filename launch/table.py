"""The table of runs that every engine shows, and the plan of a dry run."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import rich.box
import rich.cells
import rich.console
import rich.live
import rich.table
import rich.text

from dissim_jax.launch import progress
from dissim_jax.launch.tasks import Task, is_done

_STYLES = {
  progress.DONE: "green",
  progress.RUNNING: "bold",
  progress.FAILED: "bold red",
  progress.BLOCKED: "red",
  progress.ELSEWHERE: "bold",
  progress.WAITING: "dim",
  progress.READY: "dim",
}
_PERIOD = 0.5  # seconds between two looks at the files
_NAME = 28  # least cells of a terminal for the name of a run
_FRAME = 6  # lines of a terminal that a table needs besides its rows


def duration(seconds: float) -> str:
  """Seconds as a person says them: `42 s`, `3:05 min`, `2:10 h`."""
  seconds = round(seconds)
  if seconds < 60:
    return f"{seconds} s"
  if seconds < 3600:
    return f"{seconds // 60}:{seconds % 60:02d} min"
  return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"


def where(task: Task, root: Path, state: str) -> tuple[str, str]:
  """(what a task is at, time left), as far as they can be told."""
  if state == progress.FAILED:
    return progress.failure(task, root), ""
  if state == progress.BLOCKED:
    return "a run it needs failed", ""
  if state == progress.WAITING:
    return "for " + ", ".join(name for name in task.needs), ""
  if not task.trainings or state in (progress.DONE, progress.READY):
    return "", ""
  task_progress = progress.progress(task, root)
  if not task_progress.done:
    return "starting" if state == progress.RUNNING else "", ""
  if task_progress.done == task_progress.total:
    return "evaluating" if state == progress.RUNNING else "", ""
  left = "" if task_progress.seconds_left is None else duration(task_progress.seconds_left)
  return f"{task_progress.training} epoch {task_progress.epoch}/{task.epochs}", left


def shortened(text: str, cells: int) -> str:
  """A text whose middle is left out where it is longer: names differ at both ends."""
  if rich.cells.cell_len(text) <= cells:
    return text
  head = rich.cells.set_cell_size(text, (cells - 1) // 2)
  tail = text
  while rich.cells.cell_len(tail) > cells - 1 - rich.cells.cell_len(head):
    tail = tail[1:]
  return f"{head}…{tail}"


def counts(states: Mapping[str, str]) -> str:
  """`12 done, 2 running, 11 waiting`."""
  state_counts = Counter(states.values())
  order = [*_STYLES, *sorted(set(state_counts) - set(_STYLES))]
  return ", ".join(f"{state_counts[state]} {state}" for state in order if state_counts[state])


def make(
  tasks: Sequence[Task],
  root: Path,
  states: Mapping[str, str],
  height: int | None = None,
  width: int = 80,
) -> rich.console.Group:
  """The runs and how far they are.

  Args:
    tasks: in order.
    root: folder of the sweep.
    states: of every task.
    height: lines to fill; runs that are done, then those that wait, are left out where there are
      more. None shows all.
    width: characters in a line.
  """
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1), expand=False)
  table.add_column("run", no_wrap=True)
  table.add_column("state", no_wrap=True)
  table.add_column("at")  # The only one that may be wrapped is the one that gives way.
  table.add_column("left", justify="right", no_wrap=True)
  shown = _fitting(tasks, states, height)
  for task in shown:
    state = states[task.name]
    at, left = where(task, root, state)
    style = _STYLES.get(state, "")
    cells = (shortened(task.name, max(_NAME, width // 3)), state, at, left)
    table.add_row(
      *(rich.text.Text(cell, style, no_wrap=True, overflow="ellipsis") for cell in cells)
    )
  hidden = len(tasks) - len(shown)
  summary = counts(states) + (f" ({hidden} not shown)" if hidden else "")
  return rich.console.Group(table, rich.text.Text(summary, no_wrap=True, overflow="ellipsis"))


def _fitting(tasks: Sequence[Task], states: Mapping[str, str], height: int | None) -> list[Task]:
  """The tasks that are shown, in order; the most interesting ones where not all fit."""
  if height is None or len(tasks) <= height:
    return list(tasks)
  dull = (progress.READY, progress.BLOCKED, progress.WAITING, progress.DONE)  # the last one least

  def rank(task: Task) -> int:
    state = states[task.name]
    return dull.index(state) if state in dull else -1

  chosen = {task.name for task in sorted(tasks, key=rank)[: max(1, height)]}
  return [task for task in tasks if task.name in chosen]


class LiveTable:
  """The table, redrawn on a terminal; elsewhere a line for every change of a state."""

  def __init__(self, tasks: Sequence[Task], root: Path, console: rich.console.Console):
    self._tasks, self._root, self._console = tasks, root, console
    self._states: dict[str, str] = {}
    self._drawn = 0.0
    self._live = rich.live.Live(console=console, auto_refresh=False, transient=True)

  def __enter__(self) -> "LiveTable":
    if self._console.is_terminal:
      self._live.start()
    return self

  def __exit__(self, *exception) -> None:
    self._live.stop()
    if self._states:
      width = self._console.width
      self._console.print(make(self._tasks, self._root, self._states, width=width))

  def show(self, states: Mapping[str, str]) -> None:
    """Shows new states."""
    if self._console.is_terminal:
      if states != self._states or time.monotonic() - self._drawn > _PERIOD:
        width, height = self._console.size
        drawn = make(self._tasks, self._root, states, height - _FRAME, width)
        self._live.update(drawn, refresh=True)
        self._drawn = time.monotonic()
    else:
      quiet = (progress.WAITING, progress.READY)
      for task in self._tasks:
        state = states[task.name]
        if state != self._states.get(task.name) and state not in quiet:
          at, _ = where(task, self._root, state)
          line = f"{state} {task.name}" + (f": {at}" if at and state == progress.FAILED else "")
          _say(self._console, line)
    self._states = dict(states)


def print_plan(
  name: str,
  tasks: Sequence[Task],
  root: Path,
  images: Callable[[Task], int | None],
  images_per_second: float | None,
  console: rich.console.Console,
) -> None:
  """Prints what a sweep would do: runs, dependencies, models to train, and hours on GPUs.

  Args:
    name: of the sweep.
    tasks: in order.
    root: folder of the sweep.
    images: training images of a run's data set; None if only the data themselves tell.
    images_per_second: of one GPU, training one model, as measured by the user.
    console: where to print.
  """
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1))
  table.add_column("run", overflow="fold")
  table.add_column("models", justify="right", no_wrap=True)
  table.add_column("needs", overflow="fold")
  for task in tasks:
    done = " (done)" if is_done(task, root) else ""
    models = str(task.models) if task.kind == "run" else "-"
    table.add_row(*map(rich.text.Text, (task.name + done, models, ", ".join(task.needs))))
  console.print(table)
  runs = [task for task in tasks if task.kind == "run"]
  comparisons = len(tasks) - len(runs)
  summary = f"{name}: {len(runs)} runs, {sum(task.models for task in runs)} models to train"
  _say(console, summary + (f", {comparisons} comparisons" if comparisons else ""))
  left = [task for task in runs if not is_done(task, root)]
  done = sum(is_done(task, root) for task in tasks)
  if done:
    models = sum(task.models for task in left)
    _say(console, f"{done} are done in {root}; {models} models are left")
  _say(console, _work(left, images, images_per_second))


def _work(
  left: Sequence[Task], images: Callable[[Task], int | None], images_per_second: float | None
) -> str:
  """How many images are left to train on, and the hours that takes."""
  sizes = [images(task) for task in left]
  if None in sizes:
    return "How many training images there are, only the data tell: no estimate of hours."
  work = sum(t.models * t.epochs * size for t, size in zip(left, sizes, strict=True))
  amount = f"{work:.3g} images (models x epochs x training images)"
  if images_per_second is None:
    return f"{amount}; --images_per_second=RATE of one GPU gives the hours"
  hours = work / images_per_second / 3600
  return f"{amount}; at {images_per_second:g} images/s: {hours:.1f} GPU hours"


def _say(console: rich.console.Console, line: str) -> None:
  """Prints a line as it is: a name is no markup."""
  console.print(line, soft_wrap=True, highlight=False, markup=False, emoji=False)
