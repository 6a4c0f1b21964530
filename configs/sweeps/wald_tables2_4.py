"""Wald et al. 2023, Tables 2, 3 and 4: pairs of ResNet34s on CIFAR-10 by metric, tap and lambda.

ExpVar (Table 2), LinCKA (3) and L2Corr (4), each at taps 1, 3, 8 and 13 with lambda 0.25, 1 and 4,
beside an independent pair; five seeds. All pairs of a seed share their first member, so that there
are 5 x (2 + 36) = 190 models.

  python -m launch.local --sweep=configs/sweeps/wald_tables2_4.py --dry_run
  python -m launch.slurm --sweep=configs/sweeps/wald_tables2_4.py --cluster=CLUSTER.toml
  python -m dissim_jax.collect --root=runs/wald_tables2_4
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from dissim_jax.configs.sweeps.wald_table1 import SEEDS, TAPS, sequences
from dissim_jax.launch.sweep import Run

METRICS = ("expvar", "lincka", "l2corr")
LAMBDAS = (0.25, 1.0, 4.0)


def get_sweep():
  """The baseline of every seed, and a pair for every metric, tap and lambda."""
  yield from pairs("cifar10_expvar", list(itertools.product(METRICS, TAPS, LAMBDAS)))


def pairs(
  config: str,
  penalties: Sequence[tuple[str, int | tuple[int, ...], float]],
  overrides: dict[str, Any] | None = None,
  prefix: str = "",
) -> Iterator[Run]:
  """The runs of `sequences` of two members, five seeds; members of two seeds are not compared."""
  overrides = {**(overrides or {}), "ensemble.size": 2}
  entries = sequences(config, SEEDS, penalties, overrides, prefix)
  return (entry for entry in entries if isinstance(entry, Run))
