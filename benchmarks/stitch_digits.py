"""Can a network be stitched to one that was forced to differ from it? Three seeds of the digits.

  python -m benchmarks.stitch_digits --root=runs/stitch_digits

Runs `configs/stitch_digits.py` for every seed below `--root` (started again it goes on) and prints
a Markdown table: accuracy of the stitched network in % of the target's, at every tap, mean ±
standard deviation over seeds. The control joins an untrained network to the same targets: what a
trained stitch and the target's upper half make of random features.
"""

import json
from pathlib import Path

import jax
import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict

from dissim_jax import command_line, experiment
from dissim_jax.configs import stitch_digits
from dissim_jax.data import load
from dissim_jax.distributed import devices
from dissim_jax.files.atomic import read_json, write_json
from dissim_jax.members.member import Member
from dissim_jax.members.store import load_member
from dissim_jax.models import init_variables
from dissim_jax.pages.run import write_report
from dissim_jax.studies.stitching import measure as stitching_measure
from dissim_jax.studies.stitching.experiments import matching

_ROOT = flags.DEFINE_string("root", "runs/stitch_digits", "Folder of the runs.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)

TARGETS = {"independent_1": "independent", "member_1": "dissimilar"}
METHODS = ("identity", "least_squares", "orthogonal", "task_loss")
CONTROLS = ("least_squares", "task_loss")


def run_seed(root: Path, seed: int) -> dict[str, dict]:
  """By target: accuracy of the target, its taps, and relative accuracies by row of the table."""
  config, workdir = stitch_digits.get_config(), root / f"seed_{seed}"
  config.seed = seed
  config.stitch.experiments = ("matching",)
  experiment.run(config, workdir)
  stitching_measure.run(config, workdir, experiment.run)
  write_report(workdir)
  by_target = {}
  for target in TARGETS:
    file = workdir / "stitching" / "matching" / f"member_0-{target}.json"
    values = json.loads(file.read_text())
    methods = values["results"]["methods"]
    rows = {f"T by {name}": methods[name]["relative_accuracy"] for name in METHODS}
    control = untrained(config, workdir, target)
    rows |= {f"an untrained network by {name}": control[name] for name in CONTROLS}
    by_target[target] = {
      "accuracy": values["target_accuracy"],
      "taps": values["taps"],
      "rows": rows,
    }
  return by_target


def untrained(config: ConfigDict, workdir: Path, target: str) -> dict[str, list[float]]:
  """Relative accuracies of a network that was never trained, stitched to a member."""
  file = workdir / "control" / f"{target}.json"
  if not file.exists():
    mesh, dataset = devices.make_mesh(), load(config.data)
    member = load_member(target, workdir / target, config.dtype, mesh, "target")
    variables = init_variables(member.model, jax.random.key(config.seed), dataset.image_shape)
    source = Member(
      "untrained", member.model, devices.replicate(variables, mesh), member.mean, member.std
    )
    study = stitching_measure.pair_of_run(config, config.stitch, dataset, source, member, mesh)
    methods = matching(study, CONTROLS)[0]["methods"]
    write_json(file, {name: methods[name]["relative_accuracy"] for name in CONTROLS})
  return read_json(file)


def main(argv: list[str]) -> None:
  """Runs everything and prints the table."""
  command_line.no_arguments(argv)
  logging.set_verbosity(logging.WARNING)
  runs = [run_seed(Path(_ROOT.value), seed) for seed in range(_SEEDS.value)]
  taps = runs[0]["member_1"]["taps"]
  print("| target | stitched | " + " | ".join(f"tap {tap}" for tap in taps) + " |")
  print("|---" * (len(taps) + 2) + "|")
  for target, kind in TARGETS.items():
    for name in runs[0][target]["rows"]:
      rows = [run[target]["rows"][name] for run in runs]
      mean, std = 100 * np.mean(rows, 0), 100 * np.std(rows, 0)
      cells = [f"{m:.1f} ± {s:.1f}" for m, s in zip(mean, std, strict=True)]
      print(f"| {kind} | {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
  for target, kind in TARGETS.items():
    accuracies = [round(100 * run[target]["accuracy"], 2) for run in runs]
    print(f"accuracy of the {kind} target by seed: {accuracies}")


if __name__ == "__main__":
  app.run(command_line.guarded(main), flags_parser=command_line.parse)
