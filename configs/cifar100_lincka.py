"""Two ResNet101s on CIFAR-100, made dissimilar by LinCKA at tap 20 (Wald et al. 2023, Figure 9).

Other taps of the paper: 1, 3, 32.

  python -m dissim_jax.main --config=configs/cifar100_lincka.py --workdir=runs/cifar100_lincka
"""

from dissim_jax.configs import cifar10_lincka


def get_config():
  """As `cifar10_lincka`, with 200 epochs."""
  config = cifar10_lincka.get_config()
  config.data.name = "cifar100"
  config.model.name = "resnet101"
  config.dissim.taps = (20,)
  config.train.epochs = 200
  return config
