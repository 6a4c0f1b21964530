"""Two narrow ResNet20s on a fifth of CIFAR-10, small enough for two CPU cores.

CIFAR-10 as a folder of images: `train/<class>/*`, `test/<class>/*`. 1000 training images of each
class, 2000 others for validation, all 10,000 test images. One run is a pair; the sweep of this name
has all of them.

  python -m dissim_jax.main --config=configs/cifar10_small.py --workdir=runs/small \
    --config.data.dir=PATH
"""

from dissim_jax.configs import image_folder


def get_config():
  """ResNet20 at a quarter of its width, random crop and flip, 20 epochs; set data.dir."""
  config = image_folder.get_config()
  config.data.images_per_class = 1000
  config.data.validation = 2000
  config.data.mean = (0.4914, 0.4822, 0.4465)
  config.data.std = (0.2023, 0.1994, 0.2010)
  config.model.width_multiplier = 0.25
  config.ensemble.baseline = False
  config.train.epochs = 20
  config.train.checkpoint_every_epochs = 5
  config.evaluate.batch_size = 250
  return config
