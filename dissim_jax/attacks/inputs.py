"""What attacks ask of images, labels and bounds.

An attack on images that do not lie where it takes them to lie is no attack of the size that is
asked for: clipping moves them by far more than epsilon. A label that is no class has no gradient
that means anything. Both are refused where their values are known, and where they are not, under
`jit`, the images come back as NaN.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.attacks.step import Bounds, Logits, check_logits

Array = jax.Array | np.ndarray
TOLERANCE = 1e-6  # of the width of the bounds: what normalising there and back leaves


def number(value: Any) -> Any:
  """An array without axes as a Python number; anything else as it is."""
  single = isinstance(value, np.ndarray | np.generic | jax.Array) and np.shape(value) == ()
  return value.item() if single and not isinstance(value, jax.core.Tracer) else value


def check_arrays(images, labels, attacked=None, indices=None) -> None:
  """Raises ValueError unless shapes and dtypes fit, see `attacks.pgd`."""
  if images.ndim != 4 or 0 in images.shape or not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(
      f"images have shape {images.shape}, dtype {images.dtype}: floating non-empty [N,H,W,C] is "
      "needed, of grey levels a 255th"
    )
  for name, array, kind, needed in (
    ("labels", labels, jnp.integer, "one integer"),
    ("attacked", attacked, jnp.bool_, "True or False"),
    ("indices", indices, jnp.integer, "one integer"),
  ):
    if array is None:
      if name == "labels":
        raise ValueError("labels are None: one integer for each image is needed")
      continue
    if array.shape != images.shape[:1] or not jnp.issubdtype(array.dtype, kind):
      raise ValueError(
        f"{name} have shape {array.shape}, dtype {array.dtype}: {needed} for each of {len(images)} "
        "images is needed"
      )


def number_of_classes(logits: Logits, images: Array, labels: Array) -> int:
  """K of the classifier, from its shapes alone; raises ValueError unless they fit."""
  image = jax.ShapeDtypeStruct(images.shape, jnp.float32)
  shape = _classify.eval_shape(logits, image).shape
  check_logits(shape, labels.shape)
  return shape[-1]


# Traced once for a classifier that shares its program with others, and never run.
_classify = jax.jit(lambda logits, images: logits(images))


def in_range(images, labels, classes: int, bounds: Bounds):
  """Which images are finite, within the bounds and of a class there is: bool `[N]`."""
  low, high = bounds
  slack, pixels = TOLERANCE * (high - low), (1, 2, 3)
  inside = (images.min(pixels) >= low - slack) & (images.max(pixels) <= high + slack)
  return inside & (labels >= 0) & (labels < classes)  # Of NaN both ends are NaN.


def check_values(images, labels, attacked, classes: int, bounds: Bounds) -> None:
  """Raises ValueError naming the first image to be attacked that is not `in_range`."""
  right = np.asarray(in_range(images, labels, classes, bounds))
  wrong = np.flatnonzero(~right & (True if attacked is None else np.asarray(attacked)))
  if not len(wrong):
    return
  place, label = wrong[0], int(labels[wrong[0]])
  if not 0 <= label < classes:
    raise ValueError(f"labels[{place}]={label}: the classifier has classes 0..{classes - 1}")
  low, high = float(images[place].min()), float(images[place].max())
  raise ValueError(
    f"images[{place}] holds values in {low:g}..{high:g}: finite ones in {bounds[0]:g}.."
    f"{bounds[1]:g} are needed, or the bounds of your own with bounds=(low, high)"
  )
