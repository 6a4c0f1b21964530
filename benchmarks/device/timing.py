"""Programs that are timed in turns, within a budget of time."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

LEFT_OUT = "left out: out of time"


class NotHereError(Exception):
  """Something to compare with is not on this machine."""


@dataclasses.dataclass(frozen=True)
class Case:
  """One thing to time.

  Attributes:
    name: in the table.
    make: prepares it, and returns the program, a function that does the work once.
    images: that one call works on.
    batch: images at a time.
    dtype: of the computation.
    gflop: floating-point operations of the networks for an image, in 1e9; 0 = not known.
  """

  name: str
  make: Callable[[], Callable[[], Any]]
  images: int
  batch: int
  dtype: str
  gflop: float = 0.0


@dataclasses.dataclass
class Row:
  """What came out: the seconds of every timed call, or a note why there are none."""

  part: str
  name: str
  images: int
  batch: int
  dtype: str
  gflop: float
  seconds: list[float] = dataclasses.field(default_factory=list)
  to_baseline: float | None = None
  note: str = ""
  failed: bool = False

  @property
  def images_per_second(self) -> float:
    """By the median call."""
    return self.images / statistics.median(self.seconds)

  def milliseconds(self, of: Callable[[Sequence[float]], float] = statistics.median) -> float:
    """Of one batch, by the median or another choice of calls."""
    return 1000 * of(self.seconds) * self.batch / self.images


class Budget:
  """Seconds that may be used from now on; what is begun is brought to an end."""

  def __init__(self, seconds: float):
    self.end = time.monotonic() + seconds

  def left(self) -> float:
    """Seconds, at least 0."""
    return max(0.0, self.end - time.monotonic())

  def part(self, seconds: float) -> "Budget":
    """So many of the seconds that are left."""
    return Budget(min(seconds, self.left()))


def first_line(error: Exception) -> str:
  """An error as a short sentence."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  return f"failed: {type(error).__name__}: {lines[0][:200] if lines else ''}".rstrip(": ")


def _attempt(row: Row, work: Callable[[], Any]) -> Any:
  """The result of `work` and its seconds; None with a note in the row where it fails."""
  began = time.perf_counter()
  try:
    result = jax.block_until_ready(work())
    return result, time.perf_counter() - began
  except NotHereError as error:
    row.note = str(error)
  except Exception as error:  # Out of memory, say: the other cases may still fit.
    row.note, row.failed = first_line(error), True
  return None


def interleaved(
  part: str, cases: Sequence[Case], budget: Budget, repeats: int, tell: Callable[[str], None]
) -> list[Row]:
  """Times all cases, in turns after one call of each that is not timed and may compile.

  Args:
    part: the rows' part.
    cases: the first is the baseline of the others.
    budget: without time left, no case is begun and no further round.
    repeats: rounds, at most.
    tell: says how it goes.

  Returns:
    A row a case. `to_baseline` is the median over rounds of the time for an image relative to the
    baseline's in the same round.
  """
  rows, programs = [], []
  for case in cases:
    fields = ("name", "images", "batch", "dtype", "gflop")
    row = Row(part, **{name: getattr(case, name) for name in fields})
    rows.append(row)
    if not budget.left():
      row.note = LEFT_OUT
    elif made := _attempt(row, case.make):
      if warm := _attempt(row, made[0]):
        programs.append((row, made[0]))
        tell(f"{part}: {row.name}: prepared in {made[1] + warm[1]:.1f} s")
    if row.note:
      tell(f"{part}: {row.name}: {row.note}")
  for _ in range(repeats):
    for row, program in programs:
      if row.note or (row.seconds and not budget.left()):
        continue
      if timed := _attempt(row, program):
        row.seconds.append(timed[1])
  for row in rows:
    if row.seconds and rows[0].seconds:
      row.to_baseline = statistics.median(
        (seconds / row.images) / (base / rows[0].images)
        for seconds, base in zip(row.seconds, rows[0].seconds, strict=False)
      )
  return rows
