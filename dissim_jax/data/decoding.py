"""One image file, of any type that Pillow reads, as an upright RGB square."""

import functools
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from dissim_jax.errors import UserError

# Films, containers that Pillow only recognises, and what it hands to other programs.
_NOT_IMAGES = ("BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "WMF")
_SIXTEEN_BITS = ("PNG", "PPM")  # types whose 32-bit grey is 16-bit grey, whatever the values


@functools.cache
def formats() -> tuple[str, ...]:
  """Pillow's names of the types that are read, the usual ones first."""
  Image.preinit()
  Image.init()
  return tuple(name for name in Image.ID if name not in _NOT_IMAGES)


@functools.cache
def suffixes() -> frozenset[str]:
  """The suffixes of image files, in lower case and with the dot."""
  read = {*formats(), "MPO"}  # Pillow opens MPO as JPEG
  known = Image.registered_extensions().items()
  return frozenset(suffix for suffix, name in known if name in read)


def decode(path: Path, image_size: int, background: int) -> np.ndarray:
  """Decodes one image to uint8 [image_size, image_size, 3].

  Of several frames or pages the first is taken. It is turned as its EXIF orientation says; grey
  becomes RGB; transparent pixels are laid on grey of the level `background`; the resize is
  Pillow's antialiased bilinear one, without keeping the aspect ratio.

  16-bit grey goes by its high byte. Grey of 32-bit integers is taken as it is where all values are
  in 0..255 and by the high byte of 16 bits where they are in 0..65535; floats are taken times 255
  where they are in 0..1 and rounded where they are in 0..255.

  Raises:
    UserError: the file is no image that Pillow can decode, or has grey beyond these ranges.
  """
  try:
    with Image.open(path, formats=formats()) as image:
      image.load()  # first, so that damaged pixels are not taken for a damaged orientation
      _turn_upright(image)
      image = _rgb(image, background)
      if image.size != (image_size, image_size):
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
      return np.asarray(image)
  except Exception as error:  # which errors a damaged image raises is not documented
    reason = str(error) or type(error).__name__
    if isinstance(error, Image.UnidentifiedImageError):
      reason = "damaged, or no type that Pillow knows"
    raise UserError(f"data.dir: {str(path)!r} cannot be read as an image ({reason})") from error


def _turn_upright(image: Image.Image) -> None:
  try:
    ImageOps.exif_transpose(image, in_place=True)
  except Exception:  # damaged metadata can raise nearly anything, and say nothing of the pixels
    return


def _rgb(image: Image.Image, background: int) -> Image.Image:
  """Any mode to RGB, transparency laid on grey."""
  if image.mode.startswith(("I", "F")):  # Pillow would clip at 255, not scale
    return _deep_grey(image, background)
  if image.mode == "LAB":
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
  if not image.has_transparency_data:
    return image.convert("RGB")
  key = image.info.get("transparency")
  if isinstance(key, tuple) and max(key) > 255:  # of 16 bits, as Pillow no longer has the pixels
    image.info["transparency"] = tuple(value >> 8 for value in key)
  image = image.convert("RGBA")
  canvas = Image.new("RGB", image.size, (background,) * 3)
  canvas.paste(image, mask=image.getchannel("A"))
  return canvas


def _deep_grey(image: Image.Image, background: int) -> Image.Image:
  """Grey of more than 8 bits to RGB."""
  values = np.asarray(image)
  low, high = values.min(), values.max()
  if image.mode.startswith("I;16") or image.format in _SIXTEEN_BITS and image.mode == "I":
    grey = values >> 8
  elif low >= 0 and high <= 1 and image.mode == "F":
    grey = np.rint(255 * values)
  elif low >= 0 and high <= 255:
    grey = np.rint(values)
  elif low >= 0 and high <= 65535 and image.mode == "I":
    grey = values >> 8
  else:
    allowed = "0..255 or 0..65535" if image.mode == "I" else "0..1 or 0..255"
    raise ValueError(f"its grey is {low:g}..{high:g}, it must be in {allowed}")
  key = image.info.get("transparency")
  if isinstance(key, int):
    grey = np.where(values == key, background, grey)
  return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
