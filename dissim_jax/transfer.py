"""Measures how similar trained members are by whether attacks on one fool the other.

  python -m dissim_jax.transfer --members=runs/pool --out=runs/pool_transfer
  python -m dissim_jax.transfer --members=RUN/member_2 --out=runs/pool_transfer

What --members names is a member, a run, or a folder with runs anywhere below it. A second call with
the same --out adds members to it and attacks these alone. The analysis of all is OUT/analysis;
`python -m dissim_jax.analyse` makes it again with other settings.
"""

from typing import Any

from absl import app, flags

from dissim_jax import command_line
from dissim_jax.registry import attacks


def define_flags(values: flags.FlagValues = flags.FLAGS) -> dict[str, flags.FlagHolder]:
  """Defines the flags of this program; named as the arguments of `studies.pool.measure.run`."""
  command_line.define_plugins(values)
  where = {"flag_values": values}
  holders = (
    flags.DEFINE_multi_string(
      "members",
      [],
      "Folder of a member, of a run, or of runs. Give it as often as needed.",
      **where,
    ),
    flags.DEFINE_string("out", None, "Folder for the results; members that it has stay.", **where),
    flags.DEFINE_string(
      "attack",
      None,
      f"{', '.join(attacks.ATTACKS)}. Default of it and its settings: as in the folder, or pgd.",
      **where,
    ),
    *command_line.define_settings(attacks.settings(), values),
    command_line.define_whole(
      "images", None, "Test images, as many of every class. Default: 1000.", values
    ),
    command_line.define_number(
      "floor",
      None,
      "eps_s: the percentage that a similarity of nothing counts as. Default: 0.01.",
      values,
    ),
    command_line.define_whole("batch_size", 128, "Images at a time.", values),
    flags.DEFINE_bool(
      "one_sided",
      False,
      "Compare added members with those of the folder by the attack on the added one alone.",
      **where,
    ),
    flags.DEFINE_bool(
      "keep_images", True, "Keep adversarial images for members that are added later.", **where
    ),
  )
  return {holder.name: holder for holder in holders}


def arguments(holders: dict[str, flags.FlagHolder]) -> dict[str, Any]:
  """The arguments of `studies.pool.measure.run` that the parsed flags give."""
  command_line.require(holders["out"])
  return {name: holder.value for name, holder in holders.items()}


def main(argv: list[str], holders: dict[str, flags.FlagHolder]) -> None:
  """Measures what the flags describe."""
  command_line.no_arguments(argv)
  given = arguments(holders)
  with command_line.computing("transfer") as command:
    from dissim_jax.studies.pool import measure as pool_measure
    from dissim_jax.studies.pool import page as pool_page

    folder = pool_measure.run(**given, command=command)
  pool_measure.print_table(folder)
  print(f"page: {pool_page.write_page(folder)}")


if __name__ == "__main__":
  _HOLDERS = define_flags()
  app.run(command_line.guarded(lambda argv: main(argv, _HOLDERS)), flags_parser=command_line.parse)
