"""Independent ResNet34s on CIFAR-10, the baseline of Wald et al. 2023, Table 1 (lambda 0).

The paper's values (5 seeds, test set): ensembles of two 95.44 %, of five 95.94 %, kappa 52.0 %.

  python -m dissim_jax.main --config=configs/cifar10_baseline.py --workdir=runs/cifar10_baseline
"""

from dissim_jax.configs import cifar10_expvar


def get_config():
  """As `cifar10_expvar`, without the penalty."""
  config = cifar10_expvar.get_config()
  config.dissim.weight = 0.0
  return config
