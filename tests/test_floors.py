"""Imports run one way: a module uses only what lies on a lower floor, or in its own room."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Rooms from the ground up: a package or a module, and all that is in it. The longest name counts.
FLOORS = (
  ("dissim_jax", "dissim_jax.errors", "dissim_jax.names", "dissim_jax.seeds", "dissim_jax.texts",
   "dissim_jax.lazy", "dissim_jax.records", "dissim_jax.defaults"),
  ("dissim_jax.distributed", "dissim_jax.similarity", "dissim_jax.attribution", "dissim_jax.models",
   "dissim_jax.optimizer", "dissim_jax.attacks", "dissim_jax.metrics"),
  ("dissim_jax.data", "dissim_jax.projections", "dissim_jax.joint_objectives"),
  ("dissim_jax.corruptions", "dissim_jax.objective", "dissim_jax.loop", "dissim_jax.members"),
  ("dissim_jax.game", "dissim_jax.evaluate", "dissim_jax.plan"),
  ("dissim_jax.monitor",),
  ("dissim_jax.train", "dissim_jax.linear_taps", "dissim_jax.feasibility",
   "dissim_jax.evaluation"),
  ("dissim_jax.joint", "launch.sweep"),
  ("configs",),
  ("dissim_jax.config_file",),
  ("dissim_jax.fields", "dissim_jax.command_line"),
  ("dissim_jax.validate_measures",),
  ("dissim_jax.validate",),
  ("dissim_jax.report", "dissim_jax.workdirs"),
  ("dissim_jax.finished", "dissim_jax.sequence"),
  ("dissim_jax.studies", "dissim_jax.comparisons", "dissim_jax.transfer_files"),
  ("dissim_jax.transfer_pool",),
  ("dissim_jax.transfers",),
  ("dissim_jax.analyse", "dissim_jax.collect", "dissim_jax.compare", "dissim_jax.main",
   "dissim_jax.report.__main__", "dissim_jax.stitch", "dissim_jax.transfer", "launch"),
)  # fmt: skip
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}

# What reads results: importing it brings no JAX, in a fresh process.
WITHOUT_JAX = ("dissim_jax.report", "launch", "dissim_jax.analyse", "dissim_jax.collect",
               "dissim_jax.command_line", "dissim_jax.compare", "dissim_jax.main",
               "dissim_jax.stitch", "dissim_jax.transfer")  # fmt: skip
NEEDS_JAX = ("launch.commands", "launch.xm", "launch.xm_slurm", "launch.xm_units")


def _name(path):
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for top in ("dissim_jax", "configs", "launch")
           for path in sorted((ROOT / top).rglob("*.py"))}  # fmt: skip


@functools.cache
def room(module):
  """The longest name in FLOORS that the module begins with."""
  parts = module.split(".")
  names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
  found = next((name for name in names if name in HEIGHT), None)
  # The ground floor holds the package itself, and nothing that FLOORS does not name.
  return None if found == "dissim_jax" != module else found


def imports(module, source):
  """Names of modules of ours that a module imports, at its top or in a function."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names if alias.name in MODULES)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{module} imports by a relative name"
      for alias in node.names:
        full = f"{node.module}.{alias.name}"
        yield from (name for name in (full, node.module) if name in MODULES and
                    (name == full or full not in MODULES))  # fmt: skip


def upward(module, source):
  """Imports that do not run down, as texts."""
  here = room(module)
  return [
    f"{module} imports {name}"
    for name in imports(module, source)
    if room(name) != here and HEIGHT[room(name)] >= HEIGHT[here]
  ]


def test_every_module_is_in_a_room_and_every_room_is_there():
  assert [module for module in MODULES if room(module) is None] == []
  assert {room(module) for module in MODULES} == set(HEIGHT)


def test_imports_run_down():
  found = [upward(module, path.read_text()) for module, path in MODULES.items()]
  assert sum(found, []) == []


@pytest.mark.parametrize("source", [
  "from dissim_jax import sequence",
  "def f():\n  import dissim_jax.report.page",
  "from dissim_jax.report.page import X",
  "from dissim_jax.data import load",
])  # fmt: skip
def test_an_import_that_runs_up_is_found(source):
  assert len(upward("dissim_jax.similarity.cka", source)) == 1
  assert upward("dissim_jax.similarity.cka", "from dissim_jax.errors import UserError") == []
  assert upward("dissim_jax.similarity.cka", "from dissim_jax.similarity import shape") == []


def test_what_reads_results_needs_no_jax():
  """By running the imports: a package may import for what it is asked for."""
  names = [module for module in MODULES for side in WITHOUT_JAX
           if (module + ".").startswith(side + ".") and module not in NEEDS_JAX]  # fmt: skip
  assert len(names) > 50
  code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
  code += "sys.exit(' '.join({'jax', 'flax', 'optax', 'orbax'} & set(sys.modules)) or 0)"
  done = subprocess.run(
    [sys.executable, "-c", code, *names], capture_output=True, text=True, check=False, cwd=ROOT
  )
  assert done.returncode == 0, done.stderr
