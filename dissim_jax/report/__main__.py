"""Writes the report of a finished run and prints its table.

  python -m dissim_jax.report --workdir=DIR
"""

import sys

from absl import app, flags

from dissim_jax import report
from dissim_jax.errors import UserError


def run(workdir: str | None, extra: tuple = ()) -> int:
  """Writes and prints the report; returns the exit code (2: the user can mend it)."""
  try:
    if extra:
      raise UserError(f"{extra[0]!r} is not a flag; give the directory as --workdir=DIR.")
    if not workdir:
      raise UserError("--workdir is not given: it must name the directory of a finished run.")
    path = report.write_report(workdir)
    report.print_table(workdir)
  except UserError as error:
    print(error, file=sys.stderr)
    return 2
  print(path)
  return 0


if __name__ == "__main__":
  _WORKDIR = flags.DEFINE_string("workdir", None, "directory of a finished run")
  app.run(lambda argv: run(_WORKDIR.value, tuple(argv[1:])))
