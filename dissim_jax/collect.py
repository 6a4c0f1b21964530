"""Writes the tables and figures of Wald et al. 2023 from the finished runs of a sweep.

  python -m dissim_jax.collect --root=runs/wald_table1

Reads only what finished runs have saved; missing runs are gaps with a count. Writes tables.html,
tables.csv, tables.tex and figure_*.png to ROOT/tables, and prints the tables.
"""

import os

from absl import app, flags

from dissim_jax import command_line


def run(root: str | os.PathLike, output: str | os.PathLike | None = None) -> None:
  """Writes the files, prints the tables and the path of the page; raises UserError."""
  from dissim_jax.pages.sweep import page as sweep_page  # Slow to import, as the pictures are.

  page = sweep_page.write_tables(root, output)
  sweep_page.print_tables(root)
  print(f"page: {page}")


if __name__ == "__main__":
  command_line.define_plugins()
  _ROOT = flags.DEFINE_string(
    "root", None, "Folder of a sweep (it holds sweep.json), or one that finished runs are in."
  )
  _OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for tables and figures. Default: ROOT/tables."
  )

  def main(argv: list[str]) -> None:
    """Collects what the flags name."""
    command_line.no_arguments(argv)
    command_line.require(_ROOT)
    command_line.loading("the results", "matplotlib")
    run(_ROOT.value, _OUTPUT.value)

  app.run(command_line.guarded(main), flags_parser=command_line.parse)
