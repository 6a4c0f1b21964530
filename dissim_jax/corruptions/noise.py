"""Noise of single pixels: Gaussian, photon and impulse noise of CIFAR-10-C.

Reference: Hendrycks & Dietterich 2019, "Benchmarking neural network robustness to common
corruptions and perturbations", and their `make_cifar_c.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.corruptions.images import draw, finish, pixels
from dissim_jax.corruptions.severities import constants

# Below this mean the Poisson distribution is summed, above it is expanded.
_EXPANDED_FROM = 5.0
_SUMMED_TERMS = 22  # P(X > 22) < 1e-8 at a mean of 5: less than a float32 uniform resolves.


def gaussian_noise(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """x + 255 c n, n standard normal for every pixel and channel.

  Args, result and errors are those of every corruption: see `dissim_jax.corruptions`.
  """
  image = pixels(keys, images)
  (deviation,) = constants("gaussian_noise", severity)
  normal = draw(jax.random.normal, keys, images.shape[1:])
  return finish(images, image + 255 * deviation * normal, severity)


def shot_noise(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """Poisson(x / (255 c)) 255 c: a pixel counts photons, c is the share of white that one adds.

  The count is the quantile of one uniform number, so that a pixel which is too bright at one
  severity is too bright at all.
  """
  image = pixels(keys, images)
  (per_photon,) = constants("shot_noise", severity)
  per_photon = 255 * jnp.maximum(per_photon, 1e-6)
  uniform = draw(jax.random.uniform, keys, images.shape[1:])
  return finish(images, per_photon * poisson_quantile(uniform, image / per_photon), severity)


def impulse_noise(keys: jax.Array, images: jax.Array, severity: jax.Array) -> jax.Array:
  """A share c of all values becomes 0 or 255, either with probability 1/2."""
  image = pixels(keys, images)
  (share,) = constants("impulse_noise", severity)
  uniform = draw(jax.random.uniform, keys, images.shape[1:])
  salted = jnp.where(uniform >= 1 - share / 2, 255.0, image)
  return finish(images, jnp.where(uniform < share / 2, 0.0, salted), severity)


def poisson_quantile(uniform: jax.Array, mean: jax.Array) -> jax.Array:
  """The smallest k with P(X <= k) >= uniform, X Poisson of this mean; elementwise, float32.

  Means below 5 are summed. Above, the expansion in the normal quantile of Giles 2016 ("Algorithm
  955", Eq. 7), one off once in a thousand.

  Args:
    uniform: float32 in [0, 1).
    mean: float32 >= 0 of the same shape.
  """
  # The open interval: the ends have infinite quantiles.
  uniform = jnp.clip(uniform, np.finfo(np.float32).tiny, 1 - 2.0**-24)
  small = jnp.minimum(mean, _EXPANDED_FROM)
  term = jnp.exp(-small)
  below, count = term, jnp.zeros_like(mean)
  for k in range(1, _SUMMED_TERMS + 1):
    count += below < uniform
    term = term * small / k
    below += term
  large = jnp.maximum(mean, _EXPANDED_FROM)
  w, root = jax.scipy.special.ndtri(uniform), jnp.sqrt(large)
  expansion = large + root * w + 1 / 3 + w**2 / 6
  expansion += (-w / 36 - w**3 / 72) / root + (-8 / 405 + 7 * w**2 / 810 + w**4 / 270) / large
  return jnp.where(mean < _EXPANDED_FROM, count, jnp.maximum(jnp.floor(expansion), 0))
