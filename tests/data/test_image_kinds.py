"""Every type and mode of image that Pillow reads, as one upright RGB square."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from dissim_jax.data.decoding import decode, suffixes
from dissim_jax.errors import UserError

SIDE, GREY = 8, 100
RNG = np.random.default_rng(0)
COLOUR = np.kron(RNG.integers(0, 256, (2, 2, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
DEEP = RNG.integers(0, 65536, (SIDE, SIDE), dtype=np.uint16)


def encoded(image, kind, **options):
  """A file in memory."""
  file = io.BytesIO()
  image.save(file, kind, **options)
  file.seek(0)
  return file


def grey(levels):
  """Levels [H, W] as an RGB image."""
  return np.repeat(np.asarray(levels, np.uint8)[..., None], 3, axis=2)


# ---- types


LOSSLESS = {
  ".bmp": "BMP",
  ".dib": "DIB",
  ".gif": "GIF",
  ".ico": "ICO",
  ".jp2": "JPEG2000",
  ".pcx": "PCX",
  ".png": "PNG",
  ".ppm": "PPM",
  ".qoi": "QOI",
  ".sgi": "SGI",
  ".tga": "TGA",
  ".tif": "TIFF",
  ".tiff": "TIFF",
  ".webp": "WEBP",
  ".dds": "DDS",
}
LOSSY = {".jpg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".mpo": "MPO", ".avif": "AVIF"}


@pytest.mark.parametrize("suffix", [*LOSSLESS, *LOSSY])
def test_type_is_known_and_read(tmp_path, suffix):
  path = tmp_path / f"x{suffix}"
  options = {"lossless": True} if suffix == ".webp" else {}
  options = {"quality": 95, "subsampling": 0} if suffix in (".jpg", ".jpe", ".jfif") else options
  Image.fromarray(COLOUR).save(path, (LOSSLESS | LOSSY)[suffix], **options)
  assert suffix in suffixes()
  found = decode(path, SIDE, GREY)
  assert found.dtype == np.uint8 and found.shape == (SIDE, SIDE, 3)
  assert np.abs(found.astype(int) - COLOUR).max() <= (60 if suffix in LOSSY else 0)
  assert abs(found.astype(float).mean() - COLOUR.mean()) < 3


@pytest.mark.parametrize("suffix", [".pdf", ".mpg", ".eps", ".ps", ".h5", ".wmf", ".txt", ""])
def test_what_is_no_image_is_not_known(suffix):
  assert suffix not in suffixes()


def test_programs_are_not_run_on_postscript_that_is_called_an_image(tmp_path):
  path = tmp_path / "x.png"
  path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
  with pytest.raises(UserError, match="x.png' cannot be read as an image .damaged, or no type"):
    decode(path, SIDE, GREY)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_first_frame_of_several(kind):
  frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "lime", "blue")]
  options = {"lossless": True} if kind == "WEBP" else {}
  file = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
  np.testing.assert_array_equal(decode(file, SIDE, GREY), np.full((8, 8, 3), (255, 0, 0)))


# ---- modes


def test_grey_of_one_and_eight_bits_and_palettes():
  levels = COLOUR[..., 0]
  image = Image.fromarray(levels)
  np.testing.assert_array_equal(decode(encoded(image, "PNG"), SIDE, GREY), grey(levels))
  bits = Image.fromarray(levels > 99)
  np.testing.assert_array_equal(decode(encoded(bits, "PNG"), SIDE, GREY), grey((levels > 99) * 255))
  palette = Image.fromarray(COLOUR).quantize(4)  # it has four colours
  np.testing.assert_array_equal(decode(encoded(palette, "PNG"), SIDE, GREY), COLOUR)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PGM", "big-endian TIFF"])
def test_sixteen_bits_by_the_high_byte(kind):
  if kind == "PGM":
    file = io.BytesIO(b"P5 8 8 65535\n" + DEEP.astype(">u2").tobytes())
  elif kind == "big-endian TIFF":
    file = encoded(Image.frombytes("I;16B", (SIDE, SIDE), DEEP.astype(">u2").tobytes()), "TIFF")
  else:
    file = encoded(Image.fromarray(DEEP), kind)
  np.testing.assert_array_equal(decode(file, SIDE, GREY), grey(DEEP // 256))


def test_a_dark_image_of_sixteen_bits_is_not_brightened():
  dark = DEEP % 256
  np.testing.assert_array_equal(
    decode(encoded(Image.fromarray(dark), "PNG"), SIDE, GREY), np.zeros((8, 8, 3))
  )


@pytest.mark.parametrize(
  "values, expected",
  [
    ((DEEP % 256).astype(np.int32), DEEP % 256),
    (DEEP.astype(np.int32), DEEP // 256),
    ((DEEP / 65535).astype(np.float32), np.rint(DEEP / 65535 * 255)),
    ((DEEP / 257).astype(np.float32), np.rint(DEEP / 257)),
  ],
)
def test_grey_of_32_bits_by_its_range(values, expected):
  file = encoded(Image.fromarray(values), "TIFF")
  np.testing.assert_array_equal(decode(file, SIDE, GREY), grey(expected))


@pytest.mark.parametrize(
  "low, high", [(-5, 70), (0, 65536), (-0.5, 0.5), (0.0, 256.0), (0.0, np.nan)]
)
def test_grey_of_an_unknown_range_is_refused(low, high):
  values = np.full((SIDE, SIDE), low, np.int32 if isinstance(low, int) else np.float32)
  values[3, 4] = high
  with pytest.raises(UserError, match="cannot be read as an image .its grey is .*must be in 0"):
    decode(encoded(Image.fromarray(values), "TIFF"), SIDE, GREY)


def test_other_colour_spaces():
  image = Image.fromarray(COLOUR)
  for mode, kind in (("CMYK", "TIFF"), ("YCbCr", "TIFF")):
    found = decode(encoded(image.convert(mode), kind), SIDE, GREY)
    assert np.abs(found.astype(int) - COLOUR).max() <= 3
  # L = 53.2 is the lightness of linear 0.2140, the middle grey 127 of sRGB; a = b = 0.
  neutral = Image.frombytes("LAB", (1, 1), bytes([round(53.2 * 2.55), 0, 0]))
  found = decode(encoded(neutral, "TIFF"), SIDE, GREY)
  assert np.abs(found.astype(int) - 127).max() <= 2
  profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
  muted = (COLOUR // 4 + 90).astype(np.uint8)  # well inside of what both can hold
  lab = ImageCms.profileToProfile(Image.fromarray(muted), *profiles, outputMode="LAB")
  found = decode(encoded(lab, "TIFF"), SIDE, GREY)
  assert np.abs(found.astype(int) - muted).max() <= 3


# ---- transparency


def laid(colours, alpha, background):
  """By a loop over pixels."""
  out = np.zeros((SIDE, SIDE, 3))
  for y, x in itertools.product(range(SIDE), range(SIDE)):
    share = alpha[y, x] / 255
    out[y, x] = share * colours[y, x].astype(float) + (1 - share) * background
  return out


@pytest.mark.parametrize("background", [0, 100, 255])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "TGA"])
def test_alpha_is_laid_on_grey(kind, background):
  alpha = RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
  alpha[0], alpha[1] = 0, 255
  image = Image.fromarray(np.dstack([COLOUR, alpha]))
  options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
  found = decode(encoded(image, kind, **options), SIDE, background)
  assert np.abs(found - laid(COLOUR, alpha, background)).max() <= 1
  assert (found[0] == background).all()
  np.testing.assert_array_equal(found[1], COLOUR[1])


def test_grey_with_alpha():
  alpha = RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
  levels = COLOUR[..., 0]
  found = decode(encoded(Image.fromarray(np.dstack([levels, alpha])), "PNG"), SIDE, GREY)
  assert np.abs(found - laid(grey(levels), alpha, GREY)).max() <= 1


def test_one_transparent_colour_of_a_palette_of_rgb_and_of_grey():
  where = (COLOUR == COLOUR[0, 0]).all(axis=2)[..., None]
  expected = np.where(where, GREY, COLOUR)
  palette = Image.fromarray(COLOUR).quantize(4)
  index = palette.getpixel((0, 0))
  for file in (
    encoded(palette, "PNG", transparency=index),
    encoded(palette, "GIF", transparency=index),
    encoded(Image.fromarray(COLOUR), "PNG", transparency=tuple(map(int, COLOUR[0, 0]))),
  ):
    np.testing.assert_array_equal(decode(file, SIDE, GREY), expected)
  half = bytes(128 if i == index else 255 for i in range(4))
  found = decode(encoded(palette, "PNG", transparency=half), SIDE, GREY)
  assert np.abs(found - laid(COLOUR, np.where(where[..., 0], 128, 255), GREY)).max() <= 1
  levels = COLOUR[..., 0]
  file = encoded(Image.fromarray(levels), "PNG", transparency=int(levels[0, 0]))
  expected = np.where(levels == levels[0, 0], GREY, levels)
  np.testing.assert_array_equal(decode(file, SIDE, GREY), grey(expected))


def png(depth, colour, row, key):
  """One row of samples of any depth, with a transparent colour, as its bytes."""

  def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

  head = struct.pack(">IIBBBBB", 2, 1, depth, colour, 0, 0, 0)
  data = zlib.compress(b"\0" + np.asarray(row, ">u2").tobytes())
  parts = [(b"IHDR", head), (b"tRNS", np.asarray(key, ">u2").tobytes()), (b"IDAT", data)]
  return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*p) for p in [*parts, (b"IEND", b"")]))


def test_one_transparent_colour_of_sixteen_bits():
  colours = [[0x1234, 0x5678, 0x9ABC], [0xFFFF, 0x0100, 0x0000]]
  found = decode(png(16, 2, colours, colours[0]), 2, GREY)
  np.testing.assert_array_equal(found[0], [[GREY] * 3, [0xFF, 0x01, 0x00]])
  found = decode(png(16, 0, [0x1234, 0x1235], [0x1234]), 2, GREY)
  np.testing.assert_array_equal(found[0], [[GREY] * 3, [0x12] * 3])  # all 16 bits are compared


def test_transparency_before_the_resize():
  """The colour of transparent pixels, which nobody sees, must not bleed into the others."""
  alpha = np.zeros((SIDE, SIDE), np.uint8)
  alpha[:, ::2] = 255
  images = [
    np.dstack([np.where(alpha[..., None] > 0, COLOUR, hidden).astype(np.uint8), alpha])
    for hidden in (0, 255)
  ]
  first, second = (decode(encoded(Image.fromarray(i), "PNG"), 3, GREY) for i in images)
  np.testing.assert_array_equal(first, second)


# ---- orientation


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_all_orientations_show_the_same_scene(kind):
  scene = np.kron(np.array([[0, 80, 160], [250, 40, 200]], np.uint8), np.ones((8, 8), np.uint8))
  scene = grey(scene)
  undo = {  # how the camera stored the scene, EXIF 2.3, tag 274
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
  }
  upright = decode(encoded(Image.fromarray(scene), "PNG"), SIDE, GREY)
  for orientation, stored in undo.items():
    exif = Image.Exif()
    exif[274] = orientation
    options = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 100}}[kind]
    image = Image.fromarray(np.ascontiguousarray(stored(scene)))
    found = decode(encoded(image, kind, exif=exif, **options), SIDE, GREY)
    assert np.abs(found.astype(int) - upright).max() <= (4 if kind == "JPEG" else 0), orientation


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_no_reason_to_refuse_an_image():
  image = Image.fromarray(COLOUR)
  plain = decode(encoded(image, "JPEG"), SIDE, GREY)
  for exif in (b"not a header", b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\0\x09"):
    found = decode(encoded(image, "JPEG", exif=b"Exif\0\0" + exif), SIDE, GREY)
    np.testing.assert_array_equal(found, plain)


def test_turning_is_really_asked_of_pillow(monkeypatch):
  monkeypatch.setattr(ImageOps, "exif_transpose", lambda image, in_place: None)
  with pytest.raises(AssertionError):
    test_all_orientations_show_the_same_scene("JPEG")


# ---- what cannot be read


def test_an_image_that_is_too_large(monkeypatch):
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
  with pytest.raises(UserError, match="cannot be read as an image .Image size .64 pixels. exceeds"):
    decode(encoded(Image.fromarray(COLOUR), "PNG"), SIDE, GREY)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_an_image_that_is_cut_short(tmp_path, kind):
  noise = Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8))
  content = encoded(noise, kind).read()
  path = tmp_path / "x.png"
  path.write_bytes(content[: len(content) // 2])
  with pytest.raises(UserError, match="data.dir: .*x.png' cannot be read as an image"):
    decode(path, SIDE, GREY)
