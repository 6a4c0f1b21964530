"""The table of `wald_table1.py` at a size that two cores finish in minutes: ResNet14s on digits.

Sequences of five, ExpVar with lambda 1 at taps 1, 2, 3 and 5, projection in closed form, 100
training images, 100 epochs; three seeds, 63 models.

  python -m launch.local --sweep=configs/sweeps/digits_table1.py --parallel=2
  python -m dissim_jax.collect --root=runs/digits_table1
"""

from dissim_jax.configs.sweeps.wald_table1 import sequences

SEEDS = (0, 1, 2)
TAPS = (1, 2, 3, 5)


def get_sweep():
  """The baseline of every seed, and a sequence for every tap."""
  penalties = [("expvar", tap, 1.0) for tap in TAPS]
  overrides = {"ensemble.size": 5, "train.epochs": 100}
  yield from sequences("digits_expvar", SEEDS, penalties, overrides)
