"""How far work is, as a line on stderr."""

import math
import sys
import time

import rich.console
import rich.progress


class ProgressLine:
  """One line on stderr: rewritten on a terminal, elsewhere printed anew every `period` seconds."""

  def __init__(self, period: float = 10.0):
    self._live = sys.stderr.isatty()
    self._period = 0.1 if self._live else period
    self._last_line = time.monotonic()

  def __call__(self, what: str, done: int, total: int) -> None:
    """Tells how much of something is done."""
    now, last = time.monotonic(), done == total
    if last or now - self._last_line > self._period:
      self._last_line = now
      start, end = ("\r\x1b[K", "\n" if last else "") if self._live else ("", "\n")
      print(f"{start}{what} {done}/{total}", end=end, file=sys.stderr, flush=True)


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
