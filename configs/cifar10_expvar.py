"""Sequences of ResNet34s on CIFAR-10, made dissimilar by ExpVar at tap 8: `cifar10:expvar`.

Wald et al. 2023, section 3, Table 1; `cifar10.py` has its values, and the other methods.

  python -m dissim_jax.main --config=configs/cifar10_expvar.py --workdir=runs/cifar10_expvar
"""

from dissim_jax.configs import cifar10


def get_config():
  """Hyperparameters of Wald et al. 2023, appendix A.1."""
  return cifar10.get_config("expvar")
