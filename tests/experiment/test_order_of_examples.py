"""Nothing depends on the order in which examples are stored, or on how their files are named."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from sklearn.datasets import load_digits

from dissim_jax import experiment
from dissim_jax.data import load
from dissim_jax.data.examples import balanced_part, canonical_order, first_of_each_class
from dissim_jax.errors import UserError
from dissim_jax.files.atomic import read_json
from dissim_jax.registry.datasets import DATASETS, DataSet
from tests import tiny


def data_config(**fields):
  base = {
    "name": "stored",
    "dir": "",
    "image_size": 8,
    "validation": 0,
    "split_seed": 0,
    "train_per_class": 10,
    "images_per_class": 0,
  }
  return ConfigDict(base | fields)


def stored_as(monkeypatch, function):
  """Makes what the function returns the data set `stored`."""
  monkeypatch.setitem(DATASETS, "stored", DataSet(name="stored", label="stored", code=function))


@pytest.fixture
def stored(monkeypatch):
  """A data set whose arrays a test chooses."""
  rng = np.random.default_rng(0)
  arrays = {"class_names": np.array(["a", "b", "c"])}
  for split, count in (("train", 90), ("test", 60)):
    arrays[f"{split}_images"] = rng.integers(0, 256, (count, 4, 5, 3), dtype=np.uint8)
    arrays[f"{split}_labels"] = np.repeat(np.arange(3, dtype=np.int32), count // 3)
    arrays[f"{split}_files"] = np.array([f"{split}/{i}.png" for i in range(count)])
  stored_as(monkeypatch, lambda config: dict(arrays))
  return arrays


def shuffled(arrays, seed=1):
  """The same examples, stored in another order."""
  rng, found = np.random.default_rng(seed), dict(arrays)
  for split in ("train", "test"):
    order = rng.permutation(len(arrays[f"{split}_labels"]))
    found |= {f"{split}_{k}": arrays[f"{split}_{k}"][order] for k in ("images", "labels", "files")}
  return found


@pytest.mark.parametrize("fields", [{}, {"validation": 20}, {"images_per_class": 7}])
def test_another_stored_order_gives_the_same_examples(stored, monkeypatch, fields):
  before = load(data_config(**fields))
  stored_as(monkeypatch, lambda config: shuffled(stored))
  after = load(data_config(**fields))
  for split in ("train", "validation", "test"):
    for what in ("images", "labels"):
      field = f"{split}_{what}"
      np.testing.assert_array_equal(getattr(before, field), getattr(after, field))
    one, other = getattr(before, f"{split}_origin"), getattr(after, f"{split}_origin")
    np.testing.assert_array_equal(one.files, other.files)
    assert not len(one.index) or (one.index != other.index).any()


def test_examples_keep_where_they_come_from(stored):
  data = load(data_config(validation=20))
  for split, source in (("train", "train"), ("validation", "train"), ("test", "test")):
    origin = getattr(data, f"{split}_origin")
    assert origin.split == source
    np.testing.assert_array_equal(
      getattr(data, f"{split}_images"), stored[f"{source}_images"][origin.index]
    )
    np.testing.assert_array_equal(origin.files, stored[f"{source}_files"][origin.index])
  used = np.concatenate([data.train_origin.index, data.validation_origin.index])
  assert sorted(used) == list(range(90))


def test_a_sorted_data_set_is_mixed(stored):
  labels = load(data_config()).test_labels
  halves = [np.bincount(half, minlength=3) for half in np.split(labels, 2)]
  assert min(map(min, halves)) >= 4 and not (np.diff(labels) >= 0).all()


def test_equal_images_keep_their_order_and_every_image_has_one_place():
  images = np.zeros((6, 2, 2, 1), np.uint8)
  images[[1, 4]] = 7
  order = canonical_order(images).tolist()
  assert sorted(order) == list(range(6))
  assert [i for i in order if i in (1, 4)] == [1, 4]
  assert [i for i in order if i not in (1, 4)] == [0, 2, 3, 5]
  # A view that is not contiguous, or a writable copy, is the same data set.
  assert canonical_order(np.asfortranarray(images)).tolist() == order
  assert canonical_order(np.zeros((0, 2, 2, 1), np.uint8)).shape == (0,)


def test_a_part_is_as_balanced_as_the_whole():
  labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 5], [500, 300, 10]))
  for wanted in (1, 2, 3, 17, 81, 405, 810, 9999):
    part = balanced_part(labels, wanted)
    assert len(part) == min(wanted, 810) == len(set(part)) and (np.diff(part) > 0).all()
    counts = np.array([(labels[part] == k).sum() for k in (0, 1, 5)])
    assert (np.abs(counts - len(part) * np.array([500, 300, 10]) / 810) < 1).all()
  assert balanced_part(labels, 0).shape == (0,)
  # Of a data set that is sorted by class all classes are taken, and of each its first examples.
  part = balanced_part(np.repeat(np.arange(10), 100), 250)
  assert part.tolist() == [100 * k + i for k in range(10) for i in range(25)]


def test_so_many_of_each_class(stored):
  data, whole = load(data_config(images_per_class=7)), load(data_config())
  assert np.bincount(data.train_labels).tolist() == [7, 7, 7]
  assert len(data.test_labels) == 60
  first = first_of_each_class(whole.train_labels, 7)
  np.testing.assert_array_equal(data.train_images, whole.train_images[first])
  other = load(data_config(images_per_class=7, validation=5, split_seed=1))
  assert set(other.train_origin.index) != set(data.train_origin.index)
  assert not set(other.train_origin.index) & set(other.validation_origin.index)
  with pytest.raises(UserError) as error:
    load(data_config(images_per_class=31))
  assert str(error.value) == ("data.images_per_class=31: class 'a' has only 30 training images")


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
  """A run on a folder of images, and one on the same images under other names."""
  root, digits, rng = tmp_path_factory.mktemp("names"), load_digits(), np.random.default_rng(0)
  count = 120
  for folder, names in (("one", np.arange(count)), ("two", rng.permutation(count))):
    for i in range(count):
      split, label = ("train", "test")[i % 2], f"class_{digits.target[i] % 3}"
      path = root / folder / split / label / f"{names[i]:04}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray((digits.images[i] * 15).astype(np.uint8)).save(path)
  runs = []
  for folder in ("one", "two"):
    config = tiny.get_config()
    config.ensemble.baseline = False
    config.model.name, config.dissim.taps = "stem_alone", (0,)
    config.data.name, config.data.dir, config.data.image_size = "image_folder", "", 8
    config.data.dir, config.data.validation = str(root / folder), 12
    config.data.mean, config.data.std = (0.5,) * 3, (0.5,) * 3
    config.train.epochs, config.evaluate.batch_size = 1, 16
    config.attribution.method, config.attribution.images = "saliency", 20
    config.features.shares, config.features.images = (0.5,), 30
    config.corruption.names, config.corruption.severities = ("fog",), (3,)
    config.transfer.attack, config.transfer.images, config.transfer.iterations = "pgd", 20, 2
    experiment.run(config, root / f"run_{folder}")
    runs.append(root / f"run_{folder}" / "evaluation")
  return runs


FILES = ("predictions", "similarity", "attribution", "corruptions", "transferability")


@pytest.mark.parametrize("name", FILES)
def test_other_file_names_give_the_same_arrays(two_runs, name):
  one, two = (np.load(folder / f"{name}.npz") for folder in two_runs)
  assert set(one) == set(two)
  for key in one:
    if not key.endswith(("index", "files")):
      np.testing.assert_array_equal(one[key], two[key], err_msg=key)


@pytest.mark.parametrize(
  "name", ["metrics", "diversity", "robustness", "attribution", "features", "transferability"]
)
def test_other_file_names_give_the_same_numbers(two_runs, name):
  one, two = (read_json(folder / f"{name}.json") for folder in two_runs)

  def without_times(value):
    if isinstance(value, dict):
      return {k: without_times(v) for k, v in value.items() if "seconds" not in k}
    return [without_times(v) for v in value] if isinstance(value, list) else value

  assert without_times(one) == without_times(two)


def test_predictions_name_their_images(two_runs):
  for folder in two_runs:
    arrays = np.load(folder / "predictions.npz")
    assert arrays["classes"].tolist() == ["class_0", "class_1", "class_2"]
    for prefix, split in (("", "test"), ("validation_", "train")):
      files, labels = arrays[f"{prefix}files"], arrays[f"{prefix}labels"]
      assert len(files) == len(labels) == len(arrays[f"{prefix}index"])
      for file, label in zip(files, labels, strict=True):
        assert file.startswith(f"{split}/class_{label}/")
  one, two = (np.load(folder / "predictions.npz")["files"] for folder in two_runs)
  assert (one != two).any()  # else the test above would show nothing
