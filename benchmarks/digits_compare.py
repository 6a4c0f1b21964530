"""What does it buy to force members apart? Independent, dissimilar and GNCL ensembles of digits.

  python -m benchmarks.digits_compare --root=runs/compare

Runs `configs/digits_compare.py` for every seed below `--root` (started again it goes on), writes
the page over seeds to `--root`/report, and prints a Markdown table: mean ± standard deviation over
seeds, on clean test images and over all corruptions and severities.
"""

import json
from pathlib import Path

import numpy as np
from absl import app, flags, logging

from dissim_jax import command_line, experiment
from dissim_jax.configs import digits_compare
from dissim_jax.pages.run import write_report
from dissim_jax.pages.seeds import write_seeds

_ROOT = flags.DEFINE_string("root", "runs/compare", "Folder of the runs.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=2)

COLUMNS = {
  "member_accuracy": "members %",
  "ensemble_accuracy": "ensemble %",
  "error_consistency": "error consistency %",
  "jensen_shannon_divergence": "JSD %",
}


def run_seed(root: Path, seed: int) -> dict[str, dict[str, list[float]]]:
  """By kind of images and ensemble: the numbers of COLUMNS, in percent."""
  config, workdir = digits_compare.get_config(), root / f"seed_{seed}"
  config.seed = seed
  experiment.run(config, workdir, f"python -m benchmarks.digits_compare --root={root}")
  write_report(workdir)
  metrics = json.loads((workdir / "evaluation" / "robustness.json").read_text())
  kinds = {"clean": [metrics["clean"]], "corrupted": metrics["conditions"]}
  return {
    kind: {
      name: [
        # A kappa without errors is undefined, and null.
        100 * np.nanmean(np.array([row["sequences"][name][column] for row in conditions], float))
        for column in COLUMNS
      ]
      for name in metrics["clean"]["sequences"]
    }
    for kind, conditions in kinds.items()
  }


def spread(values: np.ndarray) -> str:
  """Mean ± standard deviation over seeds (the first axis)."""
  return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"


def main(argv: list[str]) -> None:
  """Runs everything and prints the table."""
  command_line.no_arguments(argv)
  logging.set_verbosity(logging.WARNING)
  root, seeds = Path(_ROOT.value), range(_SEEDS.value)
  runs = [run_seed(root, seed) for seed in seeds]
  page = write_seeds([root / f"seed_{seed}" for seed in seeds])
  difference = "ensemble less baseline's"
  print(f"| images | ensemble | {' | '.join(COLUMNS.values())} | {difference} |")
  print("|---" * (len(COLUMNS) + 3) + "|")
  place = list(COLUMNS).index("ensemble_accuracy")
  for kind, ensembles in runs[0].items():
    for name in ensembles:
      values = np.array([run[kind][name] for run in runs])
      baseline = np.array([run[kind]["baseline"][place] for run in runs])
      cells = [*(spread(column) for column in values.T), spread(values[:, place] - baseline)]
      print(f"| {kind} | {name} | " + " | ".join(cells) + " |")
  print(f"report: {page}")


if __name__ == "__main__":
  app.run(command_line.guarded(main), flags_parser=command_line.parse)
