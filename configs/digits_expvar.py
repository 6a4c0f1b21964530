"""Two networks that read digits differently, beside two that were trained independently.

ResNets of 14 layers on scikit-learn's 8x8 digits, 100 images for training and 1697 for the test, so
that there are errors to compare. Made dissimilar by ExpVar at taps 2, 3 and 4, projection in closed
form. docs/results.md has the results of five seeds.

  python -m dissim_jax.main --config=configs/digits_expvar.py --workdir=runs/digits
"""

from dissim_jax.configs import default


def get_config():
  """Explored on seeds 0-4 and 10-14; this combination was picked on 10-14, reported on 0-4."""
  config = default.get_config()
  config.augment.crop_padding = 1
  config.dissim.taps = (2, 3, 4)
  config.optimizer.weight_decay = 6e-3  # 100 images need more than 50,000 do
  config.train.epochs = 200
  config.train.checkpoint_every_epochs = 50
  return config
