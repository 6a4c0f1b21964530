"""What the functions of this package ask of their arguments.

Shapes and dtypes are checked at trace time. Values are checked where an array is concrete, and not
under `jit`, `grad` or `vmap`, where they are not known yet.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Rows of probabilities sum to 1 up to this, or up to the dtype's epsilon where that is larger.
ROW_SUM_TOLERANCE = 1e-3


def known(array: jax.Array | float) -> np.ndarray | None:
  """The values of a concrete array; None while tracing."""
  return None if isinstance(array, jax.core.Tracer) else np.asarray(array)


def check_shape(name: str, array: jax.Array, axes: str) -> None:
  """Raises unless `array` is non-empty and has the axes of, say, "M, N, K"."""
  if not hasattr(array, "shape") or not hasattr(array, "dtype"):
    raise ValueError(f"{name} is a {type(array).__name__}: an array [{axes}] is needed.")
  if array.ndim != len(axes.split(", ")) or 0 in array.shape:
    raise ValueError(f"{name} has shape {array.shape}: a non-empty [{axes}] is needed.")


def _check_same_shape(axes: str, arrays: dict[str, jax.Array]) -> None:
  for name, array in arrays.items():
    check_shape(name, array, axes)
  shapes = {name: array.shape for name, array in arrays.items()}
  if len(set(shapes.values())) > 1:
    listing = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise ValueError(f"The shapes of {listing} differ: they must be equal, [{axes}].")


def _check_index_values(name: str, array: jax.Array, num_classes: int | None) -> None:
  if not jnp.issubdtype(array.dtype, jnp.integer):
    raise ValueError(f"{name} has dtype {array.dtype}: integer class indices are needed.")
  values = known(array)
  if values is None:
    return
  low, high = values.min(), values.max()
  if low < 0 or (num_classes is not None and high >= num_classes):
    allowed = "0 or more" if num_classes is None else f"0..{num_classes - 1}"
    raise ValueError(f"{name} holds {low if low < 0 else high}: class indices are {allowed}.")


def check_indices(num_classes: int | None = None, **arrays: jax.Array) -> None:
  """Raises unless all are class indices, integer [N] with one N >= 1."""
  _check_same_shape("N", arrays)
  for name, array in arrays.items():
    _check_index_values(name, array, num_classes)


def check_members(predictions: jax.Array, **arrays: jax.Array) -> None:
  """Raises unless predictions are class indices [M, N] and the others class indices [N]."""
  check_shape("predictions", predictions, "M, N")
  _check_index_values("predictions", predictions, None)
  check_indices(None, **arrays)
  for name, array in arrays.items():
    check_count(name, array, "predictions", predictions, axis=1)


def check_count(name: str, array: jax.Array, of: str, others: jax.Array, axis: int) -> None:
  """Raises unless `array` has as many examples as `others` has along `axis`."""
  if array.shape[0] != others.shape[axis]:
    raise ValueError(f"{name} has shape {array.shape} and {of} {others.shape}: N must be equal.")


def check_scores(labels: jax.Array | None = None, *, axes: str = "N, K", **arrays) -> None:
  """Raises unless all are floating-point of one shape `axes` without NaN, and labels fit them."""
  _check_same_shape(axes, arrays)
  for name, array in arrays.items():
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(f"{name} has dtype {array.dtype}: a floating-point dtype is needed.")
    values = known(array)
    # The highest value is NaN if any is.
    if values is not None and not values.max() < np.inf:
      raise ValueError(f"{name} holds {values.max()}: neither NaN nor +inf is allowed.")
  if labels is not None:
    name, array = next(iter(arrays.items()))
    check_indices(num_classes=array.shape[-1], labels=labels)
    check_count("labels", labels, name, array, axis=array.ndim - 2)


def check_probabilities(labels: jax.Array | None = None, **arrays: jax.Array) -> None:
  """Raises unless all are probabilities [N, K] of one shape, and labels fit them."""
  check_scores(labels, axes="N, K", **arrays)
  for name, array in arrays.items():
    values = known(array)
    if values is None:
      continue
    if values.min() < 0:
      raise ValueError(f"{name} holds {values.min()}: probabilities are 0 or more.")
    sums = values.sum(axis=-1, dtype=np.float32)
    tolerance = max(ROW_SUM_TOLERANCE, float(jnp.finfo(array.dtype).eps))
    worst = np.argmax(np.abs(sums - 1))
    if abs(sums[worst] - 1) > tolerance:
      raise ValueError(
        f"{name}[{worst}] sums to {sums[worst]:g}: a row of probabilities sums to 1 within "
        f"{tolerance:g}."
      )


def check_bins(num_bins: int) -> None:
  """Raises unless there is a bin."""
  if num_bins < 1:
    raise ValueError(f"num_bins={num_bins}: 1 or more are needed.")
