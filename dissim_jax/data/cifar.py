"""CIFAR-10 and CIFAR-100 without TensorFlow: in any usual layout of a folder, or a download."""

import hashlib
import http.client
import importlib.util
import json
import os
import re
import sys
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from dissim_jax.data.cifar_files import (
  BINARY,
  COUNTS,
  PYTHON,
  PYTHON_LISTINGS,
  SIDE,
  Form,
  Listing,
  read_archive,
  read_folder,
)
from dissim_jax.errors import UserError
from dissim_jax.files import atomic

_TIMEOUT = 30  # seconds without an answer before a download is given up
_BLOCK = 1 << 20  # bytes hashed or downloaded at a time
_RECORDS = 1000  # prepared records decoded at a time: one by one is half as fast

Arrays = dict[str, np.ndarray]


class Copies(NamedTuple):
  """Versions prepared by tensorflow-datasets, oldest first."""

  readable: list[Path]  # without TensorFlow
  others: list[Path]


def find(name: str, folder: Path) -> tuple[list[str], Callable[[], Arrays]]:
  """Finds data set `name` ("cifar10" or "cifar100") in `folder`, or where to download it from.

  In this order: a copy prepared by tensorflow-datasets as array_record, whose images come in
  that copy's own shuffled order; an official archive, binary or python; such an archive unpacked;
  the download of the binary archive. `folder` holds one of them or is itself the prepared or
  unpacked folder. Returns lines that change when the data set does, and a function that reads it.

  Raises:
    UserError: here or from the function: what is in `folder` is broken, or is another data set, or
      the download fails.
  """
  _check_not_another(name, folder)
  copies = _prepared_copies(name, folder)
  if copies.readable:
    copy = copies.readable[-1]
    return _file_lines(copy), lambda: read_prepared(copy)
  if folder in copies.others:
    raise UserError(f"data.dir={str(folder)!r}: it cannot be read, it is not array_record")
  official = listed(name)
  # The hash of the content, not of the file that is there: a cached copy outlives the archive. Both
  # archives hold the same images in the same order.
  content = [name, official.sha256]
  for form, listing in ((BINARY[name], official), (PYTHON[name], PYTHON_LISTINGS[name])):
    # Keras calls an archive as its folder.
    for archive in (folder / listing.filename, folder / f"{form.folder}.tar.gz"):
      if archive.is_file():
        if archive.stat().st_size != listing.size:
          verify(archive, listing)  # put in the place of a cached one, it is noticed by its size
        return content, partial(_read_verified, form, archive, listing)
  for form in (BINARY[name], PYTHON[name]):
    for place in (folder / form.folder, folder):
      if _is_unpacked(form, place):
        return _file_lines(place, form.files), partial(_read_unpacked, name, form, place)

  def read() -> Arrays:
    archive = folder / official.filename
    download(name, official, archive, copies.others)
    return read_archive(BINARY[name], archive)

  return content, read


def _read_verified(form: Form, archive: Path, listing: Listing) -> Arrays:
  verify(archive, listing)
  return read_archive(form, archive)


def listed(name: str) -> Listing:
  """What the installed tensorflow-datasets lists for the archive, read without importing it."""
  package = importlib.util.find_spec("tensorflow_datasets").submodule_search_locations[0]
  path = Path(package) / "url_checksums" / f"{name}.txt"
  try:
    url, size, sha256, filename = path.read_text().splitlines()[0].split("\t")
  except (OSError, IndexError, ValueError) as error:
    raise UserError(
      f"data.name={name!r}: the installed tensorflow-datasets lists no checksum in {path} ({error})"
    ) from error
  return Listing(url, int(size), sha256, filename)


def verify(path: Path, listing: Listing) -> None:
  """UserError unless the file has the listed size and SHA-256."""
  if difference := _difference(path, listing):
    raise UserError(
      f"data.dir: {str(path)!r} is damaged or not the official archive: {difference}; "
      f"remove it or put the file from {listing.url} in its place"
    )


def read_prepared(copy: Path) -> dict[str, np.ndarray]:
  """Reads the prepared version `copy`; UserError if tensorflow-datasets cannot read it."""
  try:
    import tensorflow_datasets as tfds  # slow to import, and only this path needs it

    sources = tfds.builder_from_directory(copy).as_data_source(split=["train", "test"])
    arrays = {"class_names": np.array(sources[0].dataset_info.features["label"].names)}
    for split, source in zip(("train", "test"), sources, strict=True):
      arrays[f"{split}_images"], arrays[f"{split}_labels"] = _collect(source)
  except Exception as error:  # which errors a broken copy raises is not documented
    raise UserError(
      f"data.dir: tensorflow-datasets cannot read its copy {str(copy)!r} "
      f"({type(error).__name__}: {error}); remove it or prepare it again as array_record"
    ) from error
  return arrays


def download(name: str, listing: Listing, archive: Path, unreadable: list[Path]) -> None:
  """Downloads to a .part file beside `archive`, checks its hash, renames it.

  Raises:
    UserError: no download, or other content than listed; the sentence names `unreadable` copies.
  """
  places = (
    f"{name}/<version>/",
    *(f"{form.folder}/" for form in (BINARY[name], PYTHON[name])),
    listing.filename,
    PYTHON_LISTINGS[name].filename,
  )
  missing = f"{name} is not in {str(archive.parent)!r} (looked for {', '.join(places)})"
  part = atomic.part_of(archive)  # Jobs that are started together do not write into one file.
  try:
    archive.parent.mkdir(parents=True, exist_ok=True)
    print(f"data.dir: {missing}, downloading {listing.url}", file=sys.stderr)
    _fetch(listing, part)
    if difference := _difference(part, listing):
      raise OSError(difference)
    os.replace(part, archive)
  except (OSError, http.client.HTTPException) as error:
    copies = ", ".join(map(str, unreadable))
    note = f"; {copies} cannot be read: not array_record" if copies else ""
    raise UserError(
      f"data.dir: {missing} and the download from {listing.url} failed ({error}); put "
      f"{listing.filename} into {str(archive.parent)!r}{note}"
    ) from error
  finally:
    if part.exists():
      part.unlink()


def _difference(path: Path, listing: Listing) -> str:
  """What is wrong with the file's content; empty if nothing is."""
  try:
    with open(path, "rb") as file:
      sha256 = hashlib.file_digest(file, "sha256").hexdigest()
  except OSError as error:
    return f"it cannot be read ({error})"
  size = path.stat().st_size
  if (size, sha256) == (listing.size, listing.sha256):
    return ""
  expected = f"sha256 {listing.sha256} ({listing.size} bytes)"
  return f"expected {expected}, got sha256 {sha256} ({size} bytes)"


def _fetch(listing: Listing, path: Path) -> None:
  columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
  progress = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
  answer = urllib.request.urlopen(listing.url, timeout=_TIMEOUT)
  with answer, open(path, "wb") as file, progress:
    task = progress.add_task(listing.filename, total=listing.size)
    # A longer answer is not the file, whatever its hash: it must not fill the disk.
    while file.tell() <= listing.size and (block := answer.read(_BLOCK)):
      file.write(block)
      progress.advance(task, len(block))


def _prepared_copies(name: str, folder: Path) -> Copies:
  """The versions in `folder`, in its folder called `name`, or the version that it is."""
  patterns = (f"{name}/[0-9]*.*.*", "[0-9]*.*.*")
  copies = [path for pattern in patterns for path in folder.glob(pattern)] + [folder]
  copies = [path for path in copies if _prepared_name(path) == name]
  copies.sort(key=lambda copy: [int(part) for part in re.findall(r"\d+", copy.name)])
  has_reader = importlib.util.find_spec("array_record") is not None  # not on every platform
  readable = [copy for copy in copies if has_reader and any(copy.glob("*.array_record*"))]
  return Copies(readable, [copy for copy in copies if copy not in readable])


def _prepared_name(folder: Path) -> str:
  """The data set that a prepared copy is of; "" of any other folder."""
  try:
    return str(json.loads((folder / "dataset_info.json").read_text())["name"])
  except FileNotFoundError:
    return ""
  except (OSError, ValueError, KeyError, TypeError):  # damaged, or of a very old version
    return folder.absolute().parent.name


def _is_unpacked(form: Form, folder: Path) -> bool:
  """Whether the folder is that of an archive, complete or not."""
  named = folder.name == form.folder and folder.is_dir()
  some = (form.train[0], *form.test, *((form.names,) if form.names else ()))
  return named or all((folder / base).is_file() for base in some)


def _check_not_another(name: str, folder: Path) -> None:
  """A folder that is itself one of another data set is not what was meant."""
  for other in (one for one in BINARY if one != name):
    forms = (BINARY[other], PYTHON[other])
    if _prepared_name(folder) == other or any(_is_unpacked(form, folder) for form in forms):
      raise UserError(f"data.dir={str(folder)!r}: it holds {other}, but data.name={name!r}")


def _read_unpacked(name: str, form: Form, folder: Path) -> Arrays:
  arrays = read_folder(form, folder)
  counts = {split: len(arrays[f"{split}_labels"]) for split in COUNTS}
  if counts != COUNTS:  # no checksum says whether it is the official one
    actual = " and ".join(f"{counts[split]:,} {split}" for split in COUNTS)
    official = " and ".join(f"{count:,}" for count in COUNTS.values())
    print(
      f"data.dir: {str(folder)!r} holds {actual} images, {name} as published has {official}",
      file=sys.stderr,
    )
  return arrays


def _file_lines(folder: Path, names: tuple[str, ...] = ()) -> list[str]:
  """Name, size and last change of the files, by default of all but hidden ones and caches."""
  if not names:
    there = sorted(path.name for path in folder.iterdir())
    names = tuple(name for name in there if not name.startswith(".") and name[-4:] != ".npz")
  status = [(name, (folder / name).stat()) for name in names if (folder / name).exists()]
  return [f"{name}\t{s.st_size}\t{s.st_mtime_ns}" for name, s in status]


def _collect(source) -> tuple[np.ndarray, np.ndarray]:
  """Images and labels of a random-access source of records."""
  images = np.empty((len(source), SIDE, SIDE, 3), np.uint8)
  labels = np.empty(len(source), np.int32)
  for start in range(0, len(source), _RECORDS):
    records = source.__getitems__(list(range(start, min(start + _RECORDS, len(source)))))
    for i, record in enumerate(records, start):
      images[i], labels[i] = record["image"], record["label"]
  return images, labels
