"""Data sources against bytes, images and records written here, never against the network."""

import contextlib
import hashlib
import io
import os
import socket
import sys
import tarfile
import threading
import urllib.error
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from sklearn.datasets import load_digits

from dissim_jax.data import Dataset, cifar, image_folder, load, sources
from dissim_jax.errors import UserError
from dissim_jax.files import atomic
from dissim_jax.registry.datasets import DATASETS

FINE = tuple(f"fine_{i}" for i in range(100))


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
  """No test reads or writes the user's own cache or reaches the network."""
  folder = tmp_path_factory.mktemp("home")
  monkeypatch.setenv("HOME", str(folder))

  def refuse(*args, **kwargs):
    raise urllib.error.URLError("no network in tests")

  monkeypatch.setattr(cifar.urllib.request, "urlopen", refuse)
  return folder


def make_config(name, folder="", **fields):
  base = {
    "image_size": 8,
    "background": 128,
    "validation": 0,
    "split_seed": 0,
    "train_per_class": 10,
    "images_per_class": 0,
  }
  return ConfigDict({"name": name, "dir": str(folder), **base, **fields})


def assert_same(a, b):
  for x, y in zip(a, b, strict=True):
    if isinstance(x, sources.Origin):
      assert_same(x, y)
    else:
      np.testing.assert_array_equal(x, y)


def load_as_stored(config):
  """The data set with its training and test images in the order in which they are stored."""
  data = load(config)
  train, test = np.argsort(data.train_origin.index), np.argsort(data.test_origin.index)
  return data._replace(
    train_images=data.train_images[train],
    train_labels=data.train_labels[train],
    test_images=data.test_images[test],
    test_labels=data.test_labels[test],
  )


# ---- any source


def test_registry_and_package_names():
  assert sorted(DATASETS) == ["cifar10", "cifar100", "digits", "image_folder"]
  assert Dataset._fields[:2] == ("train_images", "train_labels")


@pytest.mark.parametrize(
  "name, hint",
  [
    ("cifar11", ", did you mean 'cifar10'?"),
    ("CIFAR100", ", did you mean 'cifar100'?"),
    ("zq", ""),
  ],
)
def test_unknown_name(name, hint):
  with pytest.raises(UserError) as error:
    load(make_config(name))
  choices = "choose one of cifar10, cifar100, digits, image_folder"
  assert str(error.value) == f"data.name={name!r}: {choices}{hint}"


@pytest.mark.parametrize(
  "field, value, allowed",
  [
    ("validation", -1, "an integer >= 0"),
    ("validation", 100, "an integer in 0..99 (100 training images)"),
    ("validation", 2.0, "an integer >= 0"),
    ("validation", True, "an integer >= 0"),
    ("split_seed", -3, "an integer >= 0"),
    ("split_seed", "a", "an integer >= 0"),
    ("train_per_class", 0, "an integer in 1..173"),
    ("train_per_class", 174, "an integer in 1..173"),
    ("dir", 3, "a string"),
  ],
)
def test_bad_field(field, value, allowed):
  config = make_config("digits")
  with config.ignore_type():
    config[field] = value
  with pytest.raises(UserError) as error:
    load(config)
  assert str(error.value).startswith(f"data.{field}={value!r}: must be ")
  assert allowed in str(error.value)


def test_largest_validation_is_allowed():
  data = load(make_config("digits", validation=99))
  assert (len(data.train_labels), len(data.validation_labels)) == (1, 99)


# ---- digits


def test_digits_counts_scale_and_membership():
  data = load(make_config("digits", train_per_class=7, split_seed=3))
  assert data.image_shape == (8, 8, 1) and data.num_classes == 10
  assert data.class_names == tuple("0123456789")
  assert np.bincount(data.train_labels).tolist() == [7] * 10
  assert len(data.test_labels) == 1797 - 70 and len(data.validation_labels) == 0
  assert {a.dtype.name for a in data[0:6:2]} == {"uint8"}
  assert {a.dtype.name for a in data[1:6:2]} == {"int32"}
  # Both parts together are the original, image by image with its label.
  raw = load_digits()
  expected = sorted(
    (int(label), bytes(int(np.floor(v * 255 / 16 + 0.5)) for v in image.ravel()))
    for image, label in zip(raw.images, raw.target, strict=True)
  )
  images = np.concatenate([data.train_images, data.test_images])
  labels = np.concatenate([data.train_labels, data.test_labels])
  assert sorted((int(k), i.tobytes()) for i, k in zip(images, labels, strict=True)) == expected


def test_digits_of_another_scikit_learn_are_the_same(monkeypatch):
  """One that has the file elsewhere."""
  found = load(make_config("digits"))
  monkeypatch.setattr(sources, "_DIGITS", "elsewhere.csv.gz")
  assert_same(found, load(make_config("digits")))


def test_digits_draw_depends_on_the_seed_only():
  first, again, other = (load(make_config("digits", split_seed=s)) for s in (1, 1, 2))
  assert_same(first, again)
  assert len(first.train_labels) == 100 and len(first.test_labels) == 1697
  assert (first.train_images != other.train_images).any()


# ---- the validation split


def test_split_is_deterministic_disjoint_and_complete():
  whole = load(make_config("digits"))
  split, again = (load(make_config("digits", validation=30)) for _ in range(2))
  assert_same(split, again)
  assert len(split.validation_labels) == 30 and len(split.train_labels) == 70

  def pairs(images, labels):
    return [(int(k), i.tobytes()) for i, k in zip(images, labels, strict=True)]

  train, held_out = pairs(*split[0:2]), pairs(*split[2:4])
  assert len(set(train + held_out)) == 100  # no image is twice among these digits
  assert sorted(train + held_out) == sorted(pairs(*whole[0:2]))
  assert_same(split[4:7], whole[4:7])


def test_split_is_a_plain_permutation_not_balanced_nor_sorted():
  whole = load(make_config("digits", split_seed=5))
  split = load(make_config("digits", split_seed=5, validation=40))
  order = np.random.default_rng(5).permutation(100)
  np.testing.assert_array_equal(split.validation_labels, whole.train_labels[order[60:]])
  np.testing.assert_array_equal(split.train_images, whole.train_images[order[:60]])
  assert len(set(np.bincount(split.validation_labels, minlength=10).tolist())) > 1


# ---- CIFAR archives


def cifar_records(count, label_bytes, classes, seed):
  """Bytes in the official format, and what they mean by a loop over pixels."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, classes, (count, label_bytes))
  pixels = rng.integers(0, 256, (count, 3, 32, 32))
  content, images = bytearray(), np.zeros((count, 32, 32, 3), np.uint8)
  for n in range(count):
    content += bytes(labels[n].tolist())
    for c in range(3):
      for y in range(32):
        for x in range(32):
          content.append(pixels[n, c, y, x])
          images[n, y, x, c] = pixels[n, c, y, x]
  return bytes(content), images, labels[:, -1]


def write_tar(path, members, extra=()):
  with tarfile.open(path, "w:gz") as tar:
    for name, content in [*members.items(), *extra]:
      info = tarfile.TarInfo(name)
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))


def trust(path, monkeypatch, url="http://nowhere.invalid/file"):
  """Makes the file at `path` the official one."""
  content = path.read_bytes()
  listing = cifar.Listing(url, len(content), hashlib.sha256(content).hexdigest(), path.name)
  monkeypatch.setattr(cifar, "listed", lambda name: listing)
  return listing


def make_cifar10(folder, monkeypatch, seed=0, **changes):
  """Five batches of different length, test, and members that nobody asked for."""
  parts = {f"data_batch_{i}.bin": cifar_records(i + 1, 1, 10, seed + i) for i in range(1, 6)}
  parts["test_batch.bin"] = cifar_records(3, 1, 10, seed + 9)
  members = {f"cifar-10-batches-bin/{k}": v[0] for k, v in parts.items()}
  members.update(changes.pop("members", {}))
  members = {name: content for name, content in members.items() if content is not None}
  folder.mkdir(exist_ok=True, parents=True)
  path = folder / "cifar-10-binary.tar.gz"
  write_tar(path, members, [("../evil.bin", b"x"), ("other/test_batch.bin", b"junk")])
  trust(path, monkeypatch)
  train = [parts[f"data_batch_{i}.bin"] for i in range(1, 6)]
  return path, train, parts["test_batch.bin"]


def test_cifar10_archive_byte_by_byte(tmp_path, monkeypatch):
  _, train, test = make_cifar10(tmp_path / "data", monkeypatch)
  data = load_as_stored(make_config("cifar10", tmp_path / "data"))
  np.testing.assert_array_equal(data.train_images, np.concatenate([t[1] for t in train]))
  np.testing.assert_array_equal(data.train_labels, np.concatenate([t[2] for t in train]))
  np.testing.assert_array_equal(data.test_images, test[1])
  np.testing.assert_array_equal(data.test_labels, test[2])
  assert data.train_labels.dtype == np.int32 and data.train_images.dtype == np.uint8
  assert data.num_classes == 10 and data.class_names[3] == "cat" and data.class_names[9] == "truck"
  names = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())  # nothing was unpacked
  assert names[0] == "cifar-10-binary.tar.gz" and names[1].endswith(".npz") and len(names) == 2


def make_cifar100(folder, monkeypatch):
  train, test = cifar_records(7, 2, 100, 1), cifar_records(4, 2, 100, 2)
  members = {"train.bin": train[0], "test.bin": test[0]}
  members["fine_label_names.txt"] = ("\n".join(FINE) + "\n").encode()
  members["coarse_label_names.txt"] = b"wrong\n" * 20
  folder.mkdir(exist_ok=True)
  path = folder / "cifar-100-binary.tar.gz"
  write_tar(path, {f"cifar-100-binary/{k}": v for k, v in members.items()})
  return path, train, test


def test_cifar100_takes_fine_labels_and_names(tmp_path, monkeypatch):
  path, train, test = make_cifar100(tmp_path, monkeypatch)
  trust(path, monkeypatch)
  data = load_as_stored(make_config("cifar100", tmp_path))
  assert train[0][1] == train[2][0] != train[0][0]  # the second byte, not the first
  np.testing.assert_array_equal(data.train_labels, train[2])
  np.testing.assert_array_equal(data.train_images, train[1])
  np.testing.assert_array_equal(data.test_images, test[1])
  assert data.class_names == FINE


def test_listing_is_that_of_tensorflow_datasets_without_importing_it():
  listing = cifar.listed("cifar10")
  assert listing.url == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
  assert listing.sha256 == "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
  assert listing.size == 170052171 and listing.filename == "cifar-10-binary.tar.gz"
  assert cifar.listed("cifar100").filename == "cifar-100-binary.tar.gz"


@pytest.mark.parametrize("damage", ["flipped", "truncated", "other"])
def test_archive_with_a_wrong_hash(tmp_path, monkeypatch, damage):
  path, _, _ = make_cifar10(tmp_path, monkeypatch)
  good = path.read_bytes()
  flipped = good[:-9] + bytes([good[-9] ^ 1]) + good[-8:]
  bad = {"flipped": flipped, "truncated": good[:-50], "other": b"not a tar"}[damage]
  path.write_bytes(bad)
  with pytest.raises(UserError) as error:
    load(make_config("cifar10", tmp_path))
  expected, got = hashlib.sha256(good).hexdigest(), hashlib.sha256(bad).hexdigest()
  assert f"expected sha256 {expected}" in str(error.value) and f"got sha256 {got}" in str(
    error.value
  )
  assert str(path) in str(error.value)
  assert not list(tmp_path.glob("*.npz"))


def test_archive_that_is_cut_short_but_trusted(tmp_path, monkeypatch):
  path, _, _ = make_cifar10(tmp_path, monkeypatch)
  path.write_bytes(path.read_bytes()[:-3000])
  trust(path, monkeypatch)
  with pytest.raises(UserError, match="cannot be read"):
    load(make_config("cifar10", tmp_path))


@pytest.mark.parametrize(
  "content, reason",
  [
    (None, "no test_batch.bin in cifar-10-batches-bin"),
    (b"\x01" * 3074, "3074 bytes are not a number of records of 3073 bytes"),
    (b"", "0 bytes are not a number of records"),
    (b"\x0a" * 3073, "label 10 in a data set of 10 classes"),
  ],
)
def test_archive_of_another_format(tmp_path, monkeypatch, content, reason):
  members = {"cifar-10-batches-bin/test_batch.bin": content}
  make_cifar10(tmp_path, monkeypatch, members=members)
  with pytest.raises(UserError, match=reason):
    load(make_config("cifar10", tmp_path))


def test_default_folder_is_the_users_cache(home, monkeypatch):
  make_cifar10(home / ".cache/dissim_jax", monkeypatch)
  assert len(load(make_config("cifar10")).train_labels) == 20
  assert len(load(make_config("cifar10", "~/.cache/dissim_jax")).train_labels) == 20


# ---- download


def serve(content, promised=None):
  """A server on this machine that sends `content` to every request."""

  class Handler(BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802, the name http.server asks for
      self.send_response(200)
      self.send_header("Content-Length", str(promised or len(content)))
      self.end_headers()
      self.wfile.write(content)

    def log_message(self, *args):
      pass

  server = HTTPServer(("127.0.0.1", 0), Handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  return server, f"http://127.0.0.1:{server.server_port}/file"


@pytest.fixture
def network(monkeypatch):
  """Lets the real urlopen through, to this machine only and past any proxy."""
  opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
  monkeypatch.setattr(cifar.urllib.request, "urlopen", opener.open)


def test_download_end_to_end(tmp_path, monkeypatch, network):
  path, train, _ = make_cifar100(tmp_path / "server", monkeypatch)
  (tmp_path / "server").mkdir(exist_ok=True)
  server, url = serve(path.read_bytes())
  trust(path, monkeypatch, url)
  folder = tmp_path / "data"
  folder.mkdir()
  data = load_as_stored(make_config("cifar100", folder))
  server.shutdown()
  server.server_close()
  np.testing.assert_array_equal(data.train_images, train[1])
  assert (folder / path.name).read_bytes() == path.read_bytes()
  assert not list(folder.glob(".*.part"))
  # Without archive and server the cache still serves.
  (folder / path.name).unlink()
  assert_same(load_as_stored(make_config("cifar100", folder)), data)


@pytest.mark.parametrize("damage", ["altered", "short", "cut", "long"])
def test_download_of_other_content(tmp_path, monkeypatch, network, damage):
  path, _, _ = make_cifar100(tmp_path / "server", monkeypatch)
  good = path.read_bytes()
  bad = {"altered": b"?" + good[1:], "short": good[:99], "cut": good[:99], "long": good + b"?"}
  server, url = serve(bad[damage], promised=len(good) if damage == "cut" else None)
  trust(path, monkeypatch, url)
  (tmp_path / "data").mkdir()
  with pytest.raises(UserError) as error:
    load(make_config("cifar100", tmp_path / "data"))
  server.shutdown()
  server.server_close()
  got = hashlib.sha256(bad[damage]).hexdigest()
  assert f"got sha256 {got}" in str(error.value) and url in str(error.value)
  assert not list((tmp_path / "data").iterdir())  # neither the archive nor a part of it


def closed_port():
  with socket.socket() as server:
    server.bind(("127.0.0.1", 0))
    return server.getsockname()[1]


def test_download_stops_after_the_listed_size(tmp_path, monkeypatch, network):
  server, url = serve(b"?" * 100_000)
  listing = cifar.Listing(url, 2_500, "00", "cifar-10-binary.tar.gz")
  monkeypatch.setattr(cifar, "listed", lambda name: listing)
  monkeypatch.setattr(cifar, "_BLOCK", 1_000)
  with pytest.raises(UserError, match=r"\(3000 bytes\)"):
    load(make_config("cifar10", tmp_path))
  server.shutdown()
  server.server_close()


@pytest.mark.parametrize("patched", [True, False])
def test_download_refused(tmp_path, monkeypatch, request, patched):
  if not patched:
    request.getfixturevalue("network")
  url = f"http://127.0.0.1:{closed_port()}/cifar-10-binary.tar.gz"
  listing = cifar.Listing(url, 5, "00", "cifar-10-binary.tar.gz")
  monkeypatch.setattr(cifar, "listed", lambda name: listing)
  with pytest.raises(UserError) as error:
    load(make_config("cifar10", tmp_path))
  told = f"put cifar-10-binary.tar.gz into {str(tmp_path)!r}"
  assert told in str(error.value) and url in str(error.value)
  assert ("no network in tests" if patched else "refused") in str(error.value)
  assert "array_record" not in str(error.value)


def test_download_into_a_file(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="data.dir="):
    load(make_config("cifar10", tmp_path / "file"))


# ---- copies prepared by tensorflow-datasets


def prepare(folder, version="3.0.2", seed=0, count=25):
  """A copy written by tensorflow-datasets itself; ready PNG bytes need no TensorFlow."""
  import tensorflow_datasets as tfds

  labels = tfds.features.ClassLabel(names=["ant", "bee", "cat"])
  features = tfds.features.FeaturesDict(
    {"image": tfds.features.Image(shape=(32, 32, 3)), "label": labels}
  )
  images = np.random.default_rng(seed).integers(0, 256, (count + 5, 32, 32, 3), dtype=np.uint8)

  class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    name = "cifar10"
    VERSION = tfds.core.Version(version)

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
      return {
        "train": self._generate_examples(range(count)),
        "test": self._generate_examples(range(count, count + 5)),
      }

    def _generate_examples(self, indices):
      for i in indices:
        png = io.BytesIO()
        Image.fromarray(images[i]).save(png, "PNG")
        png.seek(0)
        yield i, {"image": png, "label": i % 3}

  Cifar10(data_dir=folder, file_format="array_record").download_and_prepare()
  return images


def label_of(images):
  return {image.tobytes(): i % 3 for i, image in enumerate(images)}


def test_prepared_copy_is_read_without_tensorflow(tmp_path, monkeypatch):
  images = prepare(tmp_path)
  make_cifar10(tmp_path, monkeypatch)  # comes second
  monkeypatch.setattr(cifar, "_RECORDS", 10)  # three chunks, the last one not full
  data = load(make_config("cifar10", tmp_path))
  assert len(data.train_labels) == 25 and len(data.test_labels) == 5
  expected = label_of(images)
  for image, label in zip(data.train_images, data.train_labels, strict=True):
    assert expected[image.tobytes()] == label
  assert {i.tobytes() for i in data.train_images} == {i.tobytes() for i in images[:25]}
  assert {i.tobytes() for i in data.test_images} == {i.tobytes() for i in images[25:]}
  assert data.class_names == ("ant", "bee", "cat") and data.train_labels.dtype == np.int32


def test_prepared_copy_newest_version_and_cache(tmp_path, monkeypatch):
  prepare(tmp_path, "3.0.2", seed=0)
  old = load(make_config("cifar10", tmp_path))
  prepare(tmp_path, "3.0.10", seed=1, count=7)
  new = load(make_config("cifar10", tmp_path))
  assert len(old.train_labels) == 25 and len(new.train_labels) == 7
  monkeypatch.setattr(cifar, "read_prepared", None)  # from here on only the cache can answer
  assert_same(load(make_config("cifar10", tmp_path)), new)


@pytest.mark.parametrize("inner", ["", "cifar10", "cifar10/3.0.2", "moved"])
def test_prepared_copy_by_any_of_its_folders(tmp_path, inner):
  images = prepare(tmp_path, count=7)
  if inner == "moved":
    (tmp_path / "cifar10/3.0.2").rename(tmp_path / "moved")
  config = make_config("cifar10", tmp_path / inner)
  data = load(config)
  assert {image.tobytes() for image in data.train_images} == {i.tobytes() for i in images[:7]}
  assert_same(load(config), data)
  assert len(caches(tmp_path / inner)) == 1  # which is itself no part of the copy
  other = "it holds cifar10" if inner in ("cifar10/3.0.2", "moved") else "the download .* failed"
  with pytest.raises(UserError, match=other):
    load(make_config("cifar100", tmp_path / inner))


def test_prepared_copy_that_is_broken(tmp_path):
  prepare(tmp_path)
  shard = next((tmp_path / "cifar10/3.0.2").glob("*train.array_record*"))
  shard.write_bytes(shard.read_bytes()[:100])
  with pytest.raises(UserError, match="cannot read its copy .*3.0.2"):
    load(make_config("cifar10", tmp_path))


def test_prepared_copy_in_tfrecord_is_passed_over(tmp_path, monkeypatch):
  copy = tmp_path / "cifar10" / "3.0.2"
  copy.mkdir(parents=True)
  (copy / "dataset_info.json").write_text('{"fileFormat": "tfrecord"}')
  (copy / "cifar10-train.tfrecord-00000-of-00001").write_bytes(b"records")
  with pytest.raises(UserError) as error:
    load(make_config("cifar10", tmp_path))
  assert f"{copy} cannot be read: not array_record" in str(error.value)
  assert "put cifar-10-binary.tar.gz into" in str(error.value)
  make_cifar10(tmp_path, monkeypatch)
  assert len(load(make_config("cifar10", tmp_path)).train_labels) == 20


# ---- image folders


def save(path, array, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(array).save(path, **options)


def make_folder(folder, seed=0):
  """Two classes of non-square images; file names and classes are written in wrong order."""
  rng = np.random.default_rng(seed)
  for split, count in (("train", 3), ("test", 2)):
    for name in ("zebra", "ant"):
      for i in reversed(range(count)):
        save(folder / split / name / f"{i}.png", rng.integers(0, 256, (11, 7, 3), dtype=np.uint8))
  (folder / "train/ant/notes.txt").write_text("no image")
  (folder / "train/ant/._0.png").write_text("left by an archiver")
  (folder / "train/.hidden").mkdir()
  return folder


def test_image_folder_order_labels_and_resize(tmp_path, monkeypatch):
  make_folder(tmp_path)
  real = os.scandir  # whose order is up to the file system

  @contextlib.contextmanager
  def backwards(path):
    with real(path) as entries:
      yield sorted(entries, key=lambda entry: entry.name, reverse=True)

  monkeypatch.setattr(os, "scandir", backwards)
  monkeypatch.setattr(image_folder, "_CHUNK", 4)  # two chunks, the last one not full
  data = load_as_stored(make_config("image_folder", tmp_path, image_size=5))
  assert data.class_names == ("ant", "zebra") and data.image_shape == (5, 5, 3)
  assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1] and data.test_labels.tolist() == [
    0,
    0,
    1,
    1,
  ]
  paths = [tmp_path / f"train/{name}/{i}.png" for name in ("ant", "zebra") for i in range(3)]
  for image, path in zip(data.train_images, paths, strict=True):
    expected = Image.open(path).resize((5, 5), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(image, np.asarray(expected))


def test_resize_is_antialiased():
  board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
  file = io.BytesIO()
  Image.fromarray(board).save(file, "PNG")
  shrunk = image_folder.decode(file, 8, 128).astype(float)
  assert np.abs(shrunk - 127.5).max() < 4  # point-wise sampling would leave 0 and 255


def test_jpegs_of_any_case(tmp_path):
  make_folder(tmp_path)
  flat = np.full((9, 9), 200, np.uint8)
  save(tmp_path / "train/ant/9.JPG", flat)
  save(tmp_path / "train/zebra/9.jpeg", flat)
  data = load_as_stored(make_config("image_folder", tmp_path))
  assert data.train_labels.tolist() == [0] * 4 + [1] * 4
  assert np.abs(data.train_images[[3, 7]].astype(int) - 200).max() <= 1


def break_image(folder):
  path = folder / "train/zebra/1.png"
  path.write_bytes(path.read_bytes()[:60])


def move(old, new):
  return lambda folder: os.rename(folder / old, folder / new)


@pytest.mark.parametrize(
  "change, told",
  [
    (break_image, "zebra/1.png' cannot be read as an image"),
    (lambda f: (f / "test/ant/0.png").write_text("?"), "ant/0.png' cannot be read as an image"),
    (move("test", "elsewhere"), "needs a folder 'test'"),
    (move("train", "elsewhere"), "needs a folder 'train'"),
    (move("test/ant", "test/bee"), r"only train has \['ant'\] and only test has \['bee'\]"),
    (move("test/ant", "ant"), r"only train has \['ant'\] and only test has \[\]"),
    (lambda f: (f / "train/empty").mkdir(), "train/empty' has no images"),
    (lambda f: [p.rename(f / p.name) for p in (f / "train").iterdir()], "has no class folders"),
  ],
)
def test_image_folder_errors(tmp_path, change, told):
  change(make_folder(tmp_path))
  with pytest.raises(UserError, match=told):
    load(make_config("image_folder", tmp_path))
  assert not list(tmp_path.glob("*.npz"))


@pytest.mark.parametrize("size", [0, -4, 8.0, "8"])
def test_bad_image_size(tmp_path, size):
  make_folder(tmp_path)
  config = make_config("image_folder", tmp_path)
  with config.ignore_type():
    config.image_size = size
  with pytest.raises(UserError, match=f"data.image_size={size!r}: must be an integer >= 1"):
    load(config)


@pytest.mark.parametrize("level", [-1, 256, 8.0, True, "8"])
def test_bad_background(tmp_path, level):
  make_folder(tmp_path)
  config = make_config("image_folder", tmp_path)
  with config.ignore_type():
    config.background = level
  with pytest.raises(UserError, match=f"data.background={level!r}: must be an integer in 0..255"):
    load(config)


def test_image_folder_needs_a_folder(tmp_path):
  with pytest.raises(UserError, match="data.dir=''"):
    load(make_config("image_folder"))
  with pytest.raises(UserError, match="missing': there is no such folder"):
    load(make_config("image_folder", tmp_path / "missing"))


def test_progress_only_for_many_images_on_a_terminal(tmp_path, monkeypatch, capfd):
  make_folder(tmp_path)
  monkeypatch.setattr(image_folder, "_PROGRESS_FROM", 5)  # six are for training, four for test
  load(make_config("image_folder", tmp_path))
  passed = "train/: passed over 1 file that is no image (1 .txt), 1 hidden file, 1 hidden folder"
  assert capfd.readouterr().err == f"data.dir: {passed}\n"
  monkeypatch.setattr(image_folder.sys.stderr, "isatty", lambda: True, raising=False)
  load(make_config("image_folder", tmp_path, image_size=9))
  told = capfd.readouterr()
  assert "decoding train" in told.err and "decoding test" not in told.err and told.out == ""


# ---- the cache


def caches(folder):
  return sorted(folder.glob("*.npz"))


def counted(monkeypatch):
  """Counts how often the images are decoded."""
  calls, read = [], image_folder.read
  monkeypatch.setattr(image_folder, "read", lambda *args: calls.append(args) or read(*args))
  return calls


def test_cache_hit_and_every_invalidation(tmp_path, monkeypatch):
  make_folder(tmp_path)
  calls = counted(monkeypatch)
  config = make_config("image_folder", tmp_path, validation=2)
  first = load(config)
  assert_same(load(config), first)
  config.split_seed, config.validation = 4, 3  # the split comes after the cache
  load(config)
  assert len(calls) == 1 and len(caches(tmp_path)) == 1
  path = tmp_path / "train/ant/1.png"
  changes = [
    lambda: os.utime(path, ns=(1, 1)),
    lambda: save(path, np.zeros((4, 4, 3), np.uint8)) or os.utime(path, ns=(1, 1)),  # size only
    lambda: path.with_name("2.png").rename(path.with_name("8.png")),
    lambda: save(tmp_path / "test/ant/7.png", np.zeros((4, 4, 3), np.uint8)),
    lambda: config.update(background=7),
    lambda: config.update(image_size=6),
  ]
  for n, change in enumerate(changes, 2):
    change()
    data = load(config)
    assert len(calls) == n
  assert data.image_shape == (6, 6, 3) and len(data.test_labels) == 5


def rewrite(path, **changes):
  with np.load(path, allow_pickle=False) as file:
    arrays = {key: file[key] for key in file.files}
  arrays.update(changes)
  np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def flip_pixel(path):
  content = bytearray(path.read_bytes())
  with np.load(path, allow_pickle=False) as file:
    at = bytes(content).find(file["train_images"].tobytes())
  content[at + 3] ^= 255
  path.write_bytes(bytes(content))


class Payload:
  """Unpickling this would be noticed."""

  def __reduce__(self):
    return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize(
  "damage",
  [
    lambda p: p.write_bytes(p.read_bytes()[:-200]),
    lambda p: p.write_bytes(b""),
    lambda p: p.write_bytes(b"junk"),
    flip_pixel,
    lambda p: rewrite(p, test_labels=None),
    lambda p: rewrite(p, train_labels=np.zeros(5, np.int32)),
    lambda p: rewrite(p, test_labels=np.full(4, 2, np.int32)),
    lambda p: rewrite(p, train_images=np.zeros((6, 8, 8, 3), np.float32)),
    lambda p: rewrite(p, class_names=np.array([Payload()], object)),
    lambda p: rewrite(p, train_files=np.array(["one", "two"])),
  ],
)
def test_broken_cache_is_made_again(tmp_path, monkeypatch, caplog, damage):
  make_folder(tmp_path)
  config = make_config("image_folder", tmp_path)
  first = load(config)
  (path,) = caches(tmp_path)
  damage(path)
  calls = counted(monkeypatch)
  assert_same(load(config), first)
  assert len(calls) == 1 and str(path) in caplog.text and "made again" in caplog.text
  assert_same(load(config), first)
  assert len(calls) == 1  # whole again
  assert not list(tmp_path.glob(".*.part"))


def test_cache_goes_home_where_the_folder_is_not_writable(tmp_path, home, monkeypatch, caplog):
  make_folder(tmp_path)
  real = Path.open

  def refuse(path, mode="r", *args, **kwargs):
    if "x" in mode and str(path).startswith(str(tmp_path)):
      raise PermissionError(13, "Permission denied", str(path))
    return real(path, mode, *args, **kwargs)

  monkeypatch.setattr(Path, "open", refuse)
  calls = counted(monkeypatch)
  config = make_config("image_folder", tmp_path)
  assert_same(load(config), load(config))
  assert len(calls) == 1 and not caches(tmp_path)
  assert len(caches(home / ".cache/dissim_jax")) == 1
  assert "cannot be written" in caplog.text


def test_cache_that_can_be_written_nowhere_is_no_error(tmp_path, home, monkeypatch):
  make_folder(tmp_path)
  (home / ".cache").write_text("a file where the folder should be")
  monkeypatch.setattr(atomic.os, "replace", lambda *a: (_ for _ in ()).throw(OSError("full")))
  assert len(load(make_config("image_folder", tmp_path)).train_labels) == 6
  assert not caches(tmp_path) and not list(tmp_path.glob(".*"))


def test_archive_cache_is_used_and_bound_to_the_hash(tmp_path, monkeypatch):
  make_cifar10(tmp_path, monkeypatch, seed=0)
  first = load(make_config("cifar10", tmp_path))
  reader = cifar.read_archive
  monkeypatch.setattr(cifar, "read_archive", None)
  assert_same(load(make_config("cifar10", tmp_path)), first)
  monkeypatch.setattr(cifar, "read_archive", reader)
  path, train, _ = make_cifar10(tmp_path, monkeypatch, seed=50)
  second = load_as_stored(make_config("cifar10", tmp_path))
  np.testing.assert_array_equal(second.train_images, np.concatenate([t[1] for t in train]))
  path.write_bytes(path.read_bytes()[:-10])  # noticed although the cache could answer
  with pytest.raises(UserError, match="expected sha256"):
    load(make_config("cifar10", tmp_path))


def test_nothing_here_imports_jax():
  import subprocess

  code = "import sys, dissim_jax.data.sources as s; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0
