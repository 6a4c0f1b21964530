"""Where images come from: the cache, the validation split.

A data set is a function `config -> dict of arrays` and an entry in `registry.datasets`.
"""

import hashlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dissim_jax.data import cifar, image_folder
from dissim_jax.data.examples import canonical_order, first_of_each_class
from dissim_jax.errors import UserError
from dissim_jax.files.atomic import write_arrays
from dissim_jax.registry.checks import check_int, check_name
from dissim_jax.registry.datasets import DATASETS

DEFAULT_DIR = "~/.cache/dissim_jax"
_CACHE_LAYOUT = "3"  # part of every fingerprint: a new layout does not read old files
_DIGITS = "datasets/data/digits.csv.gz"  # in scikit-learn
_log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]


class Origin(NamedTuple):
  """Which example is which: what leads from a prediction back to an image.

  Attributes:
    split: "train" or "test", the part of the source that the examples come from.
    index: int64 [N], their places in the source as it is stored.
    files: str [N], their paths below the folder of the data set; None where there are no files.
  """

  split: str
  index: np.ndarray
  files: np.ndarray | None = None


class Dataset(NamedTuple):
  """A data set in memory: images uint8 [N, H, W, C], labels int32 [N] in 0..num_classes-1."""

  train_images: np.ndarray
  train_labels: np.ndarray
  validation_images: np.ndarray
  validation_labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray
  class_names: tuple[str, ...]
  train_origin: Origin | None = None
  validation_origin: Origin | None = None
  test_origin: Origin | None = None

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self.train_images.shape[1:]


def load(config: Any) -> Dataset:
  """Loads the data set that `config` names.

  Training and test examples come in `canonical_order`, which does not depend on how they are
  stored. The validation images are the last `validation` entries of one plain random permutation of
  the training images (NumPy's generator seeded by `split_seed`), the others in permuted order are
  the training images. The split is not balanced over classes, as `torch.utils.data.random_split`'s
  is not. Of these training images `images_per_class` of each class are kept.

  Args:
    config: attribute access to `name` (in `registry.datasets`), `dir` ("" = ~/.cache/dissim_jax),
      `image_size` (pixels) and `background` (grey level, 0..255) of an image_folder,
      `validation` (number of training images held out, 0 = none), `split_seed`,
      `train_per_class` (images, digits only), `images_per_class` (training images, 0 = all).

  Returns:
    A `Dataset`. With `validation=0` the validation arrays have length 0.

  Raises:
    UserError: a field has a value that is not allowed, or the data cannot be found or read.
  """
  check_name("data.name", config.name, DATASETS)
  if not isinstance(config.dir, str):
    raise UserError(f"data.dir={config.dir!r}: must be a string, the path of a folder")
  check_int("data.split_seed", config.split_seed, 0, None)
  check_int("data.validation", config.validation, 0, None)
  check_int("data.images_per_class", config.images_per_class, 0, None)
  arrays = DATASETS[config.name].function(config)
  count = len(arrays["train_labels"])
  check_int("data.validation", config.validation, 0, count - 1, f"{count} training images")
  order, test = canonical_order(arrays["train_images"]), canonical_order(arrays["test_images"])
  train, validation = _split(order, config.validation, config.split_seed)
  class_names = tuple(str(name) for name in arrays["class_names"])
  train = _of_each_class(train, arrays["train_labels"], config.images_per_class, class_names)
  return Dataset(
    *_examples(arrays, "train", train),
    *_examples(arrays, "train", validation),
    *_examples(arrays, "test", test),
    class_names,
    _origin(arrays, "train", train),
    _origin(arrays, "train", validation),
    _origin(arrays, "test", test),
  )


def _examples(arrays: Arrays, split: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  return arrays[f"{split}_images"][rows], arrays[f"{split}_labels"][rows]


def _origin(arrays: Arrays, split: str, rows: np.ndarray) -> Origin:
  files = arrays.get(f"{split}_files")
  return Origin(split, rows, None if files is None else files[rows])


def _of_each_class(
  rows: np.ndarray, labels: np.ndarray, wanted: int, class_names: tuple[str, ...]
) -> np.ndarray:
  """The first `wanted` of `rows` of each class, all if 0."""
  if not wanted:
    return rows
  counts = np.bincount(labels[rows], minlength=len(class_names))
  fewest = int(counts.argmin())
  if counts[fewest] < wanted:
    raise UserError(
      f"data.images_per_class={wanted}: class {class_names[fewest]!r} has only {counts[fewest]} "
      "training images"
    )
  return rows[first_of_each_class(labels[rows], wanted)]


def digits(config: Any) -> Arrays:
  """scikit-learn's 1797 handwritten digits, 8x8x1, grey 0..16 scaled to 0..255 and rounded.

  `train_per_class` images of each class, drawn with `split_seed`, are for training and all others
  for test; both keep scikit-learn's order.
  """
  grey, labels = _digits()
  images = np.rint(grey.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
  smallest = int(np.bincount(labels).min())
  check_int(
    "data.train_per_class",
    config.train_per_class,
    1,
    smallest - 1,
    f"the smallest class has {smallest} images and one must be left for test",
  )
  rng = np.random.default_rng(config.split_seed)
  is_train = np.zeros(len(labels), bool)
  for k in range(10):
    is_train[rng.permutation(np.flatnonzero(labels == k))[: config.train_per_class]] = True
  return {
    "train_images": images[is_train],
    "train_labels": labels[is_train],
    "test_images": images[~is_train],
    "test_labels": labels[~is_train],
    "class_names": np.array([str(k) for k in range(10)]),
  }


def _digits() -> tuple[np.ndarray, np.ndarray]:
  """Grey values float64 `[1797, 64]` and labels int32 `[1797]`.

  The file is read without scikit-learn where it is found: its import takes a second of every run.
  """
  package = Path(importlib.util.find_spec("sklearn").origin).parent
  try:
    rows = np.loadtxt(package / _DIGITS, delimiter=",")
  except OSError:
    from sklearn.datasets import load_digits

    grey, labels = load_digits(return_X_y=True)
    return grey, labels.astype(np.int32)
  return rows[:, :-1], rows[:, -1].astype(np.int32)


def cifar10(config: Any) -> Arrays:
  """CIFAR-10: 50,000 + 10,000 images, 32x32x3, 10 classes (Krizhevsky 2009)."""
  return _cifar("cifar10", config)


def cifar100(config: Any) -> Arrays:
  """CIFAR-100 with its 100 fine labels: 50,000 + 10,000 images, 32x32x3 (Krizhevsky 2009)."""
  return _cifar("cifar100", config)


def folder_of_images(config: Any) -> Arrays:
  """`dir`/{train,test}/<class>/**, resized to `image_size` squared, RGB; see `list_files`."""
  check_int("data.image_size", config.image_size, 1, None)
  check_int("data.background", config.background, 0, 255, "a grey level")
  if not config.dir:
    raise UserError("data.dir='': image_folder needs the folder that holds train/ and test/")
  folder, size, grey = _expand(config.dir), config.image_size, config.background
  files = image_folder.list_files(folder)
  lines = [f"image_size {size}", f"background {grey}", *image_folder.fingerprint(files)]
  return cached("image_folder", lines, folder, lambda: image_folder.read(folder, files, size, grey))


def cached(name: str, source: Iterable[str], folder: Path, read: Callable[[], Arrays]) -> Arrays:
  """Returns `read()`, or what it returned before for the same `source`.

  The arrays are kept as `<name>-<fingerprint>.npz`, uncompressed, in `folder` or, where that is
  not writable, in ~/.cache/dissim_jax. A file that cannot be read is made again, with a warning.

  Args:
    name: of the data set.
    source: lines that change when the source does; their SHA-256 is the fingerprint.
    folder: where the data set is.
    read: decodes the data set.
  """
  digest = hashlib.sha256("\n".join([_CACHE_LAYOUT, *source]).encode()).hexdigest()
  folders = dict.fromkeys([folder, _expand(DEFAULT_DIR)])  # often the same
  paths = [place / f"{name}-{digest[:16]}.npz" for place in folders]
  for path in paths:
    if (arrays := _read_cache(path)) is not None:
      return arrays
  arrays = read()
  for path in paths:
    try:
      write_arrays(path, arrays)
      break
    except OSError as error:
      _log.warning("the cache %s cannot be written (%s)", path, error)
  return arrays


def _split(order: np.ndarray, validation: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """The training and the validation images among those in `order`."""
  if validation:
    order = order[np.random.default_rng(seed).permutation(len(order))]
  return order[: len(order) - validation], order[len(order) - validation :]


def _cifar(name: str, config: Any) -> Arrays:
  folder, default = _expand(config.dir or DEFAULT_DIR), _expand(DEFAULT_DIR)
  if not os.path.isdir(folder) and folder != default:  # a mistyped folder must not be made
    there = "is a file" if os.path.exists(folder) else "there is no such folder"
    raise UserError(f"data.dir={config.dir!r}: {there}, give the folder that {name} is in")
  source, read = cifar.find(name, folder)
  return cached(name, source, folder, read)


def _expand(folder: str) -> Path:
  return Path(os.path.expanduser(folder))


def _read_cache(path: Path) -> Arrays | None:
  if not path.is_file():
    return None
  try:
    with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
      arrays = {key: file[key] for key in file.files}
    _check_arrays(arrays)
    return arrays
  except Exception as error:  # damaged bytes can raise nearly anything
    _log.warning("the cache %s cannot be read and is made again (%s)", path, error)
    return None


def _check_arrays(arrays: Arrays) -> None:
  """ValueError or KeyError unless these are the arrays of a data set."""
  classes = len(arrays["class_names"])
  for split in ("train", "test"):
    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    if images.dtype != np.uint8 or images.ndim != 4 or labels.dtype != np.int32:
      raise ValueError(f"{split}: images {images.dtype}{images.shape}, labels {labels.dtype}")
    if labels.shape != images.shape[:1] or not len(labels):
      raise ValueError(f"{split}: {len(images)} images, {len(labels)} labels")
    if f"{split}_files" in arrays and arrays[f"{split}_files"].shape != labels.shape:
      raise ValueError(f"{split}: {len(labels)} images, {arrays[f'{split}_files'].shape} names")
    if labels.min() < 0 or labels.max() >= classes:
      raise ValueError(f"{split}: labels beyond the {classes} classes")
