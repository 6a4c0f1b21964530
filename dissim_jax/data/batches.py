"""Getting training images to the devices: whole sets that fit stay there, others are sent."""

from collections.abc import Callable

import jax
import numpy as np

Feed = Callable[[np.ndarray], tuple[tuple[jax.Array, jax.Array], np.ndarray]]


def make_feed(
  images: np.ndarray,
  labels: np.ndarray,
  put: Callable,
  resident_bytes: float,
) -> Feed:
  """How the rows of one dispatch reach the devices.

  Args:
    images: uint8 `[N, H, W, C]`.
    labels: int32 `[N]`.
    put: copies a pytree of arrays to the devices.
    resident_bytes: a larger set stays on the host, and the images of one dispatch are sent at a
      time; this overlaps with the dispatch before it, which the device works on meanwhile.

  Returns:
    `rows [steps, batch] -> (data, rows)`: images and labels on the devices, and the rows to take
    of them.
  """
  if images.nbytes <= resident_bytes:
    data = put((images, labels))
    return lambda rows: (data, rows)

  def send(rows):
    flat = rows.reshape(-1)
    local = np.arange(flat.size, dtype=rows.dtype).reshape(rows.shape)
    return put((images[flat], labels[flat])), local

  return send
