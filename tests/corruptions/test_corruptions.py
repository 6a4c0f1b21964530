"""Corruptions against SciPy, Pillow, matplotlib and NumPy loops, and what severities must mean."""

import io
import itertools

import jax
import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage, stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from dissim_jax import corruptions
from dissim_jax.corruptions import CORRUPTIONS, light, noise
from dissim_jax.corruptions.severities import constants
from dissim_jax.errors import UserError

HEIGHT, WIDTH, COUNT = 33, 40, 24
FIXED = {"gaussian_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg"}
GRADES = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
every = pytest.mark.parametrize("name", CORRUPTIONS)


@pytest.fixture(scope="module")
def images():
  """Smooth colour images with some grain, uint8 [24, 33, 40, 3], from dark to bright."""
  rng = np.random.default_rng(0)
  smooth = ndimage.gaussian_filter(rng.normal(size=(COUNT, HEIGHT, WIDTH, 3)), (0, 3, 3, 0))
  smooth = 127 + 600 * smooth + 8 * rng.normal(size=smooth.shape)
  return np.clip(smooth + rng.uniform(-60, 60, (COUNT, 1, 1, 1)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def digits():
  """(training images, training labels, test images, test labels) of 8 x 8 x 1 pixels."""
  data = load_digits()
  pixels = np.round(data.images * 255 / 16).astype(np.uint8)[..., None]
  return pixels[:900], data.target[:900], pixels[900:1400], data.target[900:1400]


def run(name, images, severity, seed=0):
  """All images in one batch, so that a corruption is compiled once for all tests."""
  return corruptions.corrupt(name, images, severity, seed, batch_size=len(images))


def flat(level, shape):
  return np.full(shape, level, np.uint8)


def keys_of(name, count=COUNT, seed=0):
  return corruptions.example_keys(name, seed, np.arange(count))


def levels(name, severity):
  """The constants at a published severity, read off the table."""
  return [values[severity] for values in CORRUPTIONS[name].constants.values()]


def rounded(expected):
  return np.clip(np.round(expected), 0, 255)


def assert_levels(actual, expected, tolerance=1, share=1.0):
  """At least this share of the values is within `tolerance` grey levels of the expected ones."""
  off = np.abs(actual.astype(np.float64) - expected)
  assert np.mean(off <= tolerance) >= share, (off.max(), np.mean(off > tolerance))


def assert_same(actual, expected):
  """The same images, made at other places or by programs of other shapes.

  A value that lies in the middle of two grey levels may be rounded either way.
  """
  off = np.abs(actual.astype(int) - expected)
  assert off.max() <= 1 and np.mean(off > 0) <= 1e-3, (off.max(), np.mean(off > 0))


# What every corruption must do.


@every
def test_severity_0_is_the_image_and_a_little_more_is_nearly_it(name, images):
  np.testing.assert_array_equal(run(name, images, 0), images)
  if name == "jpeg":  # Even the best quality rounds.
    return
  nearly = np.abs(run(name, images, 1e-4).astype(int) - images)
  assert np.mean(nearly > 1) < 1e-3


@every
def test_the_change_grows_with_severity(name, images):
  changes = [np.abs(run(name, images, s).astype(int) - images).mean() for s in GRADES]
  growth = np.diff(changes)
  if name == "motion_blur":  # Levels 3 and 4 have one constant.
    assert growth[3] == 0
    growth = np.delete(growth, 3)
  assert changes[0] > 0 and np.all(growth > 0), changes
  np.testing.assert_array_equal(run(name, images, 9), run(name, images, 5))


@every
def test_examples_do_not_depend_on_batches_but_on_the_seed(name, images):
  whole = run(name, images, 3.0)
  assert whole.dtype == np.uint8 and whole.shape == images.shape
  np.testing.assert_array_equal(run(name, images, 3.0), whole)
  # The same images moved to another place in a batch, beside others, with their own keys.
  order = np.roll(np.arange(COUNT), 7)
  keys = corruptions.example_keys(name, 0, order)
  moved = np.asarray(corruptions.compiled(name)(keys, images[order], 3.0))
  assert_same(moved, whole[order])
  other = run(name, images, 3.0, seed=1)
  assert np.array_equal(other, whole) == (name in FIXED)


@pytest.mark.parametrize("name", ["gaussian_noise", "gaussian_blur", "jpeg"])
@pytest.mark.parametrize("batch_size", [5, 24, 100])
def test_any_batch_size_gives_the_same(name, batch_size, images):
  split = corruptions.corrupt(name, images, 2.5, 0, batch_size=batch_size)
  assert_same(split, run(name, images, 2.5))


@every
def test_two_examples_and_two_corruptions_have_choices_of_their_own(name, images):
  same = np.repeat(images[:1], COUNT, axis=0)
  result = run(name, same, 5.0)
  if name in FIXED:
    assert_same(result[0], result[1])
  else:
    assert not np.array_equal(result[0], result[1])
  keys = [jax.random.key_data(keys_of(other)) for other in CORRUPTIONS]
  assert len(np.unique(np.concatenate(keys), axis=0)) == COUNT * len(CORRUPTIONS)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if not CORRUPTIONS[name].host])
def test_one_trace_serves_all_severities_and_the_last_batch(name, images):
  run(name, images, 1)
  traced = corruptions.compiled(name)._cache_size()
  for severity in (0, 2, 2.5, np.float32(4)):
    run(name, images, severity)
  more = np.concatenate((images, images[:5]))
  corruptions.corrupt(name, more, 1.5, 0, batch_size=COUNT)
  assert corruptions.compiled(name)._cache_size() == traced


def test_published_levels_and_the_steps_between():
  rows = {name: entry.constants for name, entry in CORRUPTIONS.items()}
  assert [len(values) for row in rows.values() for values in row.values()] == [6] * 17
  for name, row in rows.items():
    for severity in range(6):
      np.testing.assert_allclose(constants(name, severity), levels(name, severity), rtol=1e-6)
    first, *_ = row.values()
    np.testing.assert_allclose(constants(name, 3.25)[0], 0.75 * first[3] + 0.25 * first[4])


# Noise.


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_gaussian_noise_has_its_deviation(severity, images):
  change = run("gaussian_noise", flat(128, images.shape), severity) - 128.0
  (deviation,) = levels("gaussian_noise", severity)
  assert change.std() == pytest.approx(255 * deviation, rel=0.02)
  assert abs(change.mean()) < 0.5
  assert stats.kurtosis(change.ravel()) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("level, severity", [(128, 1), (128, 5), (20, 4)])
def test_shot_noise_has_the_variance_of_counted_photons(level, severity, images):
  change = run("shot_noise", flat(level, images.shape), severity) - float(level)
  per_photon = 255 * levels("shot_noise", severity)[0]
  assert change.var() == pytest.approx(level * per_photon, rel=0.05)
  assert abs(change.mean()) < 0.5


def test_black_has_no_shot_noise(images):
  assert not run("shot_noise", flat(0, images.shape), 5).any()


poisson_quantile = jax.jit(noise.poisson_quantile)


@pytest.mark.parametrize("mean", [0.0, 0.3, 2.0, 4.99, 5.0, 9.0, 30.0, 400.0])
def test_poisson_quantile_is_scipys(mean):
  uniform = np.random.default_rng(0).random(20000, np.float32)
  found = np.asarray(poisson_quantile(uniform, np.full(20000, mean, np.float32)))
  off = np.abs(found - stats.poisson.ppf(uniform.astype(np.float64), np.float32(mean)))
  assert np.mean(off != 0) <= (3e-4 if mean < 5 else 3e-3)
  assert off.max() <= 1


@pytest.mark.parametrize("severity", [1, 5])
def test_impulse_noise_hits_its_share_with_salt_and_pepper(severity, images):
  result = run("impulse_noise", flat(100, images.shape), severity)
  share = levels("impulse_noise", severity)[0]
  assert set(np.unique(result)) == {0, 100, 255}
  for level in (0, 255):
    assert np.mean(result == level) == pytest.approx(share / 2, rel=0.1)


# Blurs.


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_gaussian_blur_is_scipys(severity, images):
  sigma = levels("gaussian_blur", severity)[0] * HEIGHT / 32
  blurred = lambda sigma: ndimage.gaussian_filter(  # noqa: E731
    images.astype(np.float64), (0, sigma, sigma, 0), mode="nearest"
  )
  result = run("gaussian_blur", images, severity)
  assert_levels(result, rounded(blurred(sigma)), 1)
  assert np.mean(result != rounded(blurred(1.2 * sigma))) > 0.3


def motion(image, deviation, angle):
  """ImageMagick's motion blur of one float64 image."""
  offsets = range(int(np.ceil(4 * 2.5 * HEIGHT / 32)) + 1)
  weights = np.exp(-np.square(offsets) / (2 * deviation**2))
  rows, columns = np.indices(image.shape[:2])
  total = np.zeros_like(image)
  for i, weight in zip(offsets, weights / weights.sum(), strict=True):
    row = np.clip(rows + np.round(i * np.sin(angle)).astype(int), 0, HEIGHT - 1)
    column = np.clip(columns + np.round(i * np.cos(angle)).astype(int), 0, WIDTH - 1)
    total += weight * image[row, column]
  return total


@pytest.mark.parametrize("severity", [1, 5])
def test_motion_blur_is_the_mean_along_its_ray(severity, images):
  angles = [(float(jax.random.uniform(key)) - 0.5) * np.pi / 2 for key in keys_of("motion_blur")]
  deviation = levels("motion_blur", severity)[0] * HEIGHT / 32
  result = run("motion_blur", images, severity)
  for image, blurred, angle in zip(images.astype(np.float64), result, angles, strict=True):
    assert_levels(blurred, rounded(motion(image, deviation, angle)), 1, share=0.999)
  assert np.mean(blurred != rounded(motion(image, deviation, angle + 1))) > 0.3


@pytest.mark.parametrize(
  "name", ["gaussian_blur", "motion_blur", "zoom_blur", "contrast", "pixelate"]
)
def test_a_flat_image_stays_flat(name, images):
  np.testing.assert_array_equal(run(name, flat(77, images.shape), 4.5), flat(77, images.shape))


# Light.


@pytest.mark.parametrize("severity", [1, 5])
def test_brightness_raises_the_value_of_hsv(severity, images):
  images = images.copy()
  images[0, :5] = 0  # Black becomes grey.
  hsv = rgb_to_hsv(images / 255)
  hsv[..., 2] = np.clip(hsv[..., 2] + levels("brightness", severity)[0], 0, 1)
  assert_levels(run("brightness", images, severity), rounded(255 * hsv_to_rgb(hsv)), 1)


@pytest.mark.parametrize("severity", [1, 5])
def test_contrast_draws_values_to_the_channels_mean(severity, images):
  mean = images.mean((1, 2), keepdims=True)
  expected = mean + levels("contrast", severity)[0] * (images - mean)
  assert_levels(run("contrast", images, severity), rounded(expected), 1)


def diamond_square(wobbles, decay):
  """The height map of one image, point by point."""
  side = len(wobbles)
  heights, amplitude, step = np.zeros((side, side)), 1.0, side
  at = lambda i, j: heights[i % side, j % side]  # noqa: E731
  while step > 1:
    half = step // 2
    for i, j in itertools.product(range(half, side, step), repeat=2):
      corners = [at(i + a, j + b) for a in (-half, half) for b in (-half, half)]
      heights[i, j] = np.mean(corners) + amplitude * wobbles[i, j]
    known = heights.copy()
    for i, j in itertools.product(range(0, side, half), repeat=2):
      if (i + j) // half % 2:
        cross = [(i - half, j), (i + half, j), (i, j - half), (i, j + half)]
        around = [known[a % side, b % side] for a, b in cross]
        heights[i, j] = np.mean(around) + amplitude * wobbles[i, j]
    amplitude, step = amplitude / decay**2, half
  return (heights - heights.min()) / (heights.max() - heights.min())


height_map = jax.jit(light.height_map, static_argnames="levels")


def test_fractal_clouds_are_diamond_square():
  keys = keys_of("fog", 2)
  for key, found in zip(keys, height_map(keys, 4, 1.75), strict=True):
    wobbles = np.asarray(jax.random.uniform(key, (16, 16), minval=-1), np.float64)
    np.testing.assert_allclose(found, diamond_square(wobbles, 1.75), atol=1e-5)
    assert not np.allclose(found, diamond_square(wobbles, 2.25), atol=1e-2)


def test_fog_adds_clouds_and_keeps_the_brightest_value(images):
  thickness, decay = levels("fog", 4)
  clouds = np.asarray(height_map(keys_of("fog"), 6, decay), np.float64)
  most = images.max((1, 2, 3), keepdims=True) / 255
  foggy = images / 255 + thickness * clouds[:, :HEIGHT, :WIDTH, None]
  expected = rounded(255 * foggy * most / (most + thickness))
  assert_levels(run("fog", images, 4), expected, 1)
  black = flat(0, images.shape)
  np.testing.assert_array_equal(run("fog", black, 4), black)  # Their formula.


# Resolution.


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_pixelate_is_pillows_box_filter(severity, images):
  size = levels("pixelate", severity)[0] / 32
  small = (int(size * WIDTH), int(size * HEIGHT))

  def boxed(image):
    coarse = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BOX)).astype(np.float64)

  expected = [boxed(image) for image in images]
  # Where a middle falls on an edge, in one of the 33 rows, Pillow's rounding decides.
  assert_levels(run("pixelate", images, severity), expected, 2, share=1 - 1 / 33)


@pytest.mark.parametrize("severity, quality", [(1, 80), (2.5, 62), (5, 40)])
def test_jpeg_is_pillows(severity, quality, images):
  def compressed(quality):
    file = io.BytesIO()
    Image.fromarray(images[1]).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))

  result = run("jpeg", images, severity)[1]
  np.testing.assert_array_equal(result, compressed(quality))
  assert np.any(result != compressed(quality - 3))


# Obstructions.


def drawn(name, count, i=0):
  """The first uniform numbers of example i's key."""
  return np.asarray(jax.random.uniform(keys_of(name)[i], (count,)), np.float64)


def plasma_of_a_pixel(x, y, time, iterations, sharpness, scale):
  """The colours of one pixel in [-1, 1], as Mintun et al. define them."""
  x, y = x / scale, y / scale
  frequency, slowness, weakness = 1.0, 1.0, 1.0
  for _ in range(iterations):
    first = np.cos(y * frequency + time / slowness) / weakness
    second = np.sin(x * frequency + time / slowness) / weakness
    x, y = x + first - 0.3 * second, y + second + 0.3 * first
    frequency, slowness, weakness = frequency * 1.93, slowness * 1.15, weakness * (2.25 - sharpness)
  return [np.sin(x - time), np.sin((x + y + np.sin(time)) / 2), np.sin(y + time)]


def test_plasma_noise_is_a_mixture_with_the_published_waves(images):
  (strength,) = levels("plasma_noise", 4)
  share = 6.4 * strength / 255
  result = run("plasma_noise", images, 4)
  for i in range(2):
    time, iterations, sharpness, scale = drawn("plasma_noise", 4, i)
    waves = [
      [
        plasma_of_a_pixel(
          x,
          y,
          6 * np.pi * time,
          4 + int(3 * iterations),
          0.5 + sharpness / 2,
          (0.075 + 0.125 * scale) * HEIGHT,
        )
        for x in range(WIDTH)
      ]
      for y in range(HEIGHT)
    ]
    expected = (1 - share) * images[i] + 255 * share * np.array(waves)
    assert_levels(result[i], rounded(expected), 1, share=0.99)


@pytest.mark.parametrize("severity", [2, 5])
def test_checkerboard_fills_its_share_with_grey(severity, images):
  white = flat(255, images.shape)
  result = run("checkerboard_cutout", white, severity)
  assert set(np.unique(result)) == {128, 255}
  (strength,) = levels("checkerboard_cutout", severity)
  assert np.mean(result == 128) == pytest.approx(strength / 20, abs=0.04)
  # What a lower severity fills, a higher one fills as well.
  assert np.all((run("checkerboard_cutout", white, 1) == 255) | (result == 128))


def test_checkerboard_squares_are_squares_of_one_parity(images):
  white = flat(255, images.shape)
  filled = run("checkerboard_cutout", white, 5)[..., 0] == 128
  for i in range(8):
    angle, size = drawn("checkerboard_cutout", 2, i)
    angle, size = 2 * np.pi * angle, max((0.1 + 0.15 * size) * HEIGHT, 1)
    squares = {}
    for y, x in itertools.product(range(HEIGHT), range(WIDTH)):
      cell = (
        int(np.floor((np.cos(angle) * y + np.sin(angle) * x) / size)),
        int(np.floor((np.cos(angle) * x - np.sin(angle) * y) / size)),
      )
      squares.setdefault(cell, []).append(filled[i, y, x])
    white_squares = [v for (a, b), v in squares.items() if (a + b) % 2]
    assert not any(map(any, white_squares))
    black_squares = [np.mean(v) for (a, b), v in squares.items() if (a + b) % 2 == 0]
    # Pixels on an edge may round to the neighbour.
    assert np.mean(np.isin(black_squares, (0, 1))) > 0.9
    assert {0, 1} <= set(black_squares)


def test_water_drop_moves_pixels_along_the_radius(images):
  strength = levels("water_drop", 5)[0]
  result = run("water_drop", images, 5)
  rows, columns = np.indices((HEIGHT, WIDTH), dtype=np.float64)
  for i in range(3):
    top, left, wavelength, phase = drawn("water_drop", 4, i)
    down = rows - (0.25 + top / 2) * HEIGHT
    right = columns - (0.25 + left / 2) * WIDTH
    wavelength = (0.05 + 0.15 * wavelength) * HEIGHT
    distance = np.sqrt(down**2 + right**2)
    move = 0.025 * strength * np.sin(2 * np.pi * (distance / wavelength - phase))
    move *= (distance <= HEIGHT // 2) * wavelength / distance
    place = np.stack((rows + move * down, columns + move * right))
    for channel in range(3):
      layer = images[i, ..., channel].astype(np.float64)
      expected = ndimage.map_coordinates(layer, place, order=1, mode="grid-constant")
      assert_levels(result[i, ..., channel], rounded(expected), 1)
  outside = distance > HEIGHT // 2
  assert outside.any() and np.array_equal(result[i][outside], images[i][outside])


def line_opacity(down, right, angle, scale):
  """Opacity of one line at all pixels: 1 in its middle, 0 at a distance of its width."""
  rows, columns = np.indices((HEIGHT, WIDTH), dtype=np.float64)
  start, way = np.array([down, right]), np.array([np.cos(angle), np.sin(angle)])
  points = np.stack((rows, columns), -1) - start
  along = np.clip(points @ way, -HEIGHT, HEIGHT)[..., None] * way
  return np.maximum(0, 1 - np.linalg.norm(points - along, axis=-1) / scale)


@pytest.mark.parametrize("severity, counts", [(5, [1] * 8), (2.5, [1, 1, 1, 0.5])])
def test_lines_cover_pixels_by_their_distance(severity, counts, images):
  result = run("lines", images, severity)
  for i in range(3):
    common, variation, *places = drawn("lines", 26, i)
    clear = np.ones((HEIGHT, WIDTH))
    for j, opacity in enumerate(counts):
      down, right, turn = places[3 * j : 3 * j + 3]
      angle = 2 * np.pi * (common + (0.1 + 0.9 * variation) * (turn - 0.5))
      clear *= 1 - opacity * line_opacity(down * HEIGHT, right * WIDTH, angle, HEIGHT / 32)
    expected = clear[..., None] * images[i] + (1 - clear[..., None]) * 128
    assert_levels(result[i], rounded(expected), 1)


# Small images.


@pytest.mark.parametrize("name", ["gaussian_blur", "zoom_blur"])
def test_small_images_are_corrupted_enlarged(name, digits):
  """8 x 8 pixels as 32 x 32 of blocks, and the means of blocks."""
  small = digits[2]
  large = np.kron(small, np.ones((1, 4, 4, 1))).astype(np.uint8)
  blurred = run(name, large[:20], 5.0).reshape(20, 8, 4, 8, 4, 1).mean((2, 4))
  assert_levels(run(name, small, 5.0)[:20], rounded(blurred), 1)


def test_corruptions_raise_the_error_on_digits(digits):
  """Logistic regression on 8 x 8 grey images; per corruption 2 points of noise are allowed."""
  train, train_labels, test, labels = digits
  rows = lambda x: x.reshape(len(x), -1) / 255  # noqa: E731
  model = LogisticRegression(max_iter=200).fit(rows(train), train_labels)
  error = lambda x: 1 - model.score(rows(x), labels)  # noqa: E731
  errors = np.array(
    [
      [error(test)] + [error(run(name, test, severity)) for severity in (1, 2, 3, 4, 5)]
      for name in CORRUPTIONS
    ]
  )
  assert np.all(np.diff(errors.mean(0)) > 0), errors.mean(0)
  assert np.all(np.diff(errors, axis=1) > -0.02), errors
  assert errors[:, 5].mean() > 1.5 * errors[0, 0]
  assert np.all(errors[:, 0] == errors[0, 0])


# Errors.


def test_a_misspelt_name_is_answered_with_the_nearest(images):
  with pytest.raises(UserError, match="corruption 'water_drip'.*did you mean 'water_drop'"):
    corruptions.corrupt("water_drip", images, 1, 0)


@pytest.mark.parametrize("severity", [-1, -1e-9, float("nan"), float("inf"), "much", None])
def test_a_bad_severity_is_named(severity, images):
  with pytest.raises(UserError, match="severity="):
    corruptions.corrupt("fog", images, severity, 0)


@every
def test_wrong_arrays_are_refused(name, images):
  function, keys = CORRUPTIONS[name].function, keys_of(name)
  for wrong in (images[0], images.astype(np.float32), images[..., :2]):
    with pytest.raises(ValueError, match="images: "):
      corruptions.corrupt(name, wrong, 1, 0)
    with pytest.raises(ValueError, match="images: "):
      function(keys, wrong, 1.0)
  with pytest.raises(ValueError, match="keys: "):
    function(keys[:-1], images, 1.0)


def test_no_images_and_no_batch(images):
  assert corruptions.corrupt("fog", images[:0], 1, 0).shape == (0, HEIGHT, WIDTH, 3)
  with pytest.raises(ValueError, match="batch_size=0"):
    corruptions.corrupt("fog", images, 1, 0, batch_size=0)
