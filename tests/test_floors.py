"""Imports run one way: a module uses only what lies on a lower floor, or in its own room."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Rooms from the ground up, a floor a line: packages and modules, with all that is in them. The
# longest name counts. Names are those in dissim_jax.
FLOORS = """
  interrupts
  dissim_jax errors names seeds texts
  registry files.layout files.atomic
  files files.progress
  plugins
  config files.training_log files.run distributed similarity attribution models attacks metrics
  render
  data
  corruptions train.optimizer members.member members.weights
  train.loop members.store
  members members.plan
  studies studies.context
  train
  launch.sweep
  configs
  command_line files.workdir
  members.find
  studies.attribution studies.corruption studies.features studies.outputs studies.similarity \
  studies.transfer studies.stitching
  studies.pool
  experiment pages console
  analyse collect compare main report stitch transfer launch
"""
# Folders at the top that are packages of dissim_jax.
TOPS = {"dissim_jax": "dissim_jax", "configs": "dissim_jax.configs", "launch": "dissim_jax.launch"}


def _in_full(room):
  return room if room == "dissim_jax" else f"dissim_jax.{room}"


HEIGHT = {
  _in_full(room): height
  for height, rooms in enumerate(FLOORS.strip().splitlines())
  for room in rooms.split()
}

# What reads results: importing it brings no JAX, in a fresh process.
WITHOUT_JAX = tuple(
  map(
    _in_full,
    (
      "registry",
      "config",
      "files",
      "render",
      "pages",
      "launch",
      "analyse",
      "collect",
      "command_line",
      "compare",
      "main",
      "report",
      "stitch",
      "transfer",
    ),
  )
)
# In every study: what reads its files and shows them.
REPORT_SIDE = ("settings", "record", "report", "figures", "tables", "page")
NEEDS_JAX = tuple(map(_in_full, ("launch.xm", "launch.xm_slurm", "launch.xm_units")))


def _name(top, path):
  parts = path.relative_to(ROOT / top).with_suffix("").parts
  return ".".join([TOPS[top], *(parts[:-1] if parts[-1] == "__init__" else parts)])


def _files(top):
  """Python files below a folder, without those that links lead to."""
  return (path for path in sorted((ROOT / top).rglob("*.py")) if path == path.resolve())


MODULES = {_name(top, path): path for top in TOPS for path in _files(top)}


@functools.cache
def room(module):
  """The longest name in FLOORS that the module begins with."""
  parts = module.split(".")
  names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
  found = next((name for name in names if name in HEIGHT), None)
  # The package itself is a room, and not that of what FLOORS does not name.
  return None if found == "dissim_jax" != module else found


def test_no_study_uses_another_one():
  """But for the pool, which attacks members as `transfer` does."""

  def study(name):
    parts = name.split(".")
    return parts[2] if parts[:2] == ["dissim_jax", "studies"] and len(parts) > 3 else None

  crossing = {
    (study(module), study(name))
    for module, path in MODULES.items()
    for name in imports(module, path.read_text())
    if study(module) and study(name) not in (None, study(module))
  }
  assert crossing == {("pool", "transfer")}


def imports(module, source):
  """Names of modules of ours that a module imports, at its top or in a function."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names if alias.name in MODULES)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{module} imports by a relative name"
      for alias in node.names:
        full = f"{node.module}.{alias.name}"
        yield from (
          name
          for name in (full, node.module)
          if name in MODULES and (name == full or full not in MODULES)
        )


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


@pytest.mark.parametrize(
  "source",
  [
    "from dissim_jax import experiment",
    "def f():\n  import dissim_jax.pages.run",
    "from dissim_jax.pages.run import X",
    "from dissim_jax.data import load",
  ],
)
def test_an_import_that_runs_up_is_found(source):
  assert len(upward("dissim_jax.similarity.cka", source)) == 1
  assert upward("dissim_jax.similarity.cka", "from dissim_jax.errors import UserError") == []
  assert upward("dissim_jax.similarity.cka", "from dissim_jax.similarity import shape") == []


def test_what_reads_results_needs_no_jax():
  """By running the imports: a package may import for what it is asked for."""
  names = [
    module
    for module in MODULES
    if any((module + ".").startswith(side + ".") for side in WITHOUT_JAX)
    or (module.startswith("dissim_jax.studies.") and module.rpartition(".")[2] in REPORT_SIDE)
  ]
  names = [module for module in names if module not in NEEDS_JAX]
  assert len(names) > 100
  code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
  code += "sys.exit(' '.join({'jax', 'flax', 'optax', 'orbax'} & set(sys.modules)) or 0)"
  done = subprocess.run(
    [sys.executable, "-c", code, *names], capture_output=True, text=True, check=False, cwd=ROOT
  )
  assert done.returncode == 0, done.stderr


def test_commands_start_without_numpy():
  """It takes longer to import than everything else that `--help` needs."""
  code = "import dissim_jax.command_line, dissim_jax.report, sys; sys.exit('numpy' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
