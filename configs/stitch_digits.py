"""Networks on digits, stitched: can a network be joined to one that was forced to differ from it?

The networks of digits_expvar.py with more training images (1000, and 797 for the test): T, a member
made dissimilar to it at taps 2, 3 and 4, and an independent one. T's lower half is joined to the
upper half of each at every tap. docs/results.md has the results of three seeds.

  python -m dissim_jax.main --config=configs/stitch_digits.py --workdir=runs/stitch_digits

All experiments of Csiszárik et al. 2021 on the same networks:

  … --config.stitch.experiments=all
"""

from dissim_jax.configs import digits_expvar


def get_config():
  """As digits_expvar.py but for the number of images and epochs; batches of 50 for the stitches."""
  config = digits_expvar.get_config()
  config.data.train_per_class = 100
  config.train.epochs = 40
  config.train.checkpoint_every_epochs = 20
  config.stitch.experiments = ("matching",)
  config.stitch.batch_size = 50
  config.stitch.l1_task = (1e-3, 1e-2, 3e-2, 0.1, 0.3)
  config.stitch.widths = (0.5, 2.0)
  return config
