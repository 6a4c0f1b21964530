"""Analyses a pool of models by how attacks transfer between them.

  python -m dissim_jax.analyse --folder=runs/pool/transfer --clusters=4

Reads only what `python -m dissim_jax.transfer` wrote, and needs no device. Writes analysis.html,
its pictures, analysis.json (all numbers) and pairs.csv to FOLDER/analysis, and prints the main
findings.
"""

from typing import Any

from absl import app, flags

from dissim_jax import command_line
from dissim_jax.studies.pool.settings import Settings

_NUMBERS = {
  "clusters": "Number of clusters; 0 = 10 for 69 models, as in the paper, and at least 2.",
  "restarts": "Runs of K-means, of which the best counts.",
  "keywords": "Keywords named for each cluster.",
  "stages": "Boosting stages.",
  "max_depth": "Depth of a tree.",
  "least_samples": "A node of a tree with fewer pairs is not split.",
  "repeats": "Times each component is permuted.",
  "folds": "Parts of the architectures that are held out in turn.",
  "ensemble_size": "Models of the largest ensemble.",
  "most_ensembles": "Ensembles of one size and number of clusters; more are sampled.",
  "permutations": "Permutations of the models, for p-values.",
  "seed": "Of everything that is drawn at random.",
}


def define_flags(values: flags.FlagValues = flags.FLAGS) -> dict[str, flags.FlagHolder]:
  """Defines the flags of this program; named as the arguments of `pool.write_page`."""
  command_line.define_plugins(values)
  default, where = Settings(), {"flag_values": values}
  holders = [
    flags.DEFINE_string("folder", None, "Folder with transfer.json and transfer.npz.", **where),
    flags.DEFINE_string("out", None, "Folder for the results. Default: FOLDER/analysis.", **where),
    command_line.define_number("rate", default.rate, "Learning rate of boosting.", values),
    command_line.define_number(
      "confidence", default.confidence, "Of the band around trend lines.", values
    ),
    command_line.define_several(
      "accuracy_band",
      default.accuracy_band,
      "Lowest and highest accuracy of models whose categories are compared.",
      values,
      False,
    ),
  ]
  holders += [
    command_line.define_whole(name, getattr(default, name), help_text, values)
    for name, help_text in _NUMBERS.items()
  ]
  return {holder.name: holder for holder in holders}


def main(argv: list[str], holders: dict[str, flags.FlagHolder]) -> None:
  """Analyses what the flags name."""
  command_line.no_arguments(argv)
  command_line.require(holders["folder"])
  command_line.loading("the analysis", "sklearn")
  import rich.console

  from dissim_jax.studies.pool import page as pool_page

  given: dict[str, Any] = {name: holder.value for name, holder in holders.items()}
  page = pool_page.write_page(**given, console=rich.console.Console())
  print(f"page: {page}")


if __name__ == "__main__":
  _HOLDERS = define_flags()
  app.run(command_line.guarded(lambda argv: main(argv, _HOLDERS)), flags_parser=command_line.parse)
