"""Images in folders named after their classes, decoded to one uint8 array."""

import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from dissim_jax.data.decoding import decode
from dissim_jax.data.folder_files import File, list_files
from dissim_jax.names import printable

__all__ = ["decode", "fingerprint", "list_files", "read"]

_PROGRESS_FROM = 2000  # images; fewer are decoded before a bar could be read
_CHUNK = 128  # images a thread decodes per task, so that 10^6 images are not 10^6 futures

Files = dict[str, dict[str, list[File]]]


def read(folder: Path, files: Files, image_size: int, background: int) -> dict[str, np.ndarray]:
  """Decodes what `list_files` found.

  Args:
    folder: the data set.
    files: split ("train", "test") -> class -> image files.
    image_size: side in pixels of the square the images are resized to.
    background: grey level 0..255 behind transparent pixels.

  Returns:
    `{train,test}_images` uint8 [N, image_size, image_size, 3], `{train,test}_labels` int32 [N]
    (position of the class in sorted order), `{train,test}_files` str [N] (path from `folder`, with
    "/") and `class_names` str [K]; names and paths as `printable` shows them.

  Raises:
    UserError: an image cannot be decoded.
  """
  arrays = {"class_names": np.array([printable(name) for name in files["train"]])}
  for split, classes in files.items():
    paths = [file.path for members in classes.values() for file in members]
    counts = [len(members) for members in classes.values()]
    arrays[f"{split}_images"] = _decode_all(folder, paths, image_size, background, split)
    arrays[f"{split}_labels"] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    arrays[f"{split}_files"] = np.array([printable(path) for path in paths])
  return arrays


def fingerprint(files: Files) -> list[str]:
  """One line an image: split, class, path, size in bytes, time of last change in nanoseconds."""
  return [
    "\t".join([split, printable(name), printable(file.path), str(file.size), str(file.changed)])
    for split, classes in files.items()
    for name, members in classes.items()
    for file in members
  ]


def _decode_all(
  folder: Path, paths: list[str], image_size: int, background: int, split: str
) -> np.ndarray:
  images = np.empty((len(paths), image_size, image_size, 3), np.uint8)

  def decode_chunk(start: int) -> int:
    chunk = paths[start : start + _CHUNK]
    for i, path in enumerate(chunk):
      images[start + i] = decode(folder / path, image_size, background)
    return len(chunk)

  visible = len(paths) > _PROGRESS_FROM and sys.stderr.isatty()
  with contextlib.ExitStack() as stack:
    progress = stack.enter_context(Progress(console=Console(stderr=True), disable=not visible))
    task = progress.add_task(f"decoding {split}", total=len(paths))
    executor = ThreadPoolExecutor(os.cpu_count())
    # A broken image must end the work at once, not after all the others were decoded.
    stack.callback(executor.shutdown, cancel_futures=True)
    for done in executor.map(decode_chunk, range(0, len(paths), _CHUNK)):
      progress.advance(task, done)
  return images
