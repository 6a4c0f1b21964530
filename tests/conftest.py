"""Four CPU devices for every test, programs that are compiled once for all tests, a tiny network.

Set before jax is imported. What is in XLA_FLAGS already comes last, so it wins.
"""

import gc
import os
import tempfile

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
# Programs run for a moment here: optimising their code takes longer than it saves.
os.environ["XLA_FLAGS"] = " ".join(
  [
    "--xla_force_host_platform_device_count=4",
    "--xla_backend_optimization_level=0",
    # A busy machine may keep one of the four waiting for long.
    "--xla_cpu_collective_call_terminate_timeout_seconds=1200",
    os.environ.get("XLA_FLAGS", ""),
  ]
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


@pytest.fixture
def undrawn(monkeypatch):
  """Figures are made but not drawn, for tests of what surrounds them: drawing takes long.

  Not for unusual results, whose figures may fail only when they are drawn.
  """
  from tests import tiny  # noqa: PLC0415  # What is set above comes first.

  tiny.leave_undrawn(monkeypatch)


def pytest_collection_finish():
  """What was imported stays until the end: no collection of garbage looks at it again."""
  gc.freeze()
