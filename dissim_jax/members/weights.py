"""The weights of a finished member in `weights.safetensors`, which any program can read.

  safetensors.numpy.load_file("runs/digits/member_0/weights.safetensors")

Names are those of flax, joined by dots (`params.layers_0.conv.kernel`); the arrays are those of
flax, float32, kernels as [height, width, in, out].
"""

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from dissim_jax.distributed import devices
from dissim_jax.files.atomic import write_bytes


def write(path: Path, variables: Any) -> str:
  """Writes a pytree of dicts of arrays; returns the SHA-256 of the file, in hexadecimal."""
  leaves, _ = jax.tree.flatten_with_path(devices.local(variables))
  content = safetensors.numpy.save({_name(keys): np.asarray(array) for keys, array in leaves})
  write_bytes(path, content)
  return hashlib.sha256(content).hexdigest()


def read(path: Path, like: Any, digest: str) -> Any:
  """What `write` wrote, as NumPy arrays in a pytree like `like`.

  Args:
    path: of the file.
    like: a pytree of shapes and dtypes.
    digest: that `write` gave.

  Raises:
    ValueError: the file is another one than was written, or of another network.
    OSError: it cannot be read.
  """
  content = Path(path).read_bytes()
  if hashlib.sha256(content).hexdigest() != digest:
    raise ValueError("it is not the file that was written: its checksum is another one")
  try:
    arrays = safetensors.numpy.load(content)
  except safetensors.SafetensorError as error:
    raise ValueError(f"it is no safetensors file ({error})") from error
  shapes = {_name(keys): shape for keys, shape in jax.tree.flatten_with_path(like)[0]}
  if differ := sorted(shapes.keys() ^ arrays.keys()):
    there = "lacks" if differ[0] in shapes else "has the unknown"
    raise ValueError(f"it {there} {differ[0]!r}")
  for name, shape in shapes.items():
    if arrays[name].shape != shape.shape:
      raise ValueError(f"{name!r} has shape {arrays[name].shape}, not {shape.shape}")
  return jax.tree.map_with_path(lambda keys, shape: arrays[_name(keys)].astype(shape.dtype), like)


def _name(keys: tuple[Any, ...]) -> str:
  return ".".join(str(key.key) for key in keys)
