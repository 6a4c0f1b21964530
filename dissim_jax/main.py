"""Runs an experiment: `python -m dissim_jax.main --config=configs/digits_expvar.py --workdir=DIR`.

Every field of the config can be set: `--config.dissim.taps=2,3,4 --config.transfer.epsilon=8/255`.
`--config=RUN/config.json` runs the experiment of another run again.
"""

import shlex
import sys

from absl import app, flags, logging

from dissim_jax import command_line
from dissim_jax.config.check import check_config

command_line.define_plugins()
_CONFIG = command_line.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints, results and report.")
_PROCESSES = command_line.define_processes()


def main(argv: list[str]) -> None:
  """Runs the experiment that the flags describe."""
  command_line.no_arguments(argv)
  command_line.require(_CONFIG, _WORKDIR)
  check_config(_CONFIG.value)
  logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a save.
  command_line.loading()  # Slow to import: not before the flags are right.
  from dissim_jax import experiment
  from dissim_jax.distributed import compilation, preemption, processes
  from dissim_jax.pages.run import print_table, write_report
  from dissim_jax.studies.stitching import measure as stitching_measure

  command = shlex.join(["python", "-m", "dissim_jax.main", *sys.argv[1:]])
  several = processes.connect(**{name: holder.value for name, holder in _PROCESSES.items()})
  with preemption.handled(), compilation.cache():
    if several:
      experiment.train(_CONFIG.value, _WORKDIR.value, command)
    else:
      experiment.run(_CONFIG.value, _WORKDIR.value, command)
      stitching_measure.run(_CONFIG.value, _WORKDIR.value, experiment.run)
  if several:
    processes.leave()
  page = write_report(_WORKDIR.value)
  print_table(_WORKDIR.value)
  print(f"report: {page}")


if __name__ == "__main__":
  app.run(command_line.guarded(main), flags_parser=command_line.parse)
