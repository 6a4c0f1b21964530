"""Which directions of a covariance matrix are real, told in float32."""

import jax
import jax.numpy as jnp
from jax import lax


def real_directions(values: jax.Array) -> jax.Array:
  """Which eigen- or singular values `[p]` of a covariance are no rounding errors: bool `[p]`.

  Larger than `4 sqrt(p) eps max`: errors of the decomposition are of the order of `eps max`
  whatever p is, and `p eps max` would cut hundreds of real directions of a wide layer. And larger
  than twice the most negative one: no covariance has negative eigenvalues, so these measure the
  error of the matrix itself, which grows with the number of samples that were added up.
  """
  relative = 4.0 * values.shape[0] ** 0.5 * float(jnp.finfo(jnp.float32).eps)
  cutoff = jnp.maximum(relative * jnp.max(values), -2.0 * jnp.min(values))
  return values > cutoff


def correlation_spectrum(matrix: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Eigenvalues and eigenvectors of the correlation matrix of a covariance matrix `[p, p]`.

  Of the correlation matrix, so that the cutoff cuts directions that other channels repeat and not
  channels that are merely small.

  Returns:
    Inverse standard deviations `[p]` (0 of channels without variance), eigenvalues `[p]` in
    ascending order, eigenvectors `[p, p]` in columns, and which of them are `real_directions`.
  """
  variance = jnp.diagonal(matrix)
  varies = variance > 0
  scale = jnp.where(varies, lax.rsqrt(jnp.where(varies, variance, 1.0)), 0.0)
  values, vectors = jnp.linalg.eigh(scale[:, None] * matrix * scale[None, :])
  return scale, values, vectors, real_directions(values)
