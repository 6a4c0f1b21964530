"""What a training writes as it goes: `metrics.jsonl` and TensorBoard events."""

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

from dissim_jax.files import atomic, layout

_log = logging.getLogger(__name__)


class MetricsLog:
  """One JSON object per epoch in `metrics.jsonl`, and the same numbers as TensorBoard events.

  Lines after `resume_epoch` belong to work that a killed run did past its last checkpoint; they
  are dropped, as that work is done again. Both are written at once, by nobody else: a full disk is
  an OSError here, that names the file.
  """

  def __init__(self, directory: Path, resume_epoch: int, resume_step: int):
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    self._path = directory / layout.LOG
    kept = [row for row in self._rows() if row["epoch"] <= resume_epoch]
    content = "".join(json.dumps(row) + "\n" for row in kept)
    atomic.write_bytes(self._path, content.encode())
    self.seconds = float(kept[-1]["seconds"]) if kept else 0.0
    self._file = self._path.open("a")
    self._events = _Events(directory / layout.TENSORBOARD, resume_step + 1)

  def _rows(self) -> list[dict[str, Any]]:
    """Whole lines only: a killed writer may leave a part of one at the end."""
    if not self._path.exists():
      return []
    content = self._path.read_bytes()
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    rows = [_epoch_row(line) for line in lines]
    damaged = [str(number) for number, row in enumerate(rows, 1) if row is None]
    if damaged:
      _log.warning(
        "%s: line %s cannot be read; what it said is missing from now on",
        self._path,
        ", ".join(damaged),
      )
    return [row for row in rows if row is not None]

  def write(self, values: dict, seconds: float) -> None:
    """Appends one epoch that took `seconds`; `epoch` and `step` must be among the values."""
    self.seconds += seconds
    values = values | {"seconds": self.seconds}
    with atomic.named(self._path):
      self._file.write(json.dumps(values) + "\n")
      self._file.flush()
    self._events.write(values)

  def close(self) -> None:
    """Closes both files."""
    with atomic.named(self._path):
      self._file.close()
    self._events.close()


def _epoch_row(line: bytes) -> dict[str, Any] | None:
  """A line of `metrics.jsonl`; None if it is not what `MetricsLog` writes."""
  try:
    row = json.loads(line)
    right = isinstance(row["epoch"], int) and math.isfinite(row["seconds"])
  except (ValueError, TypeError, KeyError, RecursionError):
    return None
  return row if right else None


class _Events:
  """TensorBoard's file of events; whatever others had from step `first` on is hidden."""

  def __init__(self, directory: Path, first: int):
    # Slow to import, and only a training needs it.
    from tensorboardX import event_file_writer, proto, summary

    self._path, self._summary, self._proto = directory, summary, proto.event_pb2
    with atomic.named(directory):
      directory.mkdir(parents=True, exist_ok=True)
      # The class that writes at once: the usual one has a thread, whose errors reach nobody.
      self._file = event_file_writer.EventsWriter(str(directory / "events"))
      start = self._proto.SessionLog(status=self._proto.SessionLog.START)
      self._add(first, session_log=start)
      self._file.flush()

  def write(self, values: dict[str, Any]) -> None:
    """The finite numbers of an epoch."""
    with atomic.named(self._path):
      for name, value in values.items():
        if name not in ("epoch", "step") and math.isfinite(value):
          self._add(values["step"], summary=self._summary.scalar(name, value))
      self._file.flush()

  def _add(self, step: int, **content: Any) -> None:
    self._file.write_event(self._proto.Event(step=step, wall_time=time.time(), **content))

  def close(self) -> None:
    """Closes the file."""
    with atomic.named(self._path):
      self._file.close()


class NoLog:
  """In the place of `MetricsLog` in a process that writes nothing."""

  seconds = 0.0

  def write(self, values: dict, seconds: float) -> None:
    """Writes nothing."""

  def close(self) -> None:
    """Closes nothing."""
