"""Which directions of a covariance matrix are real and not rounding errors of float32."""

import jax
import jax.numpy as jnp
from jax import lax

_EPS = float(jnp.finfo(jnp.float32).eps)
# A direction is noise if its deviation is less than so many roundings of the largest one's: a layer
# that maps few channels to many leaves about the root of its number of terms.
_ROUNDINGS = 64.0
# How far the largest eigenvalue of noise may lie above its mean: (1 + sqrt(channels / samples))^2.
_NOISE_SPREAD = 4.0


def rounding_noise(variance: jax.Array, mean: jax.Array, count: jax.Array) -> jax.Array:
  """What the rounding of samples to float32 adds to sums of squares of deviations: `[C]`.

  Evenly spread over a unit in the last place, which is at most `eps |x|`.

  Args:
    variance: sums of squares of deviations `[C]`.
    mean: `[C]`.
    count: number of samples.
  """
  return _EPS**2 / 12.0 * (variance + count * mean**2)


def real_directions(values: jax.Array, noise: jax.Array | None = None) -> jax.Array:
  """Which eigen- or singular values `[p]` of a covariance are no rounding errors: bool `[p]`.

  Of sums in float64 only the samples' own rounding has to be told from directions: `noise` is its
  variance along each. A direction is real if it has clearly more, and (64 eps)^2 of the largest.

  Of sums in float32 (`noise=None`) the errors are those of the sums: real is what is larger than
  `4 sqrt(p) eps max`, as errors of the decomposition are of the order of `eps max` whatever p is.
  And larger than twice the most negative one: no covariance has negative eigenvalues, so these
  measure the error of the matrix itself, which grows with the number of samples.
  """
  if noise is not None:
    return values > jnp.maximum((_ROUNDINGS * _EPS) ** 2 * jnp.max(values), _NOISE_SPREAD * noise)
  relative = 4.0 * values.shape[0] ** 0.5 * _EPS
  return values > jnp.maximum(relative * jnp.max(values), -2.0 * jnp.min(values))


def spectrum(
  matrix: jax.Array, noise: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Eigenvalues `[p]`, ascending, eigenvectors `[p, p]` in columns, which are `real_directions`.

  Args:
    matrix: covariance `[p, p]`.
    noise: variance of rounding errors in every channel, see `rounding_noise`.
  """
  values, vectors = jnp.linalg.eigh(matrix)
  along = None if noise is None else jnp.sum(vectors**2 * noise[:, None], axis=0)
  return values, vectors, real_directions(values, along)


def correlation_spectrum(
  matrix: jax.Array, noise: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Eigenvalues and eigenvectors of the correlation matrix of a covariance matrix `[p, p]`.

  Of the correlation matrix, so that the cutoff cuts directions that other channels repeat and not
  channels that are merely small.

  Returns:
    Inverse standard deviations `[p]` (0 of channels without variance), and `spectrum` of the
    correlation matrix.
  """
  variance = jnp.diagonal(matrix)
  varies = variance > 0
  scale = jnp.where(varies, lax.rsqrt(jnp.where(varies, variance, 1.0)), 0.0)
  noise = None if noise is None else noise * scale**2
  return scale, *spectrum(scale[:, None] * matrix * scale[None, :], noise)
