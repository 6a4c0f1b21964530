"""Which files of a folder become images of which class, and what is said of the others."""

import json
import os
import stat

import numpy as np
import pytest
from PIL import Image

from dissim_jax.configs import default
from dissim_jax.data import folder_files, image_folder, load
from dissim_jax.data.folder_files import list_files
from dissim_jax.errors import UserError
from dissim_jax.names import printable


def save(path, level=0):
  """A flat grey image whose level tells it apart."""
  os.makedirs(os.path.dirname(path), exist_ok=True)
  Image.new("L", (4, 4), level).save(path, "PNG")


def make(root, files, first=0):
  """Images at these paths, with levels `first`, `first` + 1, …"""
  for level, path in enumerate(files, first):
    save(os.path.join(root, path), level)
  return root


TEST = ["test/ant/0.png", "test/bee/0.png"]


def paths(files):
  return {name: [file.path for file in members] for name, members in files.items()}


def read(root, size=4):
  return image_folder.read(root, list_files(root), size, 128)


# ---- layouts


def test_nested_folders_belong_to_their_class(tmp_path):
  nested = ["ant/z.png", "ant/a/b/c/1.png", "ant/a/0.PNG", "bee/images/0.JPEG", "bee/b.png/x.bmp"]
  make(tmp_path, [f"train/{path}" for path in nested] + TEST)
  arrays = read(tmp_path)
  expected = ["ant/a/0.PNG", "ant/a/b/c/1.png", "ant/z.png", "bee/b.png/x.bmp", "bee/images/0.JPEG"]
  assert arrays["train_files"].tolist() == [f"train/{path}" for path in expected]
  assert arrays["train_labels"].tolist() == [0, 0, 0, 1, 1]
  assert arrays["train_images"][:, 0, 0, 0].tolist() == [nested.index(path) for path in expected]
  assert arrays["test_files"].tolist() == TEST and arrays["class_names"].tolist() == ["ant", "bee"]


def tiny_imagenet(root):
  """As its archive is: boxes beside the images, labels of val/ in a file, none of test/."""
  make(root, [f"train/{name}/images/{name}_{i}.JPEG" for name in ("n01", "n02") for i in range(2)])
  for name in ("n01", "n02"):
    (root / f"train/{name}/{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t9\t9\n")
  make(root, [f"val/images/val_{i}.JPEG" for i in range(3)], 10)
  lines = [f"val_{i}.JPEG\t{name}\t0\t0\t9\t9\n" for i, name in enumerate(("n02", "n01", "n02"))]
  (root / "val/val_annotations.txt").write_text("".join(lines))
  make(root, [f"test/images/test_{i}.JPEG" for i in range(2)])
  (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\n")
  return root


def test_tiny_imagenet(tmp_path, capsys):
  arrays = read(tiny_imagenet(tmp_path))
  assert arrays["class_names"].tolist() == ["n01", "n02"]
  assert arrays["train_labels"].tolist() == [0, 0, 1, 1]
  assert arrays["test_files"].tolist() == [f"val/images/val_{i}.JPEG" for i in (1, 0, 2)]
  assert arrays["test_labels"].tolist() == [0, 1, 1]
  assert arrays["test_images"][:, 0, 0, 0].tolist() == [11, 10, 12]
  assert capsys.readouterr().err.splitlines() == [
    "data.dir: train/: passed over 2 files that are no images (2 .txt)",
    "data.dir: test/ is passed over, it has no folder of a class of train/; val/ is the test set",
  ]


def test_annotations_and_images_that_do_not_match_are_counted(tmp_path, capsys):
  tiny_imagenet(tmp_path)
  (tmp_path / "val/images/val_0.JPEG").unlink()
  save(tmp_path / "val/images/more.JPEG")
  assert read(tmp_path)["test_labels"].tolist() == [0, 1]
  told = "1 image without a line in the annotations, 1 line of the annotations without its image"
  assert f"data.dir: val/: passed over {told}" in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("line", ["val_0.JPEG n01", "val_0.JPEG\t"])
def test_annotations_of_another_form(tmp_path, line):
  tiny_imagenet(tmp_path)
  (tmp_path / "val/val_annotations.txt").write_text(f"val_1.JPEG\tn01\n{line}\n")
  with pytest.raises(UserError, match="line 2 of .*val_annotations.txt' must be a file, a"):
    list_files(tmp_path)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_folder_in_the_place_of_a_test_folder(tmp_path, capsys, name):
  make(tmp_path, ["train/ant/0.png", "train/bee/0.png", f"{name}/ant/0.png", f"{name}/bee/1.png"])
  assert paths(list_files(tmp_path)["test"]) == {
    "ant": [f"{name}/ant/0.png"],
    "bee": [f"{name}/bee/1.png"],
  }
  assert capsys.readouterr().err == f"data.dir: {name}/ is the test set\n"
  make(tmp_path, TEST)
  assert paths(list_files(tmp_path)["test"])["ant"] == ["test/ant/0.png"]
  assert capsys.readouterr().err == (f"data.dir: {name}/ is passed over; test/ is the test set\n")


def test_names_of_folders_that_are_there_are_told(tmp_path):
  make(tmp_path, ["Train/ant/0.png", "eval/ant/0.png"])
  with pytest.raises(UserError, match=r"needs a folder 'train' .*, it has \['Train', 'eval'\]"):
    list_files(tmp_path)
  (tmp_path / "Train").rename(tmp_path / "train")
  with pytest.raises(UserError, match=r"needs a folder 'test' .*, it has \['eval', 'train'\]"):
    list_files(tmp_path)


def test_of_many_classes_that_differ_only_some_are_named(tmp_path):
  make(tmp_path, [f"train/{i:03}/0.png" for i in range(40)] + ["test/000/0.png"])
  with pytest.raises(UserError) as error:
    list_files(tmp_path)
  assert "only train has ['001', '002', '003', '004', '005'] and 34 more" in str(error.value)


# ---- what is passed over


def test_all_that_is_passed_over_is_counted(tmp_path, capsys):
  make(tmp_path, ["train/ant/0.png", "train/ant/in/1.png", "train/bee/0.png", *TEST])
  for path in ("ant/a.txt", "ant/in/b.TXT", "bee/c.json", "README"):
    (tmp_path / "train" / path).write_text("?")
  for path in ("ant/.DS_Store", "ant/in/._1.png", "bee/.0.png"):
    (tmp_path / "train" / path).write_text("?")
  (tmp_path / "train/ant/.git").mkdir()
  save(tmp_path / "train/loose.png")
  os.symlink("nowhere.png", tmp_path / "train/bee/dangling.png")
  os.symlink("loop.png", tmp_path / "train/bee/loop.png")
  os.symlink("nowhere", tmp_path / "train/cat")
  os.mkfifo(tmp_path / "train/bee/pipe.png")
  assert {name: len(files) for name, files in list_files(tmp_path)["train"].items()} == {
    "ant": 2,
    "bee": 1,
  }
  (told,) = capsys.readouterr().err.splitlines()
  head, _, rest = told.partition(": passed over ")
  assert head == "data.dir: train/"
  assert rest == (
    "4 files that are no images (2 .txt, 1 without suffix, 1 .json), 3 dangling links, "
    "1 device or pipe, 3 hidden files, 1 hidden folder, 1 image in no class folder"
  )


def test_nothing_is_said_where_nothing_is_passed_over(tmp_path, capsys):
  make(tmp_path, ["train/ant/0.png", "train/bee/0.png", *TEST])
  list_files(tmp_path)
  assert capsys.readouterr().err == ""


def test_many_other_types_are_summed_up(tmp_path, capsys):
  make(tmp_path, ["train/ant/0.png", "train/bee/0.png", *TEST])
  for i in range(8):
    (tmp_path / f"train/ant/x.t{i}").write_text("?")
  list_files(tmp_path)
  assert "8 files that are no images (1 .t" in (told := capsys.readouterr().err)
  assert "3 other types)" in told


def test_links_are_followed_but_not_in_circles(tmp_path, capsys):
  make(tmp_path, ["train/ant/0.png", "train/bee/0.png", "elsewhere/more/1.png", *TEST])
  os.symlink("../bee/0.png", tmp_path / "train/ant/linked.png")
  os.symlink("../../elsewhere", tmp_path / "train/ant/linked")
  os.symlink("../../elsewhere", tmp_path / "train/ant/twice")
  os.symlink("..", tmp_path / "train/ant/up")
  os.symlink("/", tmp_path / "train/bee/root")
  os.symlink("../../elsewhere/more", tmp_path / "elsewhere/more/again")
  assert paths(list_files(tmp_path)["train"]) == {
    "ant": ["train/ant/0.png", "train/ant/linked.png", "train/ant/linked/more/1.png"],
    "bee": ["train/bee/0.png"],
  }
  told = "data.dir: train/: passed over 4 links to folders read already\n"
  assert capsys.readouterr().err == told


def test_a_whole_class_may_be_a_link(tmp_path):
  make(tmp_path, ["store/0.png", "train/bee/0.png", *TEST])
  os.symlink("../store", tmp_path / "train/ant")
  assert paths(list_files(tmp_path)["train"])["ant"] == ["train/ant/0.png"]


# ---- names


ODD = [b"caf\xe9", b"a\nb", b"a\\xe9", b"a\\", "é".encode(), b"\x1b[31m", b"tab\t"]


def test_printable_names_are_printable_and_different():
  letters = ["\udce9", "\\", "x", "e", "9", "\n", "n", "u", "0", "\x85", "\u2028", "é", "\u202e"]
  names = [a + b + c for a in letters for b in letters for c in letters]
  names += ["\\xe9", "\\n", "\\u202e"]
  shown = [printable(name) for name in names]
  assert len(set(shown)) == len(names)
  for text in shown:
    text.encode("utf-8")
    assert "\n" not in text and not any(letter < " " for letter in text)
    assert "\u202e" not in text and "\u2028" not in text and len(text.splitlines()) == 1
  assert printable("日本 é-1.png") == "日本 é-1.png" and printable("\udce9a\n") == "\\xe9a\\n"


def test_names_of_any_bytes(tmp_path, capsys, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  root = os.fsencode(tmp_path / "images")
  for split in (b"train", b"test"):
    for level, name in enumerate(ODD):
      folder = os.path.join(root, split, name)
      for suffix in (b".png", b".PNG", b""):
        save(os.fsdecode(os.path.join(folder, name + suffix)), level)
  config = default.get_config().data
  config.name, config.dir, config.image_size = "image_folder", os.fsdecode(root), 4
  data = load(config)
  assert len(set(data.class_names)) == len(ODD) == data.num_classes
  assert "caf\\xe9" in data.class_names and "a\\\\xe9" in data.class_names
  json.dumps(data.class_names, ensure_ascii=False).encode("utf-8")
  told = capsys.readouterr().err
  assert "without suffix" in told and told.isascii() and len(told.splitlines()) == 2
  folder = tmp_path / "images"
  (cache,) = folder.glob("*.npz")
  with np.load(cache) as arrays:  # no pickle is needed
    files, labels, images = (arrays[f"train_{key}"] for key in ("files", "labels", "images"))
  assert len(set(files.tolist())) == len(files) == 2 * len(ODD)
  for name, level, image in zip(files, labels, images, strict=True):
    assert name.startswith(f"train/{data.class_names[level]}/")
    original = ODD[image[0, 0, 0]]
    assert printable(os.fsdecode(original)) == data.class_names[level]
  monkeypatch.setattr(image_folder, "read", None)
  assert load(config).class_names == data.class_names  # from the cache


# ---- errors


def unreadable(folder, monkeypatch):
  """Permission is refused for one folder; tests may run as root, whom nothing is refused."""
  real = os.scandir

  def refuse(path):
    if os.fspath(path) == os.fspath(folder):
      raise PermissionError(13, "Permission denied", str(path))
    return real(path)

  monkeypatch.setattr(folder_files.os, "scandir", refuse)


@pytest.mark.parametrize("inner", ["", "train", "train/ant", "train/ant/in", "test"])
def test_folder_that_may_not_be_read(tmp_path, monkeypatch, inner):
  make(tmp_path, ["train/ant/in/0.png", "train/bee/0.png", *TEST])
  unreadable(tmp_path / inner, monkeypatch)
  if not inner:
    (tmp_path / "train").rename(tmp_path / "other")
  with pytest.raises(UserError, match="cannot be read .Permission denied."):
    list_files(tmp_path)


@pytest.mark.parametrize(
  "change, told",
  [
    (lambda f: (f / "x.jpg").mkdir(), "train/ant/x.jpg' cannot be read as .* .it is a folder"),
    (lambda f: (f / "x.jpg/in").mkdir(parents=True), "x.jpg' cannot be read .* .it is a folder"),
    (lambda f: (f / "x.jpg").touch(), "x.jpg' cannot be read as an image .it has no content"),
    (lambda f: (f / "x.jpg").write_text("?"), "x.jpg' cannot be read as an image .damaged"),
    (lambda f: (f / "../cat").mkdir(), "class folder .*cat' has no images"),
    (lambda f: (f / "0.png").rename(f / "0.txt"), "ant' has no images; it has 1 file that is no"),
    (lambda f: os.rename(f / "../../test", f / "../../rest"), "needs a folder 'test' or 'val'"),
  ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, change, told):
  make(tmp_path, ["train/ant/0.png", "train/bee/0.png", *TEST])
  change(tmp_path / "train/ant")
  with pytest.raises(UserError, match=told) as error:
    read(tmp_path)
  assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("folder, told", [("file", "is a file"), ("no/way", "no such folder")])
def test_data_dir_that_is_no_folder(tmp_path, folder, told):
  (tmp_path / "file").write_text("?")
  with pytest.raises(UserError, match=f"data.dir=.*{folder}': .*{told}"):
    list_files(tmp_path / folder)


def test_an_image_that_may_not_be_read(tmp_path):
  make(tmp_path, ["train/ant/0.png", "train/bee/0.png", *TEST])
  os.chmod(tmp_path / "train/ant/0.png", 0)
  if os.access(tmp_path / "train/ant/0.png", os.R_OK):  # root may read everything
    assert stat.S_IMODE(os.stat(tmp_path / "train/ant/0.png").st_mode) == 0
    return
  with pytest.raises(UserError, match="0.png' cannot be read as an image .*Permission"):
    read(tmp_path)
