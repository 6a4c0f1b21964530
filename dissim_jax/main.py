"""Command line: `python -m dissim_jax.main --config=configs/digits_expvar.py --workdir=runs/digits`."""

import shlex
import sys

from absl import app, flags
from ml_collections import config_flags

from dissim_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "File that builds the experiment.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints, results and report.")


def main(argv: list[str]) -> None:
  """Runs the experiment of the flags."""
  if len(argv) > 1:
    raise UserError(f"unexpected argument {argv[1]!r}: give values as --name=value")
  for flag in (_CONFIG, _WORKDIR):
    if not flag.value:
      raise UserError(f"--{flag.name} is missing")
  from dissim_jax import report, sequence  # Imports JAX: not before the flags are right.

  sequence.run(_CONFIG.value, _WORKDIR.value, shlex.join(["python", "-m", __spec__.name, *sys.argv[1:]]))
  report.print_table(_WORKDIR.value)
  print(f"report: {report.write_report(_WORKDIR.value)}")


if __name__ == "__main__":
  app.run(main)
