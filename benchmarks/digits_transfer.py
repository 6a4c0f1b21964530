"""Are members that were forced apart also apart for an attacker? Five seeds of the digits.

  python -m benchmarks.digits_transfer --root=runs/digits_transfer

T is attacked and so is the other member: an independent one, or one made dissimilar to T at one or
several taps, with a learned or a closed-form projection. Writes the runs below `--root` (started
again it goes on) and prints a Markdown table of mean ± standard deviation over seeds, with the
differences to the independent member paired by seed. Every kind of member 1 starts from the same
weights and sees the same batches as the independent one of its seed; the runs' reports have every
number. `--epsilon=32`: digits have 17 grey levels, so that this is two levels and a member's own
attack nearly always works; 8 is the published choice for photographs.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict

from dissim_jax import command_line, experiment
from dissim_jax.configs import digits_expvar
from dissim_jax.pages.run import write_report

_ROOT = flags.DEFINE_string("root", "runs/digits_transfer", "Folder of the runs.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Number of seeds.", lower_bound=1)
_EPSILON = flags.DEFINE_float("epsilon", 32.0, "Largest change of a pixel, of 255.")
_STEP = flags.DEFINE_float("step_size", 4.0, "Change in one iteration, of 255.")
_IMAGES = flags.DEFINE_integer("images", 500, "Test images, evenly spaced.", lower_bound=1)

_SEVERAL = tuple(digits_expvar.get_config().dissim.taps)
VARIANTS = {
  "tap 3, learned": ((3,), {"name": "learned"}),
  "tap 3, learned, 5 steps": ((3,), {"name": "learned", "inner_steps": 5}),
  "tap 3, closed form": ((3,), {}),
  "taps 2-4, learned": (_SEVERAL, {"name": "learned"}),
  "taps 2-4, learned, 5 steps": (_SEVERAL, {"name": "learned", "inner_steps": 5}),
  "taps 2-4, closed form": (_SEVERAL, {}),
}
COLUMNS = {
  "accuracy %": (100, 1),
  "own attack fools it %": (100, 1),
  "T's attack fools it %": (100, 1),
  "its attack fools T %": (100, 1),
  "s(T, it)": (1, 2),
  "both, clean %": (100, 1),
  "both, T attacked %": (100, 1),
  "both, it attacked %": (100, 1),
}


def config_of(seed: int, taps: tuple[int, ...] = (), projection: dict | None = None) -> ConfigDict:
  """The digits config of one seed and kind of member 1; independent without taps."""
  config = digits_expvar.get_config()
  config.seed = seed
  config.dissim.weight = 1.0 if taps else 0.0
  config.dissim.taps = taps or config.dissim.taps
  config.dissim.projection.update(projection or {})
  config.transfer.attack = "pgd"
  config.transfer.epsilon = _EPSILON.value / 255
  config.transfer.step_size = _STEP.value / 255
  config.transfer.images = _IMAGES.value
  return config


def numbers(workdir: Path) -> list[float]:
  """One row: the two members of a run under attack."""
  metrics = json.loads((workdir / "evaluation" / "transferability.json").read_text())
  pair = next(row for row in metrics["pairs"] if (row["a"], row["b"]) == ("member_0", "member_1"))
  both = {row["source"]: row for row in metrics["ensembles"] if row["size"] == 2}
  return [
    metrics["accuracy"]["member_1"],
    metrics["white_box"]["member_1"],
    pair["a_to_b"],
    pair["b_to_a"],
    pair["similarity"],
    both["member_0"]["clean"],
    both["member_0"]["attacked"],
    both["member_1"]["attacked"],
  ]


def run_seed(root: Path, seed: int) -> Iterator[tuple[str, list[float]]]:
  """(kind, row) of one seed; T and the independent member are trained once."""
  first = root / f"seed_{seed}"
  independent = first / "independent"
  experiment.run(config_of(seed), independent)
  yield "independent", numbers(independent)
  for name, (taps, projection) in VARIANTS.items():
    config = config_of(seed, taps, projection)
    config.ensemble.teachers = (str(independent / "member_0"),)
    config.ensemble.baseline = False
    workdir = first / name.replace(" ", "_").replace(",", "")
    experiment.run(config, workdir)
    write_report(str(workdir))
    yield name, numbers(workdir)


def row(name: str, values: np.ndarray) -> str:
  """Mean ± standard deviation (n - 1) over seeds, as a row of the table."""
  std = values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)
  cells = [
    f"{factor * m:.{digits}f} ± {factor * s:.{digits}f}"
    for m, s, (factor, digits) in zip(values.mean(0), std, COLUMNS.values(), strict=True)
  ]
  return f"| {name} | " + " | ".join(cells) + " |"


def main(argv: list[str]) -> None:
  """Runs everything and prints the table."""
  command_line.no_arguments(argv)
  logging.set_verbosity(logging.WARNING)
  rows: dict[str, list[list[float]]] = {}
  for seed in range(_SEEDS.value):
    for kind, values in run_seed(Path(_ROOT.value), seed):
      rows.setdefault(kind, []).append(values)
  table = {kind: np.array(values) for kind, values in rows.items()}
  print("| member 1 | " + " | ".join(COLUMNS) + " |")
  print("|---" * (len(COLUMNS) + 1) + "|")
  for kind, values in table.items():
    print(row(kind, values))
  for kind in VARIANTS:
    print(row(f"{kind}, less independent", table[kind] - table["independent"]))


if __name__ == "__main__":
  app.run(command_line.guarded(main), flags_parser=command_line.parse)
