"""Wald et al. 2023, Figure 9: pairs of ResNet101s on CIFAR-100, made dissimilar by LinCKA.

Lambda 1 at taps 1, 3, 20 and 32, and an independent pair; five seeds that share their first member:
5 x (2 + 4) = 30 models.

  python -m launch.local --sweep=configs/sweeps/wald_resnet101_cifar100.py --dry_run
  python -m launch.slurm --sweep=configs/sweeps/wald_resnet101_cifar100.py --cluster=CLUSTER.toml
  python -m dissim_jax.collect --root=runs/wald_resnet101_cifar100
"""

from dissim_jax.configs.sweeps.wald_tables2_4 import pairs

TAPS = (1, 3, 20, 32)


def get_sweep():
  """The baseline of every seed, and a pair for every tap."""
  yield from pairs("cifar10:cifar100", [("lincka", tap, 1.0) for tap in TAPS])
