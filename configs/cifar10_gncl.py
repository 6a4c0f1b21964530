"""Three ResNet34s on CIFAR-10, trained together to disagree (GNCL), beside independent ones.

Rosales et al. 2023, Eq. 2, with their lambda of 0.2; the rest is the training of Wald et al. 2023
(cifar10_expvar.py), so that ensembles can be compared. Differs from Rosales et al.: they train
ResNet50s on ImageNet for 100 epochs with AdaBelief. The corruptions are their four; `all` adds
those of ImageNet-C.

  python -m dissim_jax.main --config=configs/cifar10_gncl.py --workdir=runs/cifar10_gncl
"""

from dissim_jax.configs import cifar10_expvar


def get_config():
  """The networks and the budget of cifar10_expvar.py."""
  config = cifar10_expvar.get_config()
  config.ensemble.size = 3
  config.ensemble.baseline = True
  config.objective.name = "gncl"
  config.objective.weight = 0.2
  config.corruption.names = ("plasma_noise", "checkerboard_cutout", "water_drop", "lines")
  config.attribution.method = "saliency"
  return config
