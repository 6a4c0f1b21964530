"""CIFAR-10 and CIFAR-100 without TensorFlow: a prepared copy, the official archive, a download."""

import hashlib
import http.client
import importlib.util
import os
import re
import sys
import tarfile
import urllib.request
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from dissim_jax.errors import UserError

_SIDE = 32
_TIMEOUT = 30  # seconds without an answer before a download is given up
_BLOCK = 1 << 20  # bytes hashed or downloaded at a time
_RECORDS = 1000  # prepared records decoded at a time: one by one is half as fast


class Layout(NamedTuple):
  """What an official archive holds; a record is `label_bytes` bytes and 3x32x32 pixels."""

  folder: str
  train: tuple[str, ...]
  test: tuple[str, ...]
  label_bytes: int  # the last of them is the label used (CIFAR-100: coarse, then fine)
  class_names: tuple[str, ...] | str  # the names, or the archive's file that holds them


class Listing(NamedTuple):
  """Where an archive is published and how to know it."""

  url: str
  size: int  # bytes
  sha256: str
  filename: str


_BATCHES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LAYOUTS = {
  "cifar10": Layout("cifar-10-batches-bin", _BATCHES, ("test_batch.bin",), 1, _NAMES),
  "cifar100": Layout("cifar-100-binary", ("train.bin",), ("test.bin",), 2, "fine_label_names.txt"),
}


def find(name: str, folder: Path) -> tuple[list[str], Callable[[], dict[str, np.ndarray]]]:
  """Finds data set `name` ("cifar10" or "cifar100") in `folder`, or where to download it from.

  In this order: a copy prepared by tensorflow-datasets as array_record, whose images come in
  that copy's own shuffled order; the official binary archive; the download of that archive.
  Returns lines that change when the data set does, and a function that reads it.

  Raises:
    UserError: here or from the function: what is in `folder` is broken, or the download fails.
  """
  readable, unreadable = _prepared_copies(name, folder)
  if readable:
    return _file_lines(readable[-1]), lambda: read_prepared(name, readable[-1])
  listing = listed(name)
  archive = folder / listing.filename
  if archive.is_file() and archive.stat().st_size != listing.size:
    verify(archive, listing)  # a file put in the place of a cached one is noticed by its size

  def read() -> dict[str, np.ndarray]:
    if archive.is_file():
      verify(archive, listing)
    else:
      download(name, listing, archive, unreadable)
    return read_archive(name, archive)

  # The hash of the content, not of the file that is there: a cached copy outlives the archive.
  return [name, listing.sha256], read


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


def read_archive(name: str, path: Path) -> dict[str, np.ndarray]:
  """Reads the official binary archive, without unpacking it and only its expected members.

  Returns:
    `{train,test}_images` uint8 [N, 32, 32, 3], `{train,test}_labels` int32 [N], `class_names`.

  Raises:
    UserError: the archive is cut short, or a member is missing or not of the official format.
  """
  layout = LAYOUTS[name]
  listed_names = isinstance(layout.class_names, str)
  wanted = layout.train + layout.test + ((layout.class_names,) if listed_names else ())
  try:
    content = _read_members(path, layout.folder, wanted)
    names = content[layout.class_names].decode().split() if listed_names else layout.class_names
    arrays = {"class_names": np.array(names)}
    for split, members in (("train", layout.train), ("test", layout.test)):
      data = b"".join(content[member] for member in members)
      arrays[f"{split}_images"], arrays[f"{split}_labels"] = _parse(data, layout, len(names))
  except (OSError, tarfile.TarError, EOFError, zlib.error, KeyError, ValueError) as error:
    raise UserError(f"data.dir: the archive {str(path)!r} cannot be read ({error})") from error
  return arrays


def read_prepared(name: str, copy: Path) -> dict[str, np.ndarray]:
  """Reads `copy`, <dir>/<name>/<version>; UserError if tensorflow-datasets cannot read it."""
  try:
    import tensorflow_datasets as tfds  # slow to import, and only this path needs it

    sources = tfds.data_source(
      f"{name}:{copy.name}", data_dir=copy.parent.parent, split=["train", "test"], download=False
    )
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
  # The name is unique, so that jobs started together do not write into one file.
  part = archive.with_name(f"{archive.name}.{uuid.uuid4().hex}.part")
  try:
    archive.parent.mkdir(parents=True, exist_ok=True)
    _fetch(listing, part)
    if difference := _difference(part, listing):
      raise OSError(difference)
    os.replace(part, archive)
  except (OSError, http.client.HTTPException) as error:
    copies = ", ".join(map(str, unreadable))
    note = f"; {copies} cannot be read: not array_record" if copies else ""
    folder = str(archive.parent)
    raise UserError(
      f"data.dir={folder!r}: {name} is not there and the download from {listing.url} failed "
      f"({error}); put {listing.filename} into {folder!r}{note}"
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


def _read_members(path: Path, folder: str, wanted: tuple[str, ...]) -> dict[str, bytes]:
  content = {}
  with tarfile.open(path, "r:gz") as tar:
    for member in tar:
      parent, _, base = member.name.rpartition("/")
      if member.isreg() and parent == folder and base in wanted:
        content[base] = tar.extractfile(member).read()
  if missing := [base for base in wanted if base not in content]:
    raise ValueError(f"no {', '.join(missing)} in {folder}")
  return content


def _parse(data: bytes, layout: Layout, classes: int) -> tuple[np.ndarray, np.ndarray]:
  """Records of label bytes and channel-first pixels to images [N, 32, 32, 3] and labels [N]."""
  record = layout.label_bytes + 3 * _SIDE * _SIDE
  if not data or len(data) % record:
    raise ValueError(f"{len(data)} bytes are not a number of records of {record} bytes")
  records = np.frombuffer(data, np.uint8).reshape(-1, record)
  labels = records[:, layout.label_bytes - 1].astype(np.int32)
  if labels.max() >= classes:
    raise ValueError(f"label {labels.max()} in a data set of {classes} classes")
  pixels = records[:, layout.label_bytes :].reshape(-1, 3, _SIDE, _SIDE)
  return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), labels


def _prepared_copies(name: str, folder: Path) -> tuple[list[Path], list[Path]]:
  """Prepared versions in `folder`, oldest first: those read without TensorFlow, and the others."""
  found = [info.parent for info in (folder / name).glob("[0-9]*.*.*/dataset_info.json")]
  found.sort(key=lambda copy: [int(part) for part in re.findall(r"\d+", copy.name)])
  has_reader = importlib.util.find_spec("array_record") is not None  # not on every platform
  readable = [copy for copy in found if has_reader and any(copy.glob("*.array_record*"))]
  return readable, [copy for copy in found if copy not in readable]


def _file_lines(folder: Path) -> list[str]:
  status = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
  return [f"{name}\t{s.st_size}\t{s.st_mtime_ns}" for name, s in status]


def _collect(source) -> tuple[np.ndarray, np.ndarray]:
  """Images and labels of a random-access source of records."""
  images = np.empty((len(source), _SIDE, _SIDE, 3), np.uint8)
  labels = np.empty(len(source), np.int32)
  for start in range(0, len(source), _RECORDS):
    records = source.__getitems__(list(range(start, min(start + _RECORDS, len(source)))))
    for i, record in enumerate(records, start):
      images[i], labels[i] = record["image"], record["label"]
  return images, labels
