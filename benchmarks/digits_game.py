"""Does the game work? Five seeds of the digits, three projections, against independent members.

  python -m benchmarks.digits_game --root=runs/digits_game

Writes the runs below `--root` (started again it goes on) and prints a Markdown table of mean ±
standard deviation over seeds. Every kind of member 1 starts from the same weights and sees the
same batches as the independent one of its seed.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict

from dissim_jax import command_line, experiment
from dissim_jax.configs import digits_expvar

_ROOT = flags.DEFINE_string("root", "runs/digits_game", "Folder of the runs.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Number of seeds.", lower_bound=1)

VARIANTS = {
  "learned projection, 1 step": {"name": "learned", "inner_steps": 1},
  "learned projection, 5 steps": {"name": "learned", "inner_steps": 5},
  "closed form": {"name": "least_squares"},
  "closed form, tap 3 alone": {"name": "least_squares", "taps": (3,)},
}
COLUMNS = {
  "LinCKA at the tap(s)": (1, 2),
  "R² at the tap(s)": (1, 2),
  "accuracy of member 1 %": (100, 2),
  "error consistency": (1, 3),
  "label kappa": (1, 3),
  "JSD %": (100, 2),
  "ensemble accuracy %": (100, 2),
}


def config_of(seed: int, variant: dict) -> ConfigDict:
  """The digits config of one seed and projection."""
  config = digits_expvar.get_config()
  config.seed = seed
  config.dissim.taps = variant.get("taps", config.dissim.taps)
  for field, value in variant.items():
    if field != "taps":
      config.dissim.projection[field] = value
  return config


def numbers(workdir: Path, other: str, sequence_name: str, taps: tuple[int, ...]) -> list[float]:
  """One row: similarities of member 0 and `other` at the taps, and what the pair predicts."""
  metrics = json.loads((workdir / "evaluation" / "metrics.json").read_text())
  with np.load(workdir / "evaluation" / "similarity.npz", allow_pickle=False) as arrays:
    similar = [
      float(arrays[f"{kind}/member_0/{other}"][list(taps)].mean())
      for kind in ("lincka_position", "r2")
    ]
  row = next(r for r in metrics["ensembles"] if r["sequence"] == sequence_name)
  fields = (
    "member_accuracy",
    "error_consistency",
    "cohens_kappa_label",
    "jensen_shannon_divergence",
    "ensemble_accuracy",
  )
  return similar + [row[field] for field in fields]


def run_seed(root: Path, seed: int) -> Iterator[tuple[str, list[float]]]:
  """(kind, row) of one seed; the first member and the independent one are trained once."""
  first = root / f"seed_{seed}"
  baseline = config_of(seed, {})
  baseline.dissim.weight = 0.0
  experiment.run(baseline, first / "independent")
  taps = digits_expvar.get_config().dissim.taps
  yield "independent", numbers(first / "independent", "member_1", "baseline", taps)
  for name, variant in VARIANTS.items():
    config = config_of(seed, variant)
    config.ensemble.teachers = (str(first / "independent" / "member_0"),)
    config.ensemble.baseline = False
    workdir = first / name.replace(" ", "_").replace(",", "")
    experiment.run(config, workdir)
    yield name, numbers(workdir, "member_1", "dissimilar", config.dissim.taps)


def main(argv: list[str]) -> None:
  """Runs everything and prints the table."""
  command_line.no_arguments(argv)
  logging.set_verbosity(logging.WARNING)
  rows: dict[str, list[list[float]]] = {}
  for seed in range(_SEEDS.value):
    for kind, row in run_seed(Path(_ROOT.value), seed):
      rows.setdefault(kind, []).append(row)
  print("| member 1 | " + " | ".join(COLUMNS) + " |")
  print("|---" * (len(COLUMNS) + 1) + "|")
  for kind, values in rows.items():
    mean, std = np.mean(values, 0), np.std(values, 0)
    cells = [
      f"{factor * m:.{digits}f} ± {factor * s:.{digits}f}"
      for m, s, (factor, digits) in zip(mean, std, COLUMNS.values(), strict=True)
    ]
    print(f"| {kind} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
  app.run(command_line.guarded(main), flags_parser=command_line.parse)
