"""Read the files that a run may have or lack: absent is None, damaged is an error."""

import contextlib
import math
import os
import zipfile

import numpy as np

from dissim_jax.errors import UserError
from dissim_jax.files import atomic, layout


def read_json(workdir: str, name: str) -> dict | None:
  """`evaluation/<name>` of a run; None where there is none.

  Raises:
    UserError: it is not a JSON object.
  """
  path = os.path.join(workdir, layout.EVALUATION, name)
  try:
    return atomic.read_json(path)
  except FileNotFoundError:
    return None
  except (ValueError, OSError) as error:
    raise _damaged(path, workdir, f"is not valid JSON ({error})") from None


def read_arrays(workdir: str, name: str, only: tuple | None = None) -> dict | None:
  """The arrays of `evaluation/<name>` of a run, all or those named; None where there is no file.

  Raises:
    UserError: it cannot be read.
  """
  path = os.path.join(workdir, layout.EVALUATION, name)
  try:
    with np.load(path, allow_pickle=False) as archive:
      return {key: archive[key] for key in archive.files if only is None or key in only}
  except FileNotFoundError:
    return None
  except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
    raise _damaged(path, workdir, f"cannot be read ({error})") from None


def class_names(results) -> list:
  """What the classes of a run are called: `class 3` where the data set only counts them.

  Raises:
    UserError: `evaluation/predictions.npz` cannot be read.
  """
  arrays = read_arrays(results.workdir, "predictions.npz", only=("classes",)) or {}
  count = results.metrics["dataset"]["num_classes"]
  names = [str(name) for name in arrays.get("classes", range(count))]
  return [f"class {name}" if name.isdecimal() else name for name in names]


@contextlib.contextmanager
def form(workdir: str, name: str):
  """What goes wrong inside means that `evaluation/<name>` has another form: a `UserError`."""
  path = os.path.join(workdir, layout.EVALUATION, name)
  try:
    yield
  except UserError:
    raise
  except KeyError as error:
    raise _damaged(path, workdir, f"lacks the field {error}") from None
  except (ValueError, TypeError, AttributeError, IndexError) as error:
    raise _damaged(path, workdir, f"has values of another form ({error})") from None


def number(value) -> float:
  """A number of a file; NaN for null."""
  if isinstance(value, str | bool):
    raise TypeError(f"{value!r} is no number")
  return math.nan if value is None else float(value)


def numbers(values) -> np.ndarray:
  """A list of numbers, float64; NaN for null."""
  return np.array([number(value) for value in values], np.float64)


def places(values) -> np.ndarray:
  """As `numbers`, of values that others belong to: all must be finite."""
  array = numbers(values)
  if not np.isfinite(array).all():
    raise ValueError("a place without a value")
  return array


def same_length(**lists) -> None:
  """Raises a ValueError unless all have one length."""
  lengths = {name: len(values) for name, values in lists.items()}
  if len(set(lengths.values())) > 1:
    raise ValueError(", ".join(f"{count} {name}" for name, count in lengths.items()))


def in_order(results, mapping: dict) -> list:
  """Names of sequences, in the order of the run; those it does not know last."""
  known = [name for name in results.sequences if name in mapping]
  return known + [name for name in mapping if name not in known]


def _damaged(path, workdir, reason):
  return UserError(
    f"{path} {reason}: remove it, or make it again with python -m dissim_jax.main "
    f"--config=... --workdir={workdir}."
  )
