"""Runs a sweep as an XManager experiment: local processes, or Slurm jobs.

  xmanager launch launch/xm.py -- --sweep=configs/sweeps/digits_table1.py --parallel=2
  xmanager launch launch/xm.py -- --sweep=… --engine=slurm --cluster=CLUSTER.toml

Needs `pip install -e '.[xmanager]' -c requirements-xmanager.txt`. Each run is a work unit, started
when the runs it needs are finished; the command ends when nothing is left to do. Started again, it
does only what is left. XManager keeps its own record in `~/.xmanager`.

The file cannot be called xmanager.py: `xmanager launch` imports a script by the name of its file,
and would get its own package.
"""

import shlex
import sys
from pathlib import Path

_FOLDERS = Path(__file__).resolve().parents  # dissim_jax/launch, or launch in a checkout
_ROOT = str(_FOLDERS[2] if _FOLDERS[1].name == "dissim_jax" else _FOLDERS[1])
_IS_SCRIPT = "." not in __name__  # As `xmanager launch` imports it.
if _IS_SCRIPT:
  # In the first place is this folder, whose modules must not be found as top-level ones; XManager
  # removes the first place after the import.
  sys.path[:1] = [_ROOT, _ROOT]

import rich.console  # noqa: E402
from absl import flags, logging  # noqa: E402
from xmanager import xm  # noqa: E402, F401  Defines the flags that `xmanager launch` adds.

from dissim_jax import command_line  # noqa: E402
from dissim_jax.launch import options, progress, sbatch, slurm  # noqa: E402
from dissim_jax.launch.local import define_flags  # noqa: E402


def launch(argv: list[str], holders: dict[str, flags.FlagHolder]) -> None:
  """Runs the sweep that the flags describe."""
  logging.set_verbosity(logging.WARNING)  # Else the imports tell what XManager's database does.
  from dissim_jax.launch import xm_slurm, xm_units

  command_line.no_arguments(argv)
  asked, console = options.request(holders), rich.console.Console()
  value = {name: holder.value for name, holder in holders.items()}
  on_slurm = value["engine"] == "slurm"
  if on_slurm:
    command_line.require(holders["cluster"])
    cluster = sbatch.read_cluster(value["cluster"])
  if value["dry_run"]:
    options.dry_run(asked, holders, console)
    if on_slurm:
      slurm.dry_run(asked.tasks, asked.root, cluster, value["nodes"], console)
    return
  if on_slurm:
    engine = xm_slurm.submitted(asked.tasks, asked.root, cluster, value["nodes"])
  else:
    engine = xm_units.local(asked.tasks, asked.root, value["devices"], value["parallel"])
  states = xm_units.run(asked, engine, console)
  failed = [name for name, state in states.items() if state == progress.FAILED]
  if failed:
    log = shlex.quote(str(asked.root / "launch" / failed[0] / "output.log"))
    print(f"{len(failed)} failed: {', '.join(failed)}; see {log}", file=sys.stderr)
    sys.exit(1)
  print(f"tables: python -m dissim_jax.collect --root={shlex.quote(str(asked.root))}")


_HOLDERS = define_flags()  # --parallel and --devices are those of the local engine.
_HOLDERS["engine"] = flags.DEFINE_enum("engine", "local", ["local", "slurm"], "Where runs run.")
_HOLDERS["cluster"] = flags.DEFINE_string(
  "cluster", None, "Slurm: what jobs ask of it; see launch/clusters/example.toml."
)
_HOLDERS["nodes"] = command_line.define_whole("nodes", 1, "Slurm: nodes of each training.", least=1)

main = command_line.guarded(lambda argv: launch(argv, _HOLDERS))

if _IS_SCRIPT:
  # XManager parses the flags again; here a mistake is told as the other launchers tell it.
  _arguments = sys.argv[3:]
  command_line.parse(sys.argv[2:3] + _arguments[_arguments[:1] == ["--"] :])
