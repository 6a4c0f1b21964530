"""What a result was made with."""

import importlib.metadata
import platform
from typing import Any

import jax

import dissim_jax


def environment() -> dict[str, Any]:
  """Versions and hardware, as they belong beside every result."""
  packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
  return {
    "dissim_jax": dissim_jax.__version__,
    **{package: importlib.metadata.version(package) for package in packages},
    "python": platform.python_version(),
    "platform": jax.default_backend(),
    "device": jax.devices()[0].device_kind,
    "device_count": jax.device_count(),
  }
