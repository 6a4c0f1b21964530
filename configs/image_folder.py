"""Two small ResNets on your own images, of any type: `train/<class>/…` and `test/<class>/…`.

  python -m dissim_jax.main --config=configs/image_folder.py --workdir=runs/mine \
    --config.data.dir=PATH --config.data.image_size=64
"""

from dissim_jax.configs import default


def get_config():
  """ResNet20 with light augmentation; set data.dir."""
  config = default.get_config()
  config.data.name = "image_folder"
  config.data.image_size = 32
  config.data.mean = (0.5, 0.5, 0.5)
  config.data.std = (0.25, 0.25, 0.25)
  config.augment.crop_padding = 4
  config.augment.crop_fill = 128
  config.augment.flip = True
  config.model.name = "resnet20"
  config.dissim.taps = (6,)
  config.train.batch_size = 128
  config.train.epochs = 30
  config.train.checkpoint_every_epochs = 5
  return config
