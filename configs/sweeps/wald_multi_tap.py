"""Wald et al. 2023, Figure 8: pairs of ResNet34s on CIFAR-10, made dissimilar at several taps.

ExpVar with lambda 1, the mean over the taps of a set. The paper does not print its sets: these are
nested, of the taps of its Table 1, and grow from the middle tap 8. An independent pair beside them;
five seeds that share their first member: 5 x (2 + 4) = 30 models.

  python -m launch.local --sweep=configs/sweeps/wald_multi_tap.py --dry_run
  python -m launch.slurm --sweep=configs/sweeps/wald_multi_tap.py --cluster=CLUSTER.toml
  python -m dissim_jax.collect --root=runs/wald_multi_tap
"""

from dissim_jax.configs.sweeps.wald_tables2_4 import pairs

TAP_SETS = ((8,), (3, 8), (3, 8, 13), (1, 3, 8, 13))


def get_sweep():
  """The baseline of every seed, and a pair for every set of taps."""
  yield from pairs("cifar10_expvar", [("expvar", taps, 1.0) for taps in TAP_SETS])
