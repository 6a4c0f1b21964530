"""CIFAR in every layout that people have on disk; forged here, small, with known pixels."""

import hashlib
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from dissim_jax.configs import default
from dissim_jax.data import cifar, cifar_files
from dissim_jax.errors import UserError
from tests.data.test_sources import load_as_stored

SIZES = {"train": 2, "test": 3}  # images in each file
FINE = [f"fine_{i}" for i in range(100)]


@pytest.fixture(autouse=True)
def alone(tmp_path_factory, monkeypatch):
  """No test reads or writes the user's own cache or reaches the network; returns the home."""
  home = tmp_path_factory.mktemp("home")
  monkeypatch.setenv("HOME", str(home))

  def refuse(*args, **kwargs):
    raise OSError("no network in tests")

  monkeypatch.setattr(cifar.urllib.request, "urlopen", refuse)
  return home


def config_of(name, folder):
  config = default.get_config().data
  config.name, config.dir = name, str(folder)
  return config


def images_of(name):
  """File of the binary form -> (images [N, 32, 32, 3], labels)."""
  rng = np.random.default_rng(len(name))
  form, classes = cifar_files.BINARY[name], {"cifar10": 10, "cifar100": 100}[name]
  content = {}
  for split in ("train", "test"):
    for base in getattr(form, split):
      count = SIZES[split]
      images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
      content[base] = images, rng.integers(0, classes, count).tolist()
  return content


# ---- forged files


def python2(batch):
  """A dict as Python 2 with NumPy 1 pickled it, opcode by opcode."""
  out = b"\x80\x02}("
  for key, value in batch.items():
    out += _text2(key)
    if isinstance(value, np.ndarray):
      data = value.tobytes()
      out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
      out += b"(K\x01" + b"".join(b"M" + struct.pack("<H", n) for n in value.shape) + b"\x86"
      out += b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + 2 * b"J\xff\xff\xff\xff"
      out += b"K\x00tb\x89T" + struct.pack("<I", len(data)) + data + b"tb"
    else:
      out += b"](" + b"".join(map(_item2, value)) + b"e"
  return out + b"u."


def _item2(value):
  return b"K" + bytes([value]) if isinstance(value, int) else _text2(value)


def _text2(text):
  return b"U" + bytes([len(text)]) + text.encode()


def python3(protocol):
  return lambda batch: pickle.dumps(batch, protocol=protocol)


def python_files(name, dump=python2):
  """The files of the python form."""
  form, content = cifar_files.PYTHON[name], images_of(name)
  files = {}
  for base in (*form.train, *form.test):
    images, labels = content[f"{base}.bin"]
    data = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    batch = {"data": np.ascontiguousarray(data), "filenames": [f"{i}.png" for i in labels]}
    batch |= {"labels": labels} if name == "cifar10" else {"fine_labels": labels}
    files[base] = dump(batch | ({"coarse_labels": [0] * len(labels)} if name != "cifar10" else {}))
  if name == "cifar100":
    files["meta"] = dump({"coarse_label_names": ["wrong"], "fine_label_names": FINE})
  else:
    files["batches.meta"] = b"never read"
  return files


def binary_files(name):
  """The files of the binary form."""
  files = {}
  for base, (images, labels) in images_of(name).items():
    coarse = b"" if name == "cifar10" else b"\x07"
    records = zip(labels, images.transpose(0, 3, 1, 2), strict=True)
    files[base] = b"".join(coarse + bytes([k]) + image.tobytes() for k, image in records)
  if name == "cifar100":
    files["fine_label_names.txt"] = ("\n".join(FINE) + "\n").encode()
  return files


FORMS = {
  (name, kind): (getattr(cifar_files, kind.upper())[name], files)
  for name in ("cifar10", "cifar100")
  for kind, files in (("binary", binary_files), ("python", python_files))
}


def unpack(folder, files):
  folder.mkdir(parents=True, exist_ok=True)
  for base, content in files.items():
    (folder / base).write_bytes(content)
  return folder


def archive(path, inner, files):
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, "w:gz") as tar:
    for base, content in files.items():
      info = tarfile.TarInfo(f"{inner}/{base}")
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
  return path


def trust(monkeypatch, name, kind, path):
  """Makes an archive the official one."""
  content = path.read_bytes()
  official = cifar_files.PYTHON_LISTINGS[name].filename.replace("python", kind)
  digest = hashlib.sha256(content).hexdigest()
  listing = cifar.Listing("http://nowhere.invalid", len(content), digest, official)
  if kind == "binary":
    monkeypatch.setattr(cifar, "listed", lambda _: listing)
  else:
    monkeypatch.setitem(cifar.PYTHON_LISTINGS, name, listing)


def check(name, data):
  """The data set must be what `images_of` says, in its order."""
  content, form = images_of(name), cifar_files.BINARY[name]
  images = np.concatenate([content[base][0] for base in form.train])
  labels = np.concatenate([content[base][1] for base in form.train])
  np.testing.assert_array_equal(data.train_images, images)
  np.testing.assert_array_equal(data.train_labels, labels)
  np.testing.assert_array_equal(data.test_images, content[form.test[0]][0])
  np.testing.assert_array_equal(data.test_labels, content[form.test[0]][1])
  assert data.train_images.dtype == np.uint8 and data.train_labels.dtype == np.int32
  assert data.class_names[3] == ("cat" if name == "cifar10" else "fine_3")


# ---- layouts


@pytest.mark.parametrize("name, kind", FORMS)
def test_archives(tmp_path, monkeypatch, name, kind):
  form, files = FORMS[name, kind]
  official = cifar_files.PYTHON_LISTINGS[name].filename.replace("python", kind)
  path = archive(tmp_path / official, form.folder, files(name))
  trust(monkeypatch, name, kind, path)
  check(name, load_as_stored(config_of(name, tmp_path)))
  keras = tmp_path / "keras" / f"{form.folder}.tar.gz"
  keras.parent.mkdir()
  path.rename(keras)
  check(name, load_as_stored(config_of(name, keras.parent)))


@pytest.mark.parametrize("name, kind", FORMS)
def test_unpacked_folders_their_parents_and_under_other_names(tmp_path, name, kind):
  form, files = FORMS[name, kind]
  folder = unpack(tmp_path / form.folder, files(name))
  check(name, load_as_stored(config_of(name, tmp_path)))
  check(name, load_as_stored(config_of(name, folder)))
  check(name, load_as_stored(config_of(name, os.path.relpath(folder))))
  folder.rename(tmp_path / "mine")
  check(name, load_as_stored(config_of(name, tmp_path / "mine")))


def test_official_checksums():
  """The SHA-256 that Keras lists."""
  known = {
    "cifar10": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "cifar100": "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
  }
  assert {name: one.sha256 for name, one in cifar_files.PYTHON_LISTINGS.items()} == known


def test_python_archive_with_another_hash_is_refused(tmp_path):
  archive(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", python_files("cifar10"))
  with pytest.raises(UserError, match="cifar-10-python.tar.gz' is damaged .* sha256 6d958be0"):
    load_as_stored(config_of("cifar10", tmp_path))


def test_either_archive_serves_the_cache_of_the_other(tmp_path, monkeypatch):
  for kind in ("binary", "python"):
    form, files = FORMS["cifar10", kind]
    path = archive(tmp_path / f"cifar-10-{kind}.tar.gz", form.folder, files("cifar10"))
    trust(monkeypatch, "cifar10", kind, path)
  binary, python = tmp_path / "cifar-10-binary.tar.gz", tmp_path / "cifar-10-python.tar.gz"
  binary.unlink()
  check("cifar10", load_as_stored(config_of("cifar10", tmp_path)))
  python.unlink()
  check("cifar10", load_as_stored(config_of("cifar10", tmp_path)))  # no archive, no network


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_batches_that_python_3_pickled(tmp_path, protocol):
  unpack(tmp_path / "cifar-10-batches-py", python_files("cifar10", python3(protocol)))
  check("cifar10", load_as_stored(config_of("cifar10", tmp_path)))


def test_other_numbers_of_images_than_published_are_told(tmp_path, capsys, monkeypatch):
  unpack(tmp_path / "cifar-10-batches-bin", binary_files("cifar10"))
  load_as_stored(config_of("cifar10", tmp_path))
  told = "holds 10 train and 3 test images, cifar10 as published has 50,000 and 10,000"
  assert told in capsys.readouterr().err
  monkeypatch.setattr(cifar, "COUNTS", {"train": 10, "test": 3})
  (tmp_path / "cifar-10-batches-bin/test_batch.bin").touch()
  load_as_stored(config_of("cifar10", tmp_path))
  assert capsys.readouterr().err == ""


def test_a_changed_file_is_read_again(tmp_path):
  folder = unpack(tmp_path / "cifar-10-batches-bin", binary_files("cifar10"))
  load_as_stored(config_of("cifar10", folder))
  content = bytearray((folder / "test_batch.bin").read_bytes())
  content[1] ^= 255
  (folder / "test_batch.bin").write_bytes(content)
  data = load_as_stored(config_of("cifar10", folder))
  assert data.test_images[0, 0, 0, 0] == 255 ^ images_of("cifar10")["test_batch.bin"][0][0, 0, 0, 0]


# ---- what nobody may be made to run


class Evil:
  """Unpickling this writes a file."""

  def __init__(self, *call):
    self.call = call

  def __reduce__(self):
    return self.call


MARK = "marked"  # the file that a pickle would make
ATTACKS = {
  "system": pickle.dumps({"data": Evil(os.system, (f"touch {MARK}",)), "labels": []}),
  "eval": pickle.dumps(Evil(eval, (f"open({MARK!r}, 'w')",))),
  "old": b"cos\nsystem\n(S'touch " + MARK.encode() + b"'\ntR.",
  "instance": b"(S'touch " + MARK.encode() + b"'\nios\nsystem\n.",
  "getattr": pickle.dumps(Evil(getattr, ("", "__class__"))),
  "numpy": pickle.dumps(Evil(np.load, (MARK,))),
  "object array": pickle.dumps({"data": np.array([Evil(os.mkdir, (MARK,))]), "labels": [1]}),
  "dotted": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
  "state of a function": b"c_codecs\nencode\n}U\x01aK\x01sb.",
  "state of a class": b"cnumpy\nndarray\n}U\x01aK\x01sb.",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_malicious_pickle_is_refused_and_never_run(tmp_path, monkeypatch, attack):
  monkeypatch.chdir(tmp_path)
  files = python_files("cifar10") | {"data_batch_3": ATTACKS[attack]}
  unpack(tmp_path / "cifar-10-batches-py", files)
  with pytest.raises(UserError, match="cifar-10-batches-py' cannot be read .data_batch_3: "):
    load_as_stored(config_of("cifar10", tmp_path))
  assert not os.path.exists(MARK)
  assert "a" not in vars(cifar_files._Array) and "a" not in vars(cifar_files._Bytes)


def test_the_attacks_would_have_worked(tmp_path, monkeypatch):
  """The negative control: an unpickler without guard runs them."""
  monkeypatch.chdir(tmp_path)
  for attack in ("system", "eval", "old", "instance", "object array"):
    pickle.loads(ATTACKS[attack])
    assert os.path.exists(MARK)
    (os.rmdir if os.path.isdir(MARK) else os.remove)(MARK)


# ---- damage


GOOD = {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2]}


@pytest.mark.parametrize(
  "batch, told",
  [
    ({"data": np.zeros((2, 3072), np.uint8)}, "no array 'data' with a list 'labels'"),
    (GOOD | {"data": [1]}, "no array 'data'"),
    (GOOD | {"data": np.zeros((2, 3071), np.uint8)}, r"data is \[2, 3071\]"),
    (GOOD | {"data": np.zeros((2, 3072), np.float32)}, "not of uint8"),
    (GOOD | {"labels": [1]}, "not one class for each of 2"),
    (GOOD | {"labels": [1, -1]}, "not one class for each of 2"),
    (GOOD | {"labels": [1, 10]}, "label 10 in a data set of 10 classes"),
    (GOOD | {"data": np.zeros((0, 3072), np.uint8), "labels": []}, r"data is \[0, 3072\]"),
    ([1], "it holds no dict"),
  ],
)
def test_batches_of_another_form(tmp_path, batch, told):
  files = python_files("cifar10") | {"data_batch_2": pickle.dumps(batch, protocol=4)}
  unpack(tmp_path / "cifar-10-batches-py", files)
  with pytest.raises(UserError, match=f"data_batch_2: .*{told}"):
    load_as_stored(config_of("cifar10", tmp_path))


def cut(content):
  return content[: len(content) // 2 - 1]  # not between two records


@pytest.mark.parametrize("name, kind", FORMS)
@pytest.mark.parametrize("change", [cut, lambda content: b"", lambda content: None])
def test_files_that_are_cut_short_empty_or_missing_are_named(tmp_path, name, kind, change):
  form, files = FORMS[name, kind]
  for base in (form.train[-1], form.test[0]):
    folder = unpack(tmp_path / base / form.folder, files(name))
    content = change((folder / base).read_bytes())
    (folder / base).unlink()
    if content is not None:
      (folder / base).write_bytes(content)
    with pytest.raises(UserError, match=f"{form.folder}' cannot be read .*{base}") as error:
      load_as_stored(config_of(name, tmp_path / base))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_an_archive_without_a_file(tmp_path, monkeypatch, kind):
  form, files = FORMS["cifar10", kind]
  files = {base: content for base, content in files("cifar10").items() if base != form.test[0]}
  path = archive(tmp_path / f"cifar-10-{kind}.tar.gz", form.folder, files)
  trust(monkeypatch, "cifar10", kind, path)
  with pytest.raises(UserError, match=f"archive .* cannot be read .no {form.test[0]} in"):
    load_as_stored(config_of("cifar10", tmp_path))


# ---- folders that are not what was meant


def test_a_mistyped_folder_is_not_made(tmp_path, alone):
  for folder in (tmp_path / "cifer", tmp_path / "no" / "way"):
    with pytest.raises(UserError, match=f"data.dir='{folder}': there is no such folder"):
      load_as_stored(config_of("cifar10", folder))
  (tmp_path / "file").write_text("?")
  with pytest.raises(UserError, match="file': is a file"):
    load_as_stored(config_of("cifar10", tmp_path / "file"))
  assert [path.name for path in tmp_path.iterdir()] == ["file"] and not list(alone.iterdir())


def test_what_was_looked_for_is_told(tmp_path, capsys):
  with pytest.raises(UserError) as error:
    load_as_stored(config_of("cifar100", tmp_path))
  looked = "cifar100/<version>/, cifar-100-binary/, cifar-100-python/, cifar-100-binary.tar.gz, "
  assert looked + "cifar-100-python.tar.gz" in str(error.value)
  told = capsys.readouterr().err
  assert looked in told and "downloading https://www.cs.toronto.edu" in told
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_folder_of_another_data_set(tmp_path, kind):
  form, files = FORMS["cifar100", kind]
  folder = unpack(tmp_path / form.folder, files("cifar100"))
  with pytest.raises(UserError, match="it holds cifar100, but data.name='cifar10'"):
    load_as_stored(config_of("cifar10", folder))
  with pytest.raises(UserError, match="the download .* failed"):  # beside it there may be cifar10
    load_as_stored(config_of("cifar10", tmp_path))
  form, files = FORMS["cifar10", kind]
  folder = unpack(tmp_path / form.folder, files("cifar10"))
  with pytest.raises(UserError, match="it holds cifar10, but data.name='cifar100'"):
    load_as_stored(config_of("cifar100", folder))


def test_folders_called_train_and_test_are_no_cifar(tmp_path):
  for split in ("train", "test"):
    (tmp_path / split).mkdir()
  with pytest.raises(UserError, match="cifar100 is not in"):
    load_as_stored(config_of("cifar100", tmp_path))


@pytest.mark.parametrize("info", ['{"name": "cifar10"}', "{}", "damaged"])
def test_prepared_version_that_is_not_array_record(tmp_path, info):
  copy = tmp_path / "cifar10" / "3.0.2"
  copy.mkdir(parents=True)
  (copy / "dataset_info.json").write_text(info)
  (copy / "cifar10-train.tfrecord-00000-of-00001").write_bytes(b"records")
  with pytest.raises(UserError, match="3.0.2': it cannot be read, it is not array_record"):
    load_as_stored(config_of("cifar10", copy))
  assert len(list(copy.iterdir())) == 2
