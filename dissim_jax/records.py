"""What a training run writes and shows: `metrics.jsonl`, TensorBoard events, a progress bar."""

import contextlib
import fcntl
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rich.console
import rich.progress

LOCK = ".lock"  # held by the process that works in a run's folder


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
  """Holds the lock of a file, which is made; released when the process ends in whatever way.

  Raises:
    BlockingIOError: another process holds it.
    OSError: the file cannot be made.
  """
  with Path(path).open("a") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise
    except OSError:
      pass  # Not every file system has locks.
    yield


def read_json(path: Path) -> dict:
  """A JSON file as a dict."""
  return json.loads(Path(path).read_text())


def write_json(path: Path, values: dict) -> None:
  """Writes JSON whole or not at all (a temporary file moved into place)."""
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(path.name + ".part")
  temporary.write_text(json.dumps(values, indent=2) + "\n")
  os.replace(temporary, path)


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes an npz file whole or not at all."""
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(path.name + ".part")
  with temporary.open("wb") as file:
    np.savez(file, **arrays)
  os.replace(temporary, path)


class MetricsLog:
  """One JSON object per epoch in `metrics.jsonl`, and the same numbers as TensorBoard events.

  Lines after `resume_epoch` belong to work that a killed run did past its last checkpoint; they
  are dropped, as that work is done again.
  """

  def __init__(self, directory: Path, resume_epoch: int, resume_step: int):
    import tensorboardX  # Slow to import, and only a training needs it.

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    self._path = directory / "metrics.jsonl"
    kept = [line for line in self._lines() if json.loads(line)["epoch"] <= resume_epoch]
    temporary = self._path.with_name(self._path.name + ".part")
    temporary.write_text("".join(line + "\n" for line in kept))
    os.replace(temporary, self._path)
    self.seconds = json.loads(kept[-1])["seconds"] if kept else 0.0
    self._file = self._path.open("a")
    self._events = tensorboardX.SummaryWriter(
      str(directory / "tensorboard"), purge_step=resume_step + 1
    )

  def _lines(self) -> list[str]:
    """Whole lines only: a killed writer may leave a part of one at the end."""
    if not self._path.exists():
      return []
    text = self._path.read_text()
    return [line for line in text[: text.rfind("\n") + 1].splitlines() if line]

  def write(self, values: dict, seconds: float) -> None:
    """Appends one epoch that took `seconds`; `epoch` and `step` must be among the values."""
    self.seconds += seconds
    values = values | {"seconds": self.seconds}
    self._file.write(json.dumps(values) + "\n")
    self._file.flush()
    for name, value in values.items():
      if name not in ("epoch", "step") and math.isfinite(value):
        self._events.add_scalar(name, value, values["step"])

  def close(self) -> None:
    """Flushes and closes both files."""
    self._file.close()
    self._events.close()


class NoLog:
  """In the place of `MetricsLog` in a process that writes nothing."""

  seconds = 0.0

  def write(self, values: dict, seconds: float) -> None:
    """Writes nothing."""

  def close(self) -> None:
    """Closes nothing."""


class Progress:
  """A live line for one member on a terminal; elsewhere a plain line every `period` seconds."""

  def __init__(self, name: str, epochs: int, done: int, period: float = 10.0):
    self._name, self._epochs, self._period = name, epochs, period
    self._console = rich.console.Console(stderr=True)
    self._last_line = time.monotonic()
    self._bar = rich.progress.Progress(
      rich.progress.TextColumn("{task.description}"),
      rich.progress.BarColumn(bar_width=None),
      rich.progress.TextColumn("{task.completed:.0f}/{task.total:.0f}"),
      rich.progress.TextColumn("{task.fields[numbers]}"),
      rich.progress.TimeRemainingColumn(compact=True),
      console=self._console,
      disable=not self._console.is_terminal,
    )
    self._task = self._bar.add_task(name, total=epochs, completed=done, numbers="compiling")
    self._bar.start()

  def advance(self, fraction: float) -> None:
    """Moves the bar by a part of an epoch."""
    self._bar.advance(self._task, fraction)

  def epoch(self, values: dict) -> None:
    """Shows the numbers of a finished epoch."""
    text = _short(values)
    self._bar.update(self._task, completed=values["epoch"], numbers=text)
    now, last = time.monotonic(), values["epoch"] == self._epochs
    if not self._console.is_terminal and (last or now - self._last_line > self._period):
      self._last_line = now
      left = self._bar.tasks[self._task].time_remaining
      self._console.print(
        f"{self._name} {values['epoch']}/{self._epochs} {text}"
        + (f" {left:.0f} s left" if left and not last else ""),
        soft_wrap=True,
        highlight=False,
      )

  def close(self) -> None:
    """Leaves the last state of the bar on the screen."""
    self._bar.stop()


class NoProgress:
  """In the place of `Progress` in a process that shows nothing."""

  def advance(self, fraction: float) -> None:
    """Shows nothing."""

  def epoch(self, values: dict) -> None:
    """Shows nothing."""

  def close(self) -> None:
    """Closes nothing."""


def _short(values: dict) -> str:
  """The numbers of an epoch in a few characters: loss, accuracy, similarity, R^2, speed."""
  parts = [f"loss {values['train_loss']:.3f}", f"acc {100 * values['train_accuracy']:.1f}"]
  if "train_similarity" in values:
    parts.append(f"sim {values['train_similarity']:.2f}")
  if "r2_least_squares" in values and math.isfinite(values["r2_least_squares"]):
    parts.append(f"R² {values['r2_least_squares']:.2f}")
  if math.isfinite(values["images_per_second"]):
    parts.append(f"{values['images_per_second']:,.0f}/s")
  return " ".join(parts)
