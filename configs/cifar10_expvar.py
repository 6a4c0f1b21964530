"""Sequences of ResNet34s on CIFAR-10, made dissimilar by ExpVar at tap 8.

Wald et al. 2023, section 3, Table 1: five members, lambda 1, the projection learned beside the
member. The paper's values (5 seeds, test set): ensembles of two 95.57 % (baseline 95.44 %), of five
96.10 % (95.94 %), kappa 45.4 % (52.0 %). Other taps of the paper: 1, 3, 13.

  python -m dissim_jax.main --config=configs/cifar10_expvar.py --workdir=runs/cifar10_expvar
"""

from dissim_jax.configs import default


def get_config():
  """Hyperparameters of Wald et al. 2023, appendix A.1."""
  config = default.get_config()
  config.data.name = "cifar10"
  config.data.validation = 10_000
  config.data.mean = (0.4914, 0.4822, 0.4465)
  config.data.std = (0.2023, 0.1994, 0.2010)
  config.augment.crop_padding = 4
  config.augment.crop_fill = 128
  config.augment.flip = True  # the authors' code; the paper's text does not mention it
  config.augment.autoaugment = "cifar10"
  config.augment.cutout = 16
  config.model.name = "resnet34"
  config.ensemble.size = 5
  config.ensemble.baseline = False  # cifar10_baseline.py serves all sequences of a seed
  config.dissim.metric = "expvar"
  config.dissim.taps = (8,)
  config.dissim.weight = 1.0
  config.dissim.projection.name = "learned"
  config.optimizer.learning_rate = 0.1
  config.optimizer.momentum = 0.9
  config.optimizer.nesterov = True
  config.optimizer.weight_decay = 5e-4
  config.train.batch_size = 128
  config.train.epochs = 250
  config.train.checkpoint_every_epochs = 5
  return config
