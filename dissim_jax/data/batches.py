"""Images in batches of nearly equal size."""

import numpy as np

SMALLEST_BATCH = 4  # Of the unbiased HSIC.


def batches(images: np.ndarray, batch_size: int) -> list[np.ndarray]:
  """The images in batches of nearly equal size, so that no small rest is left at the end.

  No batch is smaller than `SMALLEST_BATCH`, unless there are fewer images than that.
  """
  parts = min(-(-len(images) // batch_size), len(images) // SMALLEST_BATCH)
  return np.array_split(images, max(1, parts))
