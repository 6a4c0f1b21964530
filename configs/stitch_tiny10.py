"""Tiny-10 networks on CIFAR-10, stitched in pairs at each of their eight convolutions.

Csiszárik et al. 2021, experiments 1, 3, 5, 6, 7 and section 7: ten independent networks in five
pairs, both ways (the paper averages over ten runs). The paper's values for experiment 1 are in its
Figure 2: task loss keeps the accuracy, least squares loses some of it. Its experiment 5 has 50
starts of each kind: --config.stitch.starts=50

  python -m dissim_jax.main --config=configs/stitch_tiny10.py --workdir=runs/stitch_tiny10
"""

from dissim_jax.configs import cifar10


def get_config():
  """Stitches as in the paper; networks with common settings (the paper's are in its appendix)."""
  config = cifar10.get_config("baseline")
  config.model.name = "tiny10"
  config.ensemble.size = 10
  config.dissim.taps = ()  # lambda is 0
  config.augment.autoaugment = "none"
  config.augment.cutout = 0
  config.train.epochs = 100
  config.stitch.experiments = (
    "matching",
    "indices",
    "initialisation",
    "connectivity",
    "sparsity",
    "low_rank",
  )
  couples = [(i, i + 1) for i in range(0, 10, 2)]
  config.stitch.pairs = tuple(
    f"member_{a}:member_{b}" for i, j in couples for a, b in ((i, j), (j, i))
  )
  return config
