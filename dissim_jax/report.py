"""Writes the report of a finished run, or of several that differ in their seed, and prints a table.

python -m dissim_jax.report --workdir=RUN
python -m dissim_jax.report --workdir=SEED_0 --workdir=SEED_1 --workdir=SEED_2 [--output=DIR]
"""

import os

from absl import app, flags

from dissim_jax import command_line
from dissim_jax.errors import UserError


def run(*workdirs: str | os.PathLike, output: str | None = None) -> None:
  """Writes the page, prints the table and the path of the page; raises UserError."""
  from dissim_jax.pages import run as run_page
  from dissim_jax.pages import seeds as seeds_page  # Slow to import, as the pictures are.

  if len(workdirs) > 1:
    page = seeds_page.write_seeds(list(workdirs), output)
    seeds_page.print_seeds(list(workdirs))
  elif output:
    raise UserError(
      f"--output={output}: the report of one run goes to its own folder; give "
      "--workdir several times to report on several runs."
    )
  else:
    page = run_page.write_report(workdirs[0])
    run_page.print_table(workdirs[0])
  print(f"report: {page}")


if __name__ == "__main__":
  command_line.define_plugins()
  _WORKDIR = flags.DEFINE_multi_string(
    "workdir",
    None,
    "Folder of a finished run. Give several that differ in the seed alone for "
    "means and standard deviations over seeds.",
  )
  _OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Of several runs: folder for the page. Default: report/ in the folder that all runs lie in.",
  )

  def main(argv: list[str]) -> None:
    """Reports the runs that the flags name."""
    command_line.no_arguments(argv)
    command_line.require(_WORKDIR)
    command_line.loading("the report", "matplotlib")
    run(*_WORKDIR.value, output=_OUTPUT.value)

  app.run(command_line.guarded(main), flags_parser=command_line.parse)
