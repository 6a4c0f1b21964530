"""Seconds to corrupt a test set, corruption by corruption.

  python -m benchmarks.corruption_speed --images=10000

Random 32x32 colour images at one severity, in batches as `evaluate.corruptions.corrupt` makes them;
the first column is what the first batch takes more, which is compiling. Prints the table and, as
the last line, the sum.
"""

import os
import time

import jax
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from dissim_jax.evaluate.corruptions import CORRUPTIONS, corrupt

_IMAGES = flags.DEFINE_integer("images", 10_000, "Images to corrupt.", lower_bound=1)
_SIDE = flags.DEFINE_integer("side", 32, "Pixels of a side.", lower_bound=2)
_SEVERITY = flags.DEFINE_float("severity", 5.0, "The severity.", lower_bound=0)
_BATCH = flags.DEFINE_integer("batch_size", 500, "Images at once.", lower_bound=1)
_REPEATS = flags.DEFINE_integer("repeats", 3, "Timed runs; the fastest counts.", lower_bound=1)


def seconds(name: str, images: np.ndarray, severity: float, batch_size: int) -> float:
  """Wall clock of one run over the images."""
  start = time.perf_counter()
  corrupt(name, images, severity, 0, batch_size=batch_size)
  return time.perf_counter() - start


def main(_):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (_IMAGES.value, _SIDE.value, _SIDE.value, 3), np.uint8)
  size = min(_BATCH.value, len(images))
  title = (
    f"{len(images)} images of {_SIDE.value}x{_SIDE.value}x3, severity {_SEVERITY.value:g}, "
    f"{jax.devices()[0].device_kind} ({os.cpu_count()} CPU cores)"
  )
  table = Table("corruption", title=title)
  for column in ("compile (s)", "run (s)", "images/s"):
    table.add_column(column, justify="right")
  total = 0.0
  for name in CORRUPTIONS:
    first, again = (seconds(name, images[:size], _SEVERITY.value, size) for _ in range(2))
    best = min(
      seconds(name, images, _SEVERITY.value, _BATCH.value) for _ in range(_REPEATS.value)
    )
    total += best
    table.add_row(name, f"{max(first - again, 0):.2f}", f"{best:.2f}", f"{len(images) / best:,.0f}")
  console = Console()
  console.print(table)
  console.print(f"all {len(CORRUPTIONS)}: {total:.2f} s")


if __name__ == "__main__":
  app.run(main)
