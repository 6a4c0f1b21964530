"""Four CPU devices for every test, programs that are compiled once for all tests, a tiny network.

Set before jax is imported.
"""

import os
import tempfile

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
# Parallel workers inherit the folder of the process that started them.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _cache = tempfile.TemporaryDirectory(prefix="dissim_jax_tests_")
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # Other processes start sooner.


@pytest.fixture(scope="session", autouse=True)
def _tiny():
  """The network of `tests/tiny.py`; not yet there where tests are made of all architectures."""
  from tests import tiny  # noqa: PLC0415  # What is set above comes first.

  tiny.register()
