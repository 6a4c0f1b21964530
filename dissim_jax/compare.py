"""Compares the representations of trained members, at all pairs of taps, on their test images.

  python -m dissim_jax.compare --workdir=RUN --measures=lincka,svcca,procrustes
  python -m dissim_jax.compare --workdir=RUN --workdir=OTHER --members=member_1 --taps=3,5

RUN is the folder of a run, or of one member of it. Tables, a heat map of each measure and a page
that shows them (comparison.html) go to RUN/comparison.
"""

from typing import Any

from absl import app, flags

from dissim_jax import command_line
from dissim_jax.registry.measures import MEASURES


def define_flags(values: flags.FlagValues = flags.FLAGS) -> dict[str, flags.FlagHolder]:
  """Defines the flags, named as the arguments of `studies.similarity.compare.run`."""
  command_line.define_plugins(values)
  where = {"flag_values": values}
  comparable = [name for name, measure in MEASURES.items() if not measure.aligned]
  of = {
    kind: [name for name in comparable if MEASURES[name].samples == kind]
    for kind in ("position", "example")
  }
  holders = (
    flags.DEFINE_multi_string(
      "workdir", None, "Folder of a run or of one member. Give it twice to compare two", **where
    ),
    command_line.define_several(
      "measures",
      ["lincka"],
      f"What to measure by: {', '.join(comparable)}.",
      values,
    ),
    command_line.define_several(
      "members", [], "Names of the members to compare. Default: all.", values
    ),
    command_line.define_several("taps", ["all"], "Numbers of the taps to compare, or all.", values),
    flags.DEFINE_multi_string("option", [], "Option of a measure: svcca.variance=0.95", **where),
    flags.DEFINE_string(
      "samples",
      "position",
      f"What {', '.join(of['position'])} take for a sample: position is every position of every "
      "image; pooled is every image, its taps averaged over space.",
      **where,
    ),
    flags.DEFINE_bool(
      "resize",
      False,
      "With samples=position: compare taps of different sizes too, the larger resized to the "
      "smaller (bilinear, antialiased). Without, these pairs have no value.",
      **where,
    ),
    command_line.define_whole(
      "batch_size",
      128,
      f"Images at a time. {', '.join(of['example'])} compare images within a batch.",
      values,
    ),
    command_line.define_whole("images", None, "So many test images, of every class alike.", values),
    flags.DEFINE_string("out", None, "Folder for the results. Default: RUN/comparison.", **where),
  )
  return {holder.name: holder for holder in holders}


def arguments(holders: dict[str, flags.FlagHolder]) -> dict[str, Any]:
  """The arguments of `studies.similarity.compare.run` that the parsed flags give."""
  command_line.require(holders["workdir"], holders["measures"], holders["taps"])
  return {name: holder.value for name, holder in holders.items()}


def main(argv: list[str], holders: dict[str, flags.FlagHolder]) -> None:
  """Compares what the flags describe."""
  command_line.no_arguments(argv)
  given = arguments(holders)
  with command_line.computing("compare") as command:
    from dissim_jax.files import layout
    from dissim_jax.studies.similarity import compare
    from dissim_jax.studies.similarity import page as similarity_page

    folder = compare.run(**given, command=command)
  similarity_page.print_table(folder)
  print(f"page: {folder / layout.COMPARISON_PAGE}")


if __name__ == "__main__":
  _HOLDERS = define_flags()
  app.run(command_line.guarded(lambda argv: main(argv, _HOLDERS)), flags_parser=command_line.parse)
