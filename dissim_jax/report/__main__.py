"""Writes the report of a finished run and prints its table.

  python -m dissim_jax.report --workdir=DIR
"""

from absl import app, flags

from dissim_jax import command_line, report


def run(workdir: str) -> None:
  """Writes the page, prints the table and the path of the page; raises UserError."""
  page = report.write_report(workdir)
  report.print_table(workdir)
  print(f"report: {page}")


if __name__ == "__main__":
  _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.")

  def main(argv: list[str]) -> None:
    """Reports the run that the flag names."""
    command_line.no_arguments(argv)
    command_line.require(_WORKDIR)
    run(_WORKDIR.value)

  app.run(command_line.guarded(main), flags_parser=command_line.parse)
