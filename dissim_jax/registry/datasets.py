"""The data sets by name, with what can be known of them before they are read."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dissim_jax.registry.entry import Entry


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet(Entry):
  """A source of images; `function` takes the `data` block of a config to a dict of arrays.

  These are `train_images` and `test_images` uint8 `[N, H, W, C]`, `train_labels` and `test_labels`
  int32 `[N]`, `class_names` str `[K]`, and perhaps `train_files` and `test_files` str `[N]`.

  Attributes:
    classes: how many; None if only the data themselves tell.
    images: for training, validation images among them; None if only the data tell.
    images_of: the field of the `data` block that says how many of each class, in place of `images`.
  """

  classes: int | None = None
  images: int | None = None
  images_of: str = ""


POLICIES = ("none", "cifar10")  # of AutoAugment

_ALL = (
  DataSet(
    name="cifar10",
    label="CIFAR-10",
    code="data.sources:cifar10",
    classes=10,
    images=50_000,
    reference="Krizhevsky 2009",
  ),
  DataSet(
    name="cifar100",
    label="CIFAR-100",
    code="data.sources:cifar100",
    classes=100,
    images=50_000,
    reference="Krizhevsky 2009",
  ),
  DataSet(
    name="digits",
    label="digits",
    code="data.sources:digits",
    classes=10,
    images_of="train_per_class",
    reference="scikit-learn",
  ),
  DataSet(name="image_folder", label="image folder", code="data.sources:folder_of_images"),
)
DATASETS: dict[str, DataSet] = {entry.name: entry for entry in _ALL}


def training_images(data: Mapping[str, Any]) -> int | None:
  """How many images a run of this `data` block trains on; None if only the data themselves tell."""
  entry = DATASETS[data["name"]]
  count = entry.images
  if entry.images_of and entry.classes:
    count = entry.classes * data[entry.images_of]
  if count is None or entry.classes is None:
    return None
  return data["images_per_class"] * entry.classes or count - data["validation"]
