"""Which files of a folder are images of which class, and which are passed over.

Nothing is passed over in silence: one line on stderr for each split says what and how many.
"""

import errno
import os
import stat
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from dissim_jax.data.decoding import suffixes
from dissim_jax.errors import UserError
from dissim_jax.names import printable

TRAIN = "train"
TESTS = ("test", "val", "valid", "validation")  # the first with labels is the test set
_SHOWN = 5  # names in a sentence
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # of a link: it leads to nothing


class File(NamedTuple):
  """An image: path from the folder of the data set, size in bytes, last change in nanoseconds."""

  path: str
  size: int
  changed: int


Classes = dict[str, list[File]]

_DANGLING = ("dangling link", "dangling links")
_HIDDEN_FILE = ("hidden file", "hidden files")
_HIDDEN_FOLDER = ("hidden folder", "hidden folders")
_LOOSE = ("image in no class folder", "images in no class folder")
_NO_FILE = ("device or pipe", "devices or pipes")
_TWICE = ("link to a folder read already", "links to folders read already")
_NO_IMAGE = ("line of the annotations without its image", "lines of the annotations without images")
_NO_LINE = ("image without a line in the annotations", "images without a line in the annotations")


class Passed:
  """Counts what is passed over."""

  def __init__(self) -> None:
    self.kinds: Counter[tuple[str, str]] = Counter()  # by what one and what several are called
    self.types: Counter[str] = Counter()  # suffixes of files that are no images

  def __str__(self) -> str:
    """E.g. "3 files that are no images (2 .txt, 1 .json), 1 dangling link"; empty if nothing."""
    ordered = sorted(self.types, key=lambda name: (-self.types[name], name))
    types = [f"{self.types[name]} {name or 'without suffix'}" for name in ordered]
    more = [f"{len(types) - _SHOWN} other types"] if len(types) > _SHOWN else []
    note = f" ({', '.join(types[:_SHOWN] + more)})"
    others = ("file that is no image", "files that are no images")
    counts = [(self.types.total(), others, note)]
    counts += [(count, kind, "") for kind, count in sorted(self.kinds.items())]
    return ", ".join(f"{n} {kind[n > 1]}{note}" for n, kind, note in counts if n)


def list_files(folder: Path) -> dict[str, Classes]:
  """Finds the images of each class, as "train" -> class -> files and "test" -> class -> files.

  `train/<class>/` and all folders in it hold images; the class is the name of the folder. The
  test images are those of `test/<class>/` or, where `test/` is missing or has no labels, of
  `val/`, `valid/` or `validation/`. TinyImageNet's `val/images/*` with `val/val_annotations.txt`
  (file, tab, class) has labels as well. Links are followed. Classes and files are sorted.

  Hidden files, files of other types and links that lead nowhere are passed over, and counted on
  stderr.

  Raises:
    UserError: a folder that is missing or cannot be read, no classes, a class without images, an
      image without content, or test classes that are not the training classes.
  """
  if not os.path.isdir(folder):
    there = "is a file" if os.path.lexists(folder) else "there is no such folder"
    raise UserError(
      f"data.dir={str(folder)!r}: {there}, image_folder needs one that holds train/ and test/"
    )
  train = _list_split(folder, TRAIN)
  name, test = _list_test(folder, train)
  only_train, only_test = sorted(set(train) - set(test)), sorted(set(test) - set(train))
  if only_train or only_test:
    raise UserError(
      f"data.dir={str(folder)!r}: train and {name} must have the same classes, but only train has "
      f"{_some(only_train)} and only {name} has {_some(only_test)}"
    )
  return {"train": train, "test": test}


def _list_test(folder: Path, train: Iterable[str]) -> tuple[str, Classes]:
  """The name of the folder of the test set, and its classes."""
  there = [name for name in TESTS if os.path.isdir(folder / name)]
  if not there:
    raise UserError(f"data.dir={str(folder)!r}: {_missing(folder, *TESTS[:2])}")
  labels = {name: _has_labels(folder / name, train) for name in there}
  chosen = next((name for name in there if labels[name]), there[0])
  notes = [
    f"{name}/ is passed over" + ("" if labels[name] else ", it has no folder of a class of train/")
    for name in there
    if name != chosen
  ]
  if notes or chosen != TESTS[0]:
    _tell("; ".join([*notes, f"{chosen}/ is the test set"]))
  annotated = labels[chosen] == "annotated"
  return chosen, (_list_annotated if annotated else _list_split)(folder, chosen)


def _has_labels(folder: Path, train: Iterable[str]) -> str:
  """How a possible test set has labels: "folders", "annotated", or "" for not at all."""
  names = {entry.name for entry in _scan(folder) if os.path.isdir(entry)}
  if names & set(train):
    return "folders"
  return "annotated" if os.path.isfile(_annotations(folder)) else ""


def _list_split(folder: Path, split: str) -> Classes:
  """`<split>/<class>/**`, by class."""
  if not os.path.isdir(folder / split):
    raise UserError(f"data.dir={str(folder)!r}: {_missing(folder, split)}")
  passed, classes = Passed(), {}
  for entry, status in _visible(folder / split, passed):
    if stat.S_ISDIR(status.st_mode):
      before = Passed()
      classes[entry.name] = _walk(entry.path, f"{split}/{entry.name}", before)
      if not classes[entry.name]:
        note = f"; it has {before}" if str(before) else ""
        raise UserError(f"data.dir: the class folder {entry.path!r} has no images{note}")
      passed.kinds += before.kinds
      passed.types += before.types
    elif _suffix(entry.name) in suffixes():
      passed.kinds[_LOOSE] += 1
    else:
      passed.types[printable(_suffix(entry.name))] += 1
  if not classes:
    raise UserError(
      f"data.dir={str(folder)!r}: {split!r} has no class folders, image_folder needs "
      f"{split}/<class>/*.png or another type of image"
    )
  if str(passed):
    _tell(f"{split}/: passed over {passed}")
  return {name: classes[name] for name in sorted(classes)}


def _list_annotated(folder: Path, split: str) -> Classes:
  """`<split>/images/*`, by the class that `<split>_annotations.txt` gives to each file."""
  path, listed = _annotations(folder / split), {}
  try:
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
      for number, line in enumerate(lines, 1):
        name, _, rest = line.rstrip("\n").partition("\t")
        if not rest:
          raise UserError(f"data.dir: line {number} of {path!r} must be a file, a tab, its class")
        listed[name] = rest.split("\t")[0]
  except OSError as error:
    raise UserError(f"data.dir: {path!r} cannot be read ({error.strerror or error})") from error
  passed, classes = Passed(), {}
  files = _walk(os.path.join(folder, split, "images"), f"{split}/images", passed)
  for file in files:
    name = os.path.basename(file.path)
    if name in listed:
      classes.setdefault(listed.pop(name), []).append(file)
    else:
      passed.kinds[_NO_LINE] += 1
  passed.kinds[_NO_IMAGE] += len(listed)
  if str(passed):
    _tell(f"{split}/: passed over {passed}")
  return {name: classes[name] for name in sorted(classes)}


def _walk(start: str, path: str, passed: Passed) -> list[File]:
  """The images of a folder, `path` from the data set's, and of all folders in it, sorted."""
  files, named, waiting = [], [], deque([(start, path)])
  # Links can lead in a circle, or up to where all classes are: each folder is read once.
  seen = {
    _identity(up)
    for whole in (os.path.abspath(start), os.path.realpath(start))
    for up in Path(whole).parents
  }
  while waiting:
    here, path = waiting.popleft()
    if (identity := _identity(here)) in seen:
      passed.kinds[_TWICE] += 1
      continue
    seen.add(identity)
    for entry, status in _visible(here, passed):
      inner, is_image = f"{path}/{entry.name}", _suffix(entry.name) in suffixes()
      if stat.S_ISDIR(status.st_mode):
        waiting.append((entry.path, inner))
        named += [inner] if is_image else []
      elif not is_image:
        passed.types[printable(_suffix(entry.name))] += 1
      elif not stat.S_ISREG(status.st_mode):
        passed.kinds[_NO_FILE] += 1
      elif not status.st_size:
        raise UserError(f"data.dir: {entry.path!r} cannot be read as an image (it has no content)")
      else:
        files.append(File(inner, status.st_size, status.st_mtime_ns))
  for inner in named:
    if not any(file.path.startswith(f"{inner}/") for file in files):
      raise UserError(f"data.dir: {inner!r} cannot be read as an image (it is a folder)")
  return sorted(files)


def _identity(folder: str | Path) -> tuple[int, int]:
  try:
    status = os.stat(folder)
  except OSError as error:
    raise _unreadable(folder, error) from error
  return status.st_dev, status.st_ino


def _visible(folder: str | Path, passed: Passed) -> Iterator[tuple[os.DirEntry, os.stat_result]]:
  """What is in a folder, with what links lead to; hidden entries and dangling links are counted."""
  for entry in _scan(folder):
    if entry.name.startswith("."):
      passed.kinds[_HIDDEN_FOLDER if os.path.isdir(entry) else _HIDDEN_FILE] += 1
      continue
    try:
      status = entry.stat()
    except OSError as error:
      if not entry.is_symlink() or error.errno not in _NOWHERE:
        raise _unreadable(entry.path, error) from error
      passed.kinds[_DANGLING] += 1
      continue
    yield entry, status


def _scan(folder: str | Path) -> list[os.DirEntry]:
  try:
    with os.scandir(folder) as entries:
      return sorted(entries, key=lambda entry: entry.name)  # the file system's order is any
  except OSError as error:
    raise _unreadable(folder, error) from error


def _unreadable(path: str | Path, error: OSError) -> UserError:
  return UserError(f"data.dir: {str(path)!r} cannot be read ({error.strerror or error})")


def _annotations(folder: Path) -> str:
  return os.path.join(folder, f"{folder.name}_annotations.txt")


def _missing(folder: Path, *wanted: str) -> str:
  there = sorted(entry.name for entry in _scan(folder) if os.path.isdir(entry))
  note = f", it has {_some(there)}" if there else ""
  names = " or ".join(map(repr, wanted))
  return f"image_folder needs a folder {names} in it with one folder of images per class{note}"


def _suffix(name: str) -> str:
  return os.path.splitext(name)[1].lower()


def _some(names: list[str]) -> str:
  """A list of names, of many only the first."""
  more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
  return f"{names[:_SHOWN]}{more}"


def _tell(sentence: str) -> None:
  print(f"data.dir: {sentence}", file=sys.stderr)
