"""Compiled programs, kept: start-up time matters to people."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax

_FOLDER = Path("~/.cache/dissim_jax/xla")


def step_options(platform: str) -> dict[str, str] | None:
  """How XLA compiles a training step.

  The fences of `models.convolution` have to stand until operations have been fused, as they do
  since JAX 0.11. Before, XLA for the CPU took them away at the beginning.
  """
  if platform == "cpu" and jax.__version_info__ < (0, 11):
    return {"xla_disable_hlo_passes": "cse_barrier_expander"}
  return None


@contextlib.contextmanager
def cache() -> Iterator[None]:
  """Uses JAX's persistent compilation cache; a `JAX_COMPILATION_CACHE_DIR` of the user is kept.

  On accelerators the programs stay on disk for later runs. Those of a CPU fit only that very
  processor, so they are kept for this process alone: members of one kind share a program.
  """
  if jax.config.jax_compilation_cache_dir:
    yield
  elif jax.default_backend() != "cpu":
    jax.config.update("jax_compilation_cache_dir", str(_FOLDER.expanduser()))
    yield
  else:
    with tempfile.TemporaryDirectory(prefix="dissim_jax_xla_") as folder:
      jax.config.update("jax_compilation_cache_dir", folder)
      yield
      jax.config.update("jax_compilation_cache_dir", None)
