"""Wald et al. 2023, appendix A.2: pairs of ResNet18s, ResNet34s and ResNet101s on CIFAR-10.

ExpVar with lambda 1 at four taps of each, and an independent pair; five seeds that share their
first member: 3 x 5 x (2 + 4) = 90 models. The paper names taps of the three only for ResNet34 on
CIFAR-10 (1, 3, 8, 13). These are the first and the last block of its first stage, and the first and
the last of its third; the same places are taken in the others. (ResNet101's taps 20 and 32 of
Figure 9 lie elsewhere: see `wald_resnet101_cifar100.py`.)

  python -m launch.local --sweep=configs/sweeps/wald_architectures.py --dry_run
  python -m launch.slurm --sweep=configs/sweeps/wald_architectures.py --cluster=CLUSTER.toml
  python -m dissim_jax.collect --root=runs/wald_architectures
"""

from dissim_jax.configs.sweeps.wald_tables2_4 import pairs

TAPS = {"resnet18": (1, 2, 5, 6), "resnet34": (1, 3, 8, 13), "resnet101": (1, 3, 8, 30)}


def get_sweep():
  """Per architecture the baseline of every seed, and a pair for every tap."""
  for name, taps in TAPS.items():
    penalties = [("expvar", tap, 1.0) for tap in taps]
    yield from pairs("cifar10_expvar", penalties, {"model.name": name}, prefix=f"{name}/")
