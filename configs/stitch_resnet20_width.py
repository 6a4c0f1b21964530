"""ResNet-20 networks of several widths on CIFAR-10, stitched at every block.

Csiszárik et al. 2021, experiments 1, 2 and 4: five pairs of independent networks, both ways (the
paper averages over ten runs), of one to four times the usual width. In the paper's Figure 3 the
relative accuracy is very high at width 1 and rises with the width; in its Figure 5 a network of
three times the width keeps its accuracy when a stitch to itself is trained to a CKA below 0.7.

  python -m dissim_jax.main --config=configs/stitch_resnet20_width.py --workdir=runs/stitch_width
"""

from dissim_jax.configs import stitch_tiny10


def get_config():
  """As stitch_tiny10.py but for the network and the experiments."""
  config = stitch_tiny10.get_config()
  config.model.name = "resnet20"
  config.stitch.experiments = ("matching", "width", "low_cka")
  config.stitch.widths = (2.0, 3.0, 4.0)
  return config
