"""Augmentation against Pillow, its random draws against their probabilities."""

import functools
import itertools
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from dissim_jax.data import augment, autoaugment, pixels
from dissim_jax.errors import UserError

HEIGHT, WIDTH = 24, 32
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
SIGNED += ("Brightness", "Color", "Contrast", "Sharpness")
GEOMETRIC = SIGNED[:5]
# One pair an op and magnitude, so that one compiled function covers every op.
EVERY_OP = tuple(
  (autoaugment.SubOp(op, 1.0, k), autoaugment.SubOp("Invert", 0.0))
  for op in autoaugment.STAGES
  for k in range(10)
)
apply_draws = jax.jit(autoaugment.apply_draws, static_argnums=(2, 3))


def make_images(seed, count, channels, height=HEIGHT, width=WIDTH):
  """Noise, low contrast, two skewed histograms, a gradient and a constant in turn."""
  rng = np.random.default_rng(seed)
  shape = (height, width, channels)
  gradient = np.arange(np.prod(shape)).reshape(shape) * 200 // np.prod(shape) + seed % 50
  kinds = (
    lambda: rng.integers(0, 256, shape),
    lambda: rng.integers(60 + seed, 181 - seed, shape),
    lambda: np.where(rng.random(shape) < 0.6, 255, rng.integers(0, 256, shape)),
    lambda: np.where(rng.random(shape) < 0.6, 3, rng.integers(0, 256, shape)),
    lambda: gradient + rng.integers(0, 6, shape),
    lambda: np.full(shape, rng.integers(0, 256)),
  )
  return np.stack([kinds[(i * 5 + i // 6) % 6]() for i in range(count)]).astype(np.uint8)


def to_pillow(image):
  return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def from_pillow(image):
  array = np.asarray(image)
  return array[..., None] if array.ndim == 2 else array


def magnitude(op, k, positive, height=HEIGHT, width=WIDTH):
  """torchvision's table of magnitudes."""
  table = {
    **dict.fromkeys(("ShearX", "ShearY"), np.linspace(0, 0.3, 10)),
    "TranslateX": np.linspace(0, 150 / 331 * width, 10),
    "TranslateY": np.linspace(0, 150 / 331 * height, 10),
    "Rotate": np.linspace(0, 30, 10),
    **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), np.linspace(0, 0.9, 10)),
    "Posterize": 8 - np.round(np.arange(10) / ((10 - 1) / 4)),
    "Solarize": np.linspace(255, 0, 10),
  }.get(op, np.zeros(10))
  return float(table[k]) * (-1 if op in SIGNED and not positive else 1)


def exact_autocontrast(image):
  """floor(255 (v - low) / (high - low)) in rational numbers; Pillow rounds in float64."""
  table = []
  for low, high in np.atleast_2d(image.getextrema()):
    span = Fraction(int(high - low)) or None
    stretched = (int((v - int(low)) * 255 / span) if span else v for v in range(256))
    table += [min(max(v, 0), 255) for v in stretched]
  return image.point(table)


def pillow_op(image, op, m, fill, autocontrast=exact_autocontrast):
  affine = {
    "ShearX": (1, m, 0, 0, 1, 0),
    "ShearY": (1, 0, 0, m, 1, 0),
    "TranslateX": (1, 0, -int(m), 0, 1, 0),
    "TranslateY": (1, 0, 0, 0, 1, -int(m)),
  }
  colour = (fill,) * len(image.getbands()) if image.mode == "RGB" else fill
  if op in affine:
    nearest = Image.Resampling.NEAREST
    return image.transform(
      image.size, Image.Transform.AFFINE, affine[op], nearest, fillcolor=colour
    )
  if op in ("Brightness", "Color", "Contrast", "Sharpness"):
    return getattr(ImageEnhance, op)(image).enhance(1 + m)
  return {
    "Rotate": lambda: image.rotate(m, fillcolor=colour),
    "Posterize": lambda: ImageOps.posterize(image, int(m)),
    "Solarize": lambda: ImageOps.solarize(image, m),
    "AutoContrast": lambda: autocontrast(image),
    "Equalize": lambda: ImageOps.equalize(image),
    "Invert": lambda: ImageOps.invert(image),
  }[op]()


def split(seed, count):
  """A key for every image; drawn by NumPy, which compiles nothing."""
  words = np.random.default_rng(seed).integers(0, 2**32, (count, 2), np.uint32)
  return jax.random.wrap_key_data(words)


def make_config(**changes):
  values = dict(crop_padding=4, crop_fill=128, flip=True, autoaugment="cifar10")
  values |= dict(autoaugment_fill=120, cutout=10, cutout_fill=7)
  return ml_collections.FrozenConfigDict(values | changes)


OFF = dict(crop_padding=0, flip=False, autoaugment="none", cutout=0)


@functools.cache
def every_op_outputs(seed, channels, fill):
  """[(op, k, positive, image, ours)] over every op, magnitude and sign."""
  cases = list(itertools.product(range(len(EVERY_OP)), (False, True)))
  images = make_images(seed, len(cases), channels)
  index, positive = map(np.array, zip(*cases, strict=True))
  applied = np.tile([True, False], (len(cases), 1))
  draws = autoaugment.Draws(index, applied, np.stack([positive, positive], 1))
  ours = np.asarray(apply_draws(images, draws, fill, EVERY_OP))
  return [
    (*EVERY_OP[pair][0][::2], sign, images[i], ours[i]) for i, (pair, sign) in enumerate(cases)
  ]


@pytest.mark.parametrize("channels", [3, 1])
def test_every_op_and_magnitude_equals_pillow(channels):
  for seed in range(3):
    for op, k, positive, image, ours in every_op_outputs(seed, channels, fill=77):
      theirs = from_pillow(pillow_op(to_pillow(image), op, magnitude(op, k, positive), 77))
      np.testing.assert_array_equal(ours, theirs, err_msg=f"{op} {k} {positive} seed {seed}")
      if channels == 1 and op == "Color":
        np.testing.assert_array_equal(ours, image)


def test_autocontrast_is_at_most_one_level_above_pillows_float64():
  differences = []
  for seed in range(3):
    for op, _, _, image, ours in every_op_outputs(seed, 3, fill=77):
      if op == "AutoContrast":
        theirs = from_pillow(ImageOps.autocontrast(to_pillow(image)))
        differences.append(ours.astype(int) - theirs)
  differences = np.stack(differences)
  assert set(np.unique(differences)) <= {0, 1}
  assert (differences != 0).mean() < 0.03


def test_wrong_magnitudes_are_noticed():
  """Negative control: the next magnitude, and the other sign, give other images."""
  for op, k, positive, image, ours in every_op_outputs(0, 3, fill=77):
    if op in SIGNED and 0 < k < 9 and image.std() > 60:
      for m in (magnitude(op, k + 1, positive), magnitude(op, k, not positive)):
        moved = int(m) != int(magnitude(op, k, positive))
        if not op.startswith("Translate") or moved:
          theirs = from_pillow(pillow_op(to_pillow(image), op, m, 77))
          assert (ours != theirs).mean() > 0.01, (op, k, positive)


def test_blend_equals_pillow_for_every_pair_of_levels_and_every_factor():
  first, second = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
  factors = np.float32(1 + np.arange(-9, 10) / 10)
  products = factors[:, None] * np.arange(-255, 256, dtype=np.float32)
  pairs = (np.broadcast_to(a.astype(np.int32), (19, 256, 256)) for a in (first, second))
  ours = np.asarray(jax.jit(pixels.blend)(*pairs, products))
  for factor, blended in zip(factors, ours, strict=True):
    theirs = Image.blend(Image.fromarray(first), Image.fromarray(second), float(factor))
    np.testing.assert_array_equal(blended, np.asarray(theirs), err_msg=str(factor))


@functools.cache
def every_sub_policy_outputs():
  """[(policy, applied, positive, image, ours)] over everything that may be drawn."""
  bits = [(False, False), (False, True), (True, False), (True, True)]
  cases = list(itertools.product(range(25), bits, bits))
  images = make_images(11, len(cases), 3, 24, 32)
  draws = autoaugment.Draws(*(np.array(values) for values in zip(*cases, strict=True)))
  ours = np.asarray(apply_draws(images, draws, 33, autoaugment.CIFAR10))
  return [(*case, images[i], ours[i]) for i, case in enumerate(cases)]


def test_every_sub_policy_equals_pillow():
  for policy, applied, positive, image, ours in every_sub_policy_outputs():
    theirs = to_pillow(image)
    for slot, (op, _, k) in enumerate(autoaugment.CIFAR10[policy]):
      if applied[slot]:
        theirs = pillow_op(theirs, op, magnitude(op, k, positive[slot], *image.shape[:2]), 33)
    message = str((policy, applied, positive))
    np.testing.assert_array_equal(ours, from_pillow(theirs), err_msg=message)


def test_the_second_op_sees_the_result_of_the_first():
  """Negative control: the ops of ShearY + TranslateY swapped give other images."""
  both = (True, True)
  ((image, ours),) = (
    case[3:] for case in every_sub_policy_outputs() if case[:3] == (3, both, both)
  )
  swapped = to_pillow(image)
  for op, k in (("TranslateY", 9), ("ShearY", 8)):
    swapped = pillow_op(swapped, op, magnitude(op, k, True, *image.shape[:2]), 33)
  assert (ours != from_pillow(swapped)).mean() > 0.02


# Op, probability in tenths, magnitude index; - where an op has none.
PUBLISHED = """
Invert 1 -, Contrast 2 6; Rotate 7 2, TranslateX 3 9; Sharpness 8 1, Sharpness 9 3;
ShearY 5 8, TranslateY 7 9; AutoContrast 5 -, Equalize 9 -; ShearY 2 7, Posterize 3 7;
Color 4 3, Brightness 6 7; Sharpness 3 9, Brightness 7 9; Equalize 6 -, Equalize 5 -;
Contrast 6 7, Sharpness 6 5; Color 7 7, TranslateX 5 8; Equalize 3 -, AutoContrast 4 -;
TranslateY 4 3, Sharpness 2 6; Brightness 9 6, Color 2 8; Solarize 5 2, Invert 0 -;
Equalize 2 -, AutoContrast 6 -; Equalize 2 -, Equalize 6 -; Color 9 9, Equalize 6 -;
AutoContrast 8 -, Solarize 2 8; Brightness 1 3, Color 7 0; Solarize 4 5, AutoContrast 9 -;
TranslateY 9 9, TranslateY 7 9; AutoContrast 9 -, Solarize 8 3; Equalize 8 -, Invert 1 -;
TranslateY 7 9, AutoContrast 9 -"""


def test_the_table_is_the_published_policy():
  published = []
  for pair in PUBLISHED.split(";"):
    rows = (row.split() for row in pair.split(","))
    published.append(tuple((op, int(p) / 10, 0 if k == "-" else int(k)) for op, p, k in rows))
  assert autoaugment.CIFAR10 == tuple(published)


def test_one_op_by_name():
  images, ops = make_images(3, 6, 3), (("Rotate", -17.5), ("Contrast", 0.37), ("Posterize", 3))
  found = jax.jit(lambda images: [autoaugment.apply_op(images, *op, fill=9) for op in ops])(images)
  for (op, m), ours in zip(ops, found, strict=True):
    theirs = np.stack([from_pillow(pillow_op(to_pillow(x), op, m, 9)) for x in images])
    np.testing.assert_array_equal(ours, theirs, err_msg=op)
  with pytest.raises(ValueError, match="op='Blur'"):
    autoaugment.apply_op(images, "Blur", 0, 0)


def test_draws_have_the_published_frequencies():
  count = 50_000
  draws = jax.tree.map(np.asarray, jax.jit(autoaugment.draw)(split(1, count)))
  index, applied, positive = draws
  assert stats.chisquare(np.bincount(index, minlength=25)).pvalue > 1e-3
  for policy, pair in enumerate(autoaugment.CIFAR10):
    chosen = index == policy
    for slot, (_, probability, _) in enumerate(pair):
      spread = np.sqrt(probability * (1 - probability) / chosen.sum())
      assert abs(applied[chosen, slot].mean() - probability) <= 4.5 * spread
    both = applied[chosen].all(1).mean()
    assert abs(both - pair[0].probability * pair[1].probability) < 4.5 * 0.5 / chosen.sum() ** 0.5
  signs = np.bincount(positive[:, 0] * 2 + positive[:, 1], minlength=4)
  assert stats.chisquare(signs).pvalue > 1e-3
  # Signs are independent of the choice and of being applied.
  assert abs(np.corrcoef(positive[:, 0], applied[:, 0])[0, 1]) < 4.5 / count**0.5
  assert abs(np.corrcoef(positive[:, 0], index)[0, 1]) < 4.5 / count**0.5


@jax.jit
def augmented(keys, images):
  """Images with everything on, without the cutout, and the cutout alone of white images."""
  white = jnp.full_like(images, 255)
  return (
    augment.augment(keys, images, make_config()),
    augment.augment(keys, images, make_config(cutout=0)),
    augment.augment(keys, white, make_config(**OFF | {"cutout": 10})),
  )


def test_other_keys_give_other_images():
  images = make_images(2, 16, 3)
  whole, other = (np.asarray(augmented(split(seed, 16), images)[0]) for seed in (4, 5))
  assert (whole != other).mean() > 0.2
  assert whole.dtype == np.uint8 and whole.shape == images.shape


def test_raw_keys_give_the_same_images():
  images, keys = make_images(2, 6, 3), split(4, 6)
  run = partial(augment.augment, config=make_config(autoaugment="none"))
  of_both = jax.jit(lambda keys, raw, images: (run(keys, images), run(raw, images)))
  np.testing.assert_array_equal(*of_both(keys, jax.random.key_data(keys), images))


def test_everything_off_returns_the_images():
  images, keys = make_images(2, 6, 3), split(0, 6)
  switches = (OFF, OFF | {"cutout": 8})
  off, cut = jax.jit(
    lambda *args: [augment.augment(*args, make_config(**each)) for each in switches]
  )(keys, images)
  np.testing.assert_array_equal(off, images)
  assert (np.asarray(cut) != images).any()


def test_other_places_in_the_batch_give_the_same_images_and_cutout_is_last():
  """No stage changes the draws of another: all but the cutout, and then the cutout alone."""
  images, keys, order = make_images(2, 16, 3), split(4, 16), np.roll(np.arange(16), 5)
  whole, without, alone = map(np.asarray, augmented(keys, images))
  moved = augmented(keys[order], images[order])
  hole = (alone == 7).all(-1)
  assert (hole.sum((1, 2)) >= 25).all() and (hole.sum((1, 2)) <= 100).all()
  np.testing.assert_array_equal(whole, np.where(hole[..., None], 7, without))
  np.testing.assert_array_equal(moved[0], whole[order])


def coordinate_images(count, height, width):
  """Channel 0 holds the row + 1, channel 1 the column + 1."""
  rows, columns = np.mgrid[1 : height + 1, 1 : width + 1]
  image = np.stack([rows, columns, rows + columns], -1).astype(np.uint8)
  return np.broadcast_to(image, (count, *image.shape))


def test_crop_is_pillows_and_every_place_is_as_likely():
  images, padding = coordinate_images(3000, 7, 5), 2
  out = np.asarray(
    jax.jit(augment.random_crop, static_argnums=(2, 3))(split(0, 3000), images, padding, 200)
  )
  padded = ImageOps.expand(Image.fromarray(images[0]), padding, (200,) * 3)
  places = {}
  for top, left in itertools.product(range(5), repeat=2):
    crop = padded.crop((left, top, left + 5, top + 7))
    places[np.asarray(crop).tobytes()] = (top, left)
  seen = [places[image.tobytes()] for image in out]
  counts = [seen.count(place) for place in places.values()]
  assert stats.chisquare(counts).pvalue > 1e-3


def test_the_stages_draw_independently():
  count, size = 2000, 9
  images, keys = coordinate_images(count, size, size), split(0, count)
  # Padding 4 gives the crop 9 places an axis, as the cutout has: a shared key would show.
  switches = (dict(crop_padding=4), dict(flip=True), dict(cutout=1, cutout_fill=255))
  crop, flip, cut = map(
    np.asarray,
    jax.jit(lambda *args: [augment.augment(*args, make_config(**OFF | on)) for on in switches])(
      keys, images
    ),
  )
  hole = np.argwhere((cut == 255).all(-1))
  draws = np.stack([crop[:, 4, 4, 0], crop[:, 4, 4, 1], flip[:, 0, 0, 1], hole[:, 1], hole[:, 2]])
  correlation = np.corrcoef(draws.astype(float)) - np.eye(5)
  assert np.abs(correlation).max() < 4.5 / count**0.5


def test_flip_mirrors_columns_half_the_time():
  images = coordinate_images(2000, 3, 5)
  out = np.asarray(jax.jit(augment.random_flip)(split(0, 2000), images))
  mirrored = np.asarray(ImageOps.mirror(Image.fromarray(images[0])))
  flipped = (out == mirrored).all((1, 2, 3))
  assert ((out == images[0]).all((1, 2, 3)) ^ flipped).all()
  assert abs(flipped.mean() - 0.5) < 4.5 * 0.5 / 2000**0.5


@pytest.mark.parametrize("size", [4, 3])
def test_cutout_squares_are_clipped_and_uniformly_centred(size):
  height, width = 6, 9
  images = coordinate_images(4000, height, width)
  out = np.asarray(jax.jit(augment.cutout, static_argnums=(2, 3))(split(0, 4000), images, size, 99))
  holes = {}
  for y, x in itertools.product(range(height), range(width)):
    hole, top, left = images[0].copy(), y - size // 2, x - size // 2
    hole[max(top, 0) : top + size, max(left, 0) : left + size] = 99
    holes[hole.tobytes()] = (y, x)
  assert len(holes) == height * width
  seen = [holes[image.tobytes()] for image in out]
  counts = [seen.count(centre) for centre in holes.values()]
  assert stats.chisquare(counts).pvalue > 1e-3


def test_normalise():
  images, mean, std = make_images(1, 4, 3), (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
  out = jax.jit(augment.normalise, static_argnums=(1, 2))(images, mean, std)
  assert out.dtype == jnp.float32
  np.testing.assert_allclose(out, (images / 255 - np.array(mean)) / np.array(std), atol=1e-6)
  with pytest.raises(ValueError, match="3 channels"):
    augment.normalise(images, mean[:2], std)


@pytest.mark.parametrize(
  "changes", [{"crop_fill": 256}, {"cutout": -1}, {"autoaugment": "svhn"}, {"crop_padding": 1.5}]
)
def test_bad_config_is_named(changes):
  (field,) = changes
  with pytest.raises(UserError, match=f"augment.{field}="):
    augment.augment(split(0, 2), make_images(0, 2, 3), make_config(**changes))


def test_bad_arrays_are_refused():
  images, keys = make_images(0, 4, 3), split(0, 4)
  for bad_keys, bad_images in (
    (keys, images.astype(np.float32)),
    (keys, images[..., :2]),
    (keys[:3], images),
    (jax.random.key(0), images),
  ):
    with pytest.raises(ValueError, match="expected"):
      augment.augment(bad_keys, bad_images, make_config())
