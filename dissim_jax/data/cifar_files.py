"""The forms in which CIFAR is published, and their bytes as arrays; nothing here runs a pickle.

The "python" form is pickled. Its files are read by an unpickler that knows a few names and has a
stand-in of this module for each, so that a file can neither import nor call anything else.
"""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dissim_jax.errors import UserError

SIDE = 32
_PIXELS = 3 * SIDE * SIDE

Parsed = tuple[np.ndarray, np.ndarray]  # images uint8 [N, 32, 32, 3], labels int32 [N]


class Listing(NamedTuple):
  """Where an archive is published and how to know it."""

  url: str
  size: int  # bytes
  sha256: str
  filename: str


class Form(NamedTuple):
  """The files of a data set, in an archive or unpacked."""

  folder: str  # in the archive
  train: tuple[str, ...]
  test: tuple[str, ...]
  parse: Callable[[bytes], Parsed]
  names: str  # the file of the class names; "" = `CIFAR10_NAMES`
  parse_names: Callable[[bytes], list[str]]

  @property
  def files(self) -> tuple[str, ...]:
    return (*self.train, *self.test, *((self.names,) if self.names else ()))


CIFAR10_NAMES = (
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
)
COUNTS = {"train": 50_000, "test": 10_000}  # images of either official data set


def read_archive(form: Form, path: Path) -> dict[str, np.ndarray]:
  """Reads an official archive, without unpacking it and only its expected members.

  Returns:
    `{train,test}_images` uint8 [N, 32, 32, 3], `{train,test}_labels` int32 [N], `class_names`.

  Raises:
    UserError: the archive is cut short, or a member is missing or not of the official format.
  """
  try:
    content = {}
    with tarfile.open(path, "r:gz") as tar:
      for member in tar:
        parent, _, base = member.name.rpartition("/")
        if member.isreg() and parent == form.folder and base in form.files:
          content[base] = tar.extractfile(member).read()
    if missing := [base for base in form.files if base not in content]:
      raise ValueError(f"no {', '.join(missing)} in {form.folder}")
    return _arrays(form, content)
  except Exception as error:  # which errors a damaged archive raises is not documented
    raise UserError(f"data.dir: the archive {str(path)!r} cannot be read ({error})") from error


def read_folder(form: Form, folder: Path) -> dict[str, np.ndarray]:
  """Reads an unpacked archive; see `read_archive`.

  Raises:
    UserError: a file is missing, cannot be read or is not of the official format.
  """
  try:
    if missing := [base for base in form.files if not os.path.isfile(folder / base)]:
      raise ValueError(f"no {', '.join(missing)} in it")
    return _arrays(form, {base: (folder / base).read_bytes() for base in form.files})
  except (OSError, ValueError) as error:
    raise UserError(f"data.dir: the folder {str(folder)!r} cannot be read ({error})") from error


def _arrays(form: Form, content: dict[str, bytes]) -> dict[str, np.ndarray]:
  """Arrays of the content of files; ValueError naming the file that is not as it should be."""

  def parsed(base: str, parse: Callable[[bytes], Any]) -> Any:
    try:
      return parse(content[base])
    except Exception as error:  # which errors a damaged pickle raises is not documented
      raise ValueError(f"{base}: {str(error) or type(error).__name__}") from error

  names = parsed(form.names, form.parse_names) if form.names else list(CIFAR10_NAMES)
  arrays = {"class_names": np.array(names)}
  for split, members in (("train", form.train), ("test", form.test)):
    parts = []
    for base in members:
      parts.append(parsed(base, form.parse))
      if (last := parts[-1][1].max()) >= len(names):
        raise ValueError(f"{base}: label {last} in a data set of {len(names)} classes")
    arrays[f"{split}_images"] = np.concatenate([images for images, _ in parts])
    arrays[f"{split}_labels"] = np.concatenate([labels for _, labels in parts])
  return arrays


# ---- the binary form: records of label bytes and pixels


def _parse_records(data: bytes, label_bytes: int) -> Parsed:
  """The last label byte is the label (CIFAR-100: coarse, then fine)."""
  record = label_bytes + _PIXELS
  if not data or len(data) % record:
    raise ValueError(f"{len(data)} bytes are not a number of records of {record} bytes")
  records = np.frombuffer(data, np.uint8).reshape(-1, record)
  return _channels_last(records[:, label_bytes:]), records[:, label_bytes - 1].astype(np.int32)


def _channels_last(pixels: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


# ---- the python form: a pickled dict with an array of pixels and a list of labels


def _parse_batch(data: bytes, key: str) -> Parsed:
  """The images and the labels called `key` of a pickled batch."""
  batch = _unpickled(data)
  labels, pixels = batch.get(key), batch.get("data")
  if not isinstance(pixels, _Array) or not isinstance(labels, list):
    raise ValueError(f"it has no array 'data' with a list {key!r}")
  values = pixels.values()
  if values.ndim != 2 or values.shape[1] != _PIXELS or not len(values):
    raise ValueError(f"its data is {list(values.shape)}, images must be [N, {_PIXELS}]")
  if len(labels) != len(values) or not all(type(k) is int and k >= 0 for k in labels):
    raise ValueError(f"its {key} are not one class for each of {len(values)} images")
  return _channels_last(values), np.array(labels, np.int32)


def _parse_names(data: bytes) -> list[str]:
  names = _unpickled(data).get("fine_label_names")
  if not isinstance(names, list) or not names:
    raise ValueError("it has no list 'fine_label_names'")
  return [_text(name) for name in names]


def _text(value: Any) -> str:
  """A string of Python 2 or 3."""
  return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _unpickled(data: bytes) -> dict[str, Any]:
  content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
  if not isinstance(content, dict):
    raise ValueError("it holds no dict")
  return {_text(key): value for key, value in content.items()}


class _Dtype:
  """In the place of `numpy.dtype`."""

  def __init__(self, name: Any = "", *_: Any):
    self.name = _text(name)

  def __setstate__(self, state: Any) -> None:
    """Byte order and flags, which one byte has none of."""


class _Array:
  """In the place of `numpy.ndarray`: what a pickle says of an array, made one by `values`."""

  def __init__(self, *_: Any):
    self._state: Any = None

  def __setstate__(self, state: Any) -> None:
    self._state = state

  def values(self) -> np.ndarray:
    """The array; ValueError unless it is of uint8."""
    _, shape, dtype, fortran, data = self._state
    if not isinstance(dtype, _Dtype) or dtype.name.lstrip("|") not in ("u1", "uint8"):
      raise ValueError("its data is not of uint8")
    array = np.frombuffer(data, np.uint8)
    return array.reshape(shape, order="F" if fortran else "C")


class _FromBuffer(_Array):
  """How protocol 5 writes an array."""

  def __init__(self, data: Any, dtype: Any, shape: Any, order: Any):
    self._state = (1, shape, dtype, order == "F", data)


class _Bytes(bytes):
  """How Python 3 writes bytes for Python 2."""

  def __new__(cls, text: str, encoding: str):
    return super().__new__(cls, text.encode("latin-1"))

  def __setstate__(self, state: Any) -> None:
    """Bytes have no state."""


_KNOWN = {
  ("numpy", "ndarray"): _Array,
  ("numpy", "dtype"): _Dtype,
  ("numpy.core.multiarray", "_reconstruct"): _Array,
  ("numpy._core.multiarray", "_reconstruct"): _Array,  # since NumPy 2
  ("numpy.core.numeric", "_frombuffer"): _FromBuffer,
  ("numpy._core.numeric", "_frombuffer"): _FromBuffer,
  ("_codecs", "encode"): _Bytes,
}


class _Unpickler(pickle.Unpickler):
  """Knows `_KNOWN` and nothing else: loading a file calls no code but that of this module."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _KNOWN:
      raise pickle.UnpicklingError(f"{module}.{name} has no place in a batch of CIFAR")
    return _KNOWN[module, name]


# ---- what there is


_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
BINARY = {
  "cifar10": Form(
    "cifar-10-batches-bin",
    tuple(f"{base}.bin" for base in _BATCHES),
    ("test_batch.bin",),
    partial(_parse_records, label_bytes=1),
    "",
    list,
  ),
  "cifar100": Form(
    "cifar-100-binary",
    ("train.bin",),
    ("test.bin",),
    partial(_parse_records, label_bytes=2),
    "fine_label_names.txt",
    lambda data: data.decode().split(),
  ),
}
PYTHON = {
  "cifar10": Form(
    "cifar-10-batches-py", _BATCHES, ("test_batch",), partial(_parse_batch, key="labels"), "", list
  ),
  "cifar100": Form(
    "cifar-100-python",
    ("train",),
    ("test",),
    partial(_parse_batch, key="fine_labels"),
    "meta",
    _parse_names,
  ),
}
_HOME = "https://www.cs.toronto.edu/~kriz"
PYTHON_LISTINGS = {  # MD5 c58f30108f718f92721af3b95e74349a, eb9058c3a382ffc7106e4002c42a8d85
  "cifar10": Listing(
    f"{_HOME}/cifar-10-python.tar.gz",
    170_498_071,
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "cifar-10-python.tar.gz",
  ),
  "cifar100": Listing(
    f"{_HOME}/cifar-100-python.tar.gz",
    169_001_437,
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    "cifar-100-python.tar.gz",
  ),
}
