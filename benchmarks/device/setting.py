"""What is measured, and on how many images: at full size, on a CPU, in the tests."""

import dataclasses
import functools

import jax
import ml_collections
import numpy as np

from dissim_jax.distributed import devices
from dissim_jax.members import store
from dissim_jax.models import Layered, matching_tap, nearest_stem

NUM_CLASSES = 10
# 1e9 operations for a training image of 32x32x3: 6 for each multiply-add of the forward pass.
GFLOP = {"resnet18": 3.33, "resnet34": 6.96, "resnet101": 15.06}
RESNET34 = ((32, 32, 64),) * 4 + ((16, 16, 128),) * 4 + ((8, 8, 256),) * 6 + ((4, 4, 512),) * 3


@dataclasses.dataclass(frozen=True)
class Sizes:
  """How much work one timed call is.

  Attributes:
    training: images of the training set.
    earlier: numbers of members that U is made dissimilar to.
    games: what it is made dissimilar by, names in `training.GAMES`; () = all.
    together: members that are trained jointly.
    augmented: images, all at once.
    taps: shapes of the representations whose CKA is computed.
    cka_batches: batches of them.
    attacked: images.
    iterations: of the attack; 0 = what the config says.
    corrupted: images.
    corruptions: their names; () = all.
    evaluated: images.
    checked: the architecture that is checked; "" = the first that is timed.
  """

  training: int = 50_000
  earlier: tuple[int, ...] = (1, 3)
  games: tuple[str, ...] = ()
  together: int = 3
  augmented: int = 8192
  taps: tuple[tuple[int, ...], ...] = RESNET34
  cka_batches: int = 4
  attacked: int = 512
  iterations: int = 0
  corrupted: int = 10_000
  corruptions: tuple[str, ...] = ()
  evaluated: int = 10_000
  checked: str = "resnet8"


ACCELERATOR = Sizes()
CPU = Sizes(training=2560, augmented=512, attacked=128, iterations=2, corrupted=500, evaluated=256)
TINY = Sizes(
  training=40,
  earlier=(1,),
  games=("ExpVar, closed form",),
  together=2,
  augmented=20,
  taps=((8, 8, 2), (4, 4, 3)),
  cka_batches=2,
  attacked=8,
  iterations=2,
  corrupted=20,
  corruptions=("brightness", "jpeg"),
  evaluated=24,
  checked="",
)


@dataclasses.dataclass(frozen=True, eq=False)  # One object is one setting: its images are kept.
class Setting:
  """An experiment whose parts are timed on one device, with random images.

  Attributes:
    config: the experiment.
    models: the architectures, in the order in which they are timed.
    side: pixels a side of the images.
    sizes: how much work.
  """

  config: ml_collections.ConfigDict
  models: tuple[str, ...]
  side: int
  sizes: Sizes

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width, channels."""
    return self.side, self.side, len(self.config.data.mean)

  @property
  def batch(self) -> int:
    """Images of a training step."""
    return self.config.train.batch_size

  @property
  def dtype(self) -> str:
    """Of the networks."""
    return store.compute_dtype(self.config.dtype).name

  @functools.cached_property
  def mesh(self) -> jax.sharding.Mesh:
    """One device, whose speed is measured."""
    return devices.make_mesh(jax.devices()[:1])

  @functools.cached_property
  def images(self) -> np.ndarray:
    """Random, uint8 `[N, H, W, C]`."""
    count = max(self.sizes.training, self.sizes.corrupted, self.sizes.evaluated)
    return np.random.default_rng(0).integers(0, 256, (count, *self.image_shape), np.uint8)

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """Random, int32 `[N]`."""
    rng = np.random.default_rng(1)
    return rng.integers(0, NUM_CLASSES, len(self.images)).astype(np.int32)

  @functools.cached_property
  def feed(self):
    """The training images on the device, see `devices.make_feed`."""
    used = slice(self.sizes.training)
    return devices.make_feed(self.images[used], self.labels[used], self.mesh, resident=True)

  def model(self, name: str, dtype: str | None = None) -> Layered:
    """The network of this name."""
    config = self.config.model
    facts = {
      "model": name,
      "width_multiplier": config.width_multiplier,
      "stem": config.stem or nearest_stem(self.side),
      "patch_size": config.patch_size,
      "num_classes": NUM_CLASSES,
    }
    return store.build_model(facts, store.compute_dtype(dtype or self.config.dtype))

  def taps(self, name: str) -> tuple[int, ...]:
    """The taps of this network that belong to the config's."""
    wanted, model = self.model(self.config.model.name), self.model(name)
    return tuple(sorted({matching_tap(tap, wanted, model) for tap in self.config.dissim.taps}))

  def gflop(self, name: str) -> float:
    """For one training image; 0 where it is not known."""
    known = self.image_shape == (32, 32, 3) and self.config.model.width_multiplier == 1
    return GFLOP.get(name, 0.0) if known else 0.0


def varied(config: ml_collections.ConfigDict, **values) -> ml_collections.ConfigDict:
  """The config with other values, `dissim__taps=(1,)`."""
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict({k.replace("__", "."): v for k, v in values.items()})
  return config
