"""Convolutions and batch norm in the form that is fast on a CPU are the same functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dissim_jax.models.convolution import convolution

LAYOUT = ("NHWC", "HWIO", "NHWC")
# Spatial size, channels in and out, kernel, stride, padding.
SHAPES = [
  (6, 3, 4, 3, 1, 1),  # two pixels together
  (8, 2, 2, 3, 1, 1),  # eight, the whole row
  (16, 2, 8, 5, 1, 2),  # four, and places two pixels away
  (8, 4, 3, 3, 1, 0),  # no padding, so that rows become shorter
  (7, 4, 3, 1, 2, 0),  # a product of matrices
  (7, 3, 4, 3, 2, 1),
  (2, 4, 3, 3, 1, 1),  # larger than the image: a sum of products
  (3, 4, 3, 4, 2, 2),
]


def by_sums(x, kernel, stride, padding):
  """The convolution by its definition, in float64."""
  x = np.pad(x.astype(np.float64), ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
  size = kernel.shape[0]
  places = (x.shape[1] - size) // stride + 1
  y = np.zeros((len(x), places, places, kernel.shape[-1]))
  for i in range(places):
    for j in range(places):
      window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
      y[:, i, j] = np.einsum("bhwc,hwcf->bf", window, kernel.astype(np.float64))
  return y


def arrays(size, channels, features, kernel):
  """An image batch and a kernel, float32."""
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, size, size, channels)).astype(np.float32)
  return x, rng.standard_normal((kernel, kernel, channels, features)).astype(np.float32)


def derivatives(function, x, kernel):
  """First ones in both modes, and those of a gradient penalty."""

  def loss(x, kernel):
    return jnp.sum(jnp.sin(function(x, kernel)))

  def penalty(x, kernel):
    return jnp.sum(jax.grad(loss)(x, kernel) ** 2)

  arrays = x, kernel
  return (
    jax.grad(loss, (0, 1))(*arrays),
    jax.grad(penalty, (0, 1))(*arrays),
    jax.jvp(loss, arrays, (kernel.sum() * x, kernel)),
    jax.jvp(jax.grad(loss, 1), arrays, arrays),
  )


@functools.cache
def computed():
  """Of every shape: our convolution, its derivatives, those of XLA's convolution. One program."""

  @jax.jit
  def run(inputs):
    found = {}
    for shape, (x, kernel) in inputs.items():
      *_, stride, padding = shape
      options = {"window_strides": (stride, stride), "padding": [(padding, padding)] * 2}
      theirs = functools.partial(lax.conv_general_dilated, dimension_numbers=LAYOUT, **options)
      ours = functools.partial(
        convolution, strides=(stride,) * 2, padding=options["padding"], dimension_numbers=LAYOUT
      )
      found[shape] = ours(x, kernel), *(derivatives(f, x, kernel) for f in (ours, theirs))
    return found

  return run({shape: arrays(*shape[:4]) for shape in SHAPES})


@pytest.mark.parametrize("shape", SHAPES)
def test_a_convolution_is_its_definition(shape):
  expected = by_sums(*arrays(*shape[:4]), *shape[4:])
  np.testing.assert_allclose(computed()[shape][0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_a_convolution_and_their_gradients(shape):
  """As those of XLA's convolution."""
  ours, theirs = map(jax.tree.leaves, computed()[shape][1:])
  for got, expected in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4 * np.max(np.abs(expected)))
