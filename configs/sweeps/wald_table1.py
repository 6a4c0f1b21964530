"""Wald et al. 2023, Tables 1 and 5, Figures 3, 4, 5, 7: sequences of five ResNet34s on CIFAR-10.

ExpVar with lambda 1 at taps 1, 3, 8 and 13, and independent members; five seeds. The first member
of a seed is trained once, so that there are 5 x (5 + 4 x 4) = 105 models.

  python -m launch.local --sweep=configs/sweeps/wald_table1.py --dry_run
  python -m launch.slurm --sweep=configs/sweeps/wald_table1.py --cluster=CLUSTER.toml
  python -m dissim_jax.collect --root=runs/wald_table1
"""

from collections.abc import Iterator, Sequence
from typing import Any

from dissim_jax.launch.sweep import Comparison, Run

SEEDS = (0, 1, 2, 3, 4)
TAPS = (1, 3, 8, 13)


def get_sweep():
  """The baseline of every seed, and a sequence for every tap."""
  yield from sequences("cifar10_expvar", SEEDS, [("expvar", tap, 1.0) for tap in TAPS])


def sequences(
  config: str,
  seeds: Sequence[int],
  penalties: Sequence[tuple[str, int | tuple[int, ...], float]],
  overrides: dict[str, Any] | None = None,
  prefix: str = "",
) -> Iterator[Run | Comparison]:
  """Per seed an independent sequence, and for every penalty one that begins with its first member.

  For every penalty the sequences of the first two seeds are also compared with each other.

  Args:
    config: file of the base config.
    seeds: one sequence each.
    penalties: (metric, tap or taps, lambda) of each sequence.
    overrides: of all runs.
    prefix: of the names of all runs.
  """
  common = {"ensemble.baseline": False, **(overrides or {})}
  for seed in seeds:
    baseline = f"{prefix}seed_{seed}/baseline"
    yield Run(baseline, config, {**common, "seed": seed, "dissim.weight": 0.0})
    for metric, taps, weight in penalties:
      values = {"seed": seed, "dissim.metric": metric, "dissim.taps": _tuple(taps)}
      values["dissim.weight"] = weight
      name = f"{prefix}seed_{seed}/{_label(metric, taps, weight)}"
      yield Run(name, config, {**common, **values}, teachers=(f"{baseline}/member_0",))
  if len(seeds) > 1:
    for penalty in penalties:
      label = _label(*penalty)
      runs = tuple(f"{prefix}seed_{seed}/{label}" for seed in seeds[:2])
      yield Comparison(f"{prefix}across_seeds/{label}", runs, members=("member_0", "member_1"))


def _tuple(taps: int | tuple[int, ...]) -> tuple[int, ...]:
  return taps if isinstance(taps, tuple) else (taps,)


def _label(metric: str, taps: int | tuple[int, ...], weight: float) -> str:
  """`expvar_tap_8`, `lincka_taps_3_8_lambda_0.25`."""
  numbers = _tuple(taps)
  label = f"{metric}_tap{'s' * (len(numbers) > 1)}_{'_'.join(map(str, numbers))}"
  return label if weight == 1 else f"{label}_lambda_{weight:g}"
