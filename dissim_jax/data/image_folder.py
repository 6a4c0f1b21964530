"""Images in folders named after their classes, decoded to one uint8 array."""

import contextlib
import os
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from dissim_jax.errors import UserError

SPLITS = ("train", "test")
EXTENSIONS = (".png", ".jpg", ".jpeg")
_PROGRESS_FROM = 2000  # images; fewer are decoded before a bar could be read
_CHUNK = 128  # images a thread decodes per task, so that 10^6 images are not 10^6 futures
_DECODE_ERRORS = (
  OSError,
  SyntaxError,
  ValueError,
  EOFError,
  struct.error,
  zlib.error,
  Image.DecompressionBombError,
)


def read(files: dict[str, dict[str, list[Path]]], image_size: int) -> dict[str, np.ndarray]:
  """Decodes what `list_files` found.

  Args:
    files: split -> class -> image files.
    image_size: side in pixels of the square the images are resized to.

  Returns:
    `{train,test}_images` uint8 [N, image_size, image_size, 3], `{train,test}_labels` int32 [N]
    (position of the class in sorted order), `{train,test}_files` str [N] (paths in the folder) and
    `class_names` [K].

  Raises:
    UserError: an image cannot be decoded.
  """
  arrays = {"class_names": np.array(list(files["train"]))}
  for split in SPLITS:
    paths = [path for members in files[split].values() for path in members]
    counts = [len(members) for members in files[split].values()]
    arrays[f"{split}_images"] = _decode_all(paths, image_size, split)
    arrays[f"{split}_labels"] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    names = [f"{split}/{name}/{p.name}" for name, own in files[split].items() for p in own]
    arrays[f"{split}_files"] = np.array(names)
  return arrays


def list_files(folder: Path) -> dict[str, dict[str, list[Path]]]:
  """Finds `{train,test}/<class>/*.{png,jpg,jpeg}`: split -> class -> files, all in sorted order.

  Hidden files and folders and files of other types are passed over.

  Raises:
    UserError: a missing folder, no classes, a class without images, or test classes that are not
      the training classes.
  """
  files = {split: _list_split(folder / split) for split in SPLITS}
  only_train = sorted(set(files["train"]) - set(files["test"]))
  only_test = sorted(set(files["test"]) - set(files["train"]))
  if only_train or only_test:
    raise UserError(
      f"data.dir={str(folder)!r}: train and test must have the same classes, "
      f"but only train has {only_train} and only test has {only_test}"
    )
  return files


def fingerprint(files: dict[str, dict[str, list[Path]]]) -> list[str]:
  """One line an image: relative path, size in bytes, time of last change in nanoseconds."""
  lines = []
  for split in SPLITS:
    for name, members in files[split].items():
      for path in members:
        status = path.stat()
        lines.append(f"{split}/{name}/{path.name}\t{status.st_size}\t{status.st_mtime_ns}")
  return lines


def decode(path: Path, image_size: int) -> np.ndarray:
  """Decodes one image to uint8 [image_size, image_size, 3].

  Grey becomes RGB (16-bit grey by its high byte), transparency is dropped, the resize is Pillow's
  antialiased bilinear one, without keeping the aspect ratio.

  Raises:
    UserError: the file is no image that Pillow can decode.
  """
  try:
    with Image.open(path) as image:
      if image.mode.startswith("I"):  # Pillow would clip 16-bit grey at 255, not scale it
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
      image = image.convert("RGB")
      if image.size != (image_size, image_size):
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
      return np.asarray(image)
  except _DECODE_ERRORS as error:
    raise UserError(f"data.dir: {str(path)!r} cannot be read as an image ({error})") from error


def _list_split(folder: Path) -> dict[str, list[Path]]:
  if not folder.is_dir():
    raise UserError(
      f"data.dir={str(folder.parent)!r}: image_folder needs a folder {folder.name!r} in it "
      f"with one folder of images per class"
    )
  classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
  if not classes:
    raise UserError(
      f"data.dir={str(folder.parent)!r}: {folder.name!r} has no class folders, "
      f"image_folder needs {folder.name}/<class>/*.png or .jpg"
    )
  return {path.name: _list_images(path) for path in classes}


def _list_images(folder: Path) -> list[Path]:
  names = sorted(
    name
    for name in os.listdir(folder)
    if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
  )
  if not names:
    raise UserError(
      f"data.dir: the class folder {str(folder)!r} has no images ({', '.join(EXTENSIONS)})"
    )
  return [folder / name for name in names]


def _decode_all(paths: list[Path], image_size: int, split: str) -> np.ndarray:
  images = np.empty((len(paths), image_size, image_size, 3), np.uint8)

  def decode_chunk(start: int) -> int:
    chunk = paths[start : start + _CHUNK]
    for i, path in enumerate(chunk):
      images[start + i] = decode(path, image_size)
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
