"""Two ResNet34s on CIFAR-10, made dissimilar by L2Corr at tap 8 (Wald et al. 2023, Table 4).

The paper's value for lambda 1 (5 seeds, test set): ensemble 95.64 %, new member 94.86 %, kappa
47.8 %. At tap 1 it reports runs that fall apart (new member 70.0 ± 24.8 %); `l2corr_squared`, the
authors' code's form, is more stable.

  python -m dissim_jax.main --config=configs/cifar10_l2corr.py --workdir=runs/cifar10_l2corr
"""

from dissim_jax.configs import cifar10_expvar


def get_config():
  """As `cifar10_expvar`, two members, another measure."""
  config = cifar10_expvar.get_config()
  config.ensemble.size = 2
  config.dissim.metric = "l2corr"
  return config
