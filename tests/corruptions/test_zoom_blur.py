"""Zoom blur against the published geometry, in SciPy and float64."""

import math

import numpy as np
import pytest
from scipy import ndimage

from dissim_jax.corruptions import corrupt
from dissim_jax.corruptions.blurs import zoom_line

LAST = {1: 1.06, 2: 1.11, 3: 1.16, 4: 1.21, 5: 1.26}  # make_cifar_c.py: arange(1, last, 0.01)
SHAPES = {"cifar": (32, 32, 3), "wide": (37, 50, 1), "large": (96, 64, 3), "small": (8, 16, 1)}


def some_images(shape, count=3):
  """Smooth shapes with grain, uint8."""
  rng = np.random.default_rng(0)
  smooth = ndimage.gaussian_filter(rng.normal(size=(count, *shape)), (0, 2, 2, 0))
  return np.clip(127 + 400 * smooth + 20 * rng.normal(size=smooth.shape), 0, 255).astype(np.uint8)


def cut(line, length, axis):
  """The middle of an axis in whole pixels, the smaller half of an odd rest before it."""
  start = (line.shape[axis] - length) // 2
  return np.take(line, range(start, start + length), axis)


def clipped_zoom(image, factor):
  """Crop, zoom by splines of order 1, trim: of [H, W, C], each axis by its own length."""
  for axis in (0, 1):
    length = image.shape[axis]
    factors = [factor if i == axis else 1 for i in range(3)]
    image = cut(image, math.ceil(length / factor), axis)
    image = cut(ndimage.zoom(image, factors, order=1), length, axis)
  return image


def centred_zoom(image, factor):
  """About the exact middle: what it is not."""
  height, width, _ = image.shape
  places = np.meshgrid(
    *((np.arange(n) - (n - 1) / 2) / factor + (n - 1) / 2 for n in (height, width)), indexing="ij"
  )
  channels = [ndimage.map_coordinates(layer, places, order=1) for layer in np.moveaxis(image, 2, 0)]
  return np.stack(channels, -1)


def reference(image, severity, zoom=clipped_zoom):
  """The mean of the image and its zooms, float64."""
  image = image.astype(np.float64)
  zooms = [zoom(image, factor) for factor in np.arange(1, LAST[severity], 0.01)]
  return np.mean([image, *zooms], axis=0)


@pytest.mark.parametrize("name", ["cifar", "wide", "large"])
def test_it_is_cifar_10_cs(name):
  """Within the rounding to grey levels, at every published severity."""
  images = some_images(SHAPES[name])
  for severity in LAST:
    found = corrupt("zoom_blur", images, severity, 0, batch_size=len(images)).astype(np.float64)
    expected = np.stack([reference(image, severity) for image in images])
    assert np.abs(found - expected).max() < 0.51, severity
    assert np.abs(found - images).mean() > 3, severity
    centred = np.stack([reference(image, severity, centred_zoom) for image in images])
    if name == "cifar":
      assert np.mean(np.abs(found - centred) > 2) > 0.2, severity


def test_small_images_are_zoomed_as_large_ones_of_equal_blocks():
  images = some_images(SHAPES["small"])
  blocks = np.kron(images, np.ones((1, 4, 4, 1), np.uint8))
  found = corrupt("zoom_blur", images, 4, 0)
  expected = np.stack([reference(image, 4) for image in blocks])
  expected = expected.reshape(len(images), 8, 4, 16, 4, 1).mean((2, 4))
  assert np.abs(found - expected).max() < 0.51


@pytest.mark.parametrize("size", [32, 33, 64, 97, 224])
def test_a_line_looks_where_scipys_zoom_of_the_crop_does(size):
  """Also between pixels, and at the ends; nothing from beyond them."""
  line = np.arange(size, dtype=np.float64)[:, None, None]
  for factor in np.arange(1, LAST[5], 0.01):
    first, step = zoom_line(size, factor)
    places = first + step * np.arange(size)
    np.testing.assert_allclose(places, clipped_zoom(line, factor)[:, 0, 0], atol=1e-9)
    assert places[0] >= 0 and places[-1] <= size - 1 + 1e-9


def test_between_severities_the_last_zoom_counts_in_part():
  """7 zooms at severity 1, 12 at 2: 9.5 between them."""
  images = some_images(SHAPES["cifar"])
  found = corrupt("zoom_blur", images, 1.5, 0)
  for image, blurred in zip(images.astype(np.float64), found, strict=True):
    zooms = [clipped_zoom(image, 1 + 0.01 * step) for step in range(10)]
    expected = (image + sum(zooms[:9]) + 0.5 * zooms[9]) / 10.5
    assert np.abs(blurred - expected).max() < 0.51
