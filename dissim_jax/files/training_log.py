"""What a training writes as it goes: `metrics.jsonl` and TensorBoard events."""

import json
import math
from pathlib import Path

from dissim_jax.files import atomic, layout


class MetricsLog:
  """One JSON object per epoch in `metrics.jsonl`, and the same numbers as TensorBoard events.

  Lines after `resume_epoch` belong to work that a killed run did past its last checkpoint; they
  are dropped, as that work is done again.
  """

  def __init__(self, directory: Path, resume_epoch: int, resume_step: int):
    import tensorboardX  # Slow to import, and only a training needs it.

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    self._path = directory / layout.LOG
    kept = [line for line in self._lines() if json.loads(line)["epoch"] <= resume_epoch]
    atomic.write_bytes(self._path, "".join(line + "\n" for line in kept).encode())
    self.seconds = json.loads(kept[-1])["seconds"] if kept else 0.0
    self._file = self._path.open("a")
    self._events = tensorboardX.SummaryWriter(
      str(directory / layout.TENSORBOARD), purge_step=resume_step + 1
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
