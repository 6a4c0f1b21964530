"""Procrustes: how well one representation can be rotated onto the other."""

import jax
import jax.numpy as jnp
from jax import lax

from dissim_jax.similarity.aligned import AxisName, safe_cosine
from dissim_jax.similarity.floats import bounded, with_gradient_of
from dissim_jax.similarity.kernels import safe_root
from dissim_jax.similarity.moment_sums import HIGHEST, Moments, from_moments, moments
from dissim_jax.similarity.spectrum import real_directions


def nuclear_norm(matrix: jax.Array) -> jax.Array:
  """Sum of the singular values of `[p, q]`, in the dtype of the matrix.

  Its gradient is U V'; singular vectors of values that are rounding errors in float32 are left out,
  which is the smallest of all subgradients there.
  """
  u, values, vt = jnp.linalg.svd(lax.stop_gradient(matrix), full_matrices=False)
  rotated = jnp.matmul(matrix, vt.T, precision=HIGHEST)
  surrogate = jnp.sum(jnp.where(real_directions(values), u, 0.0) * rotated)
  return with_gradient_of(jnp.sum(values), surrogate)


def procrustes_from_moments(m: Moments) -> jax.Array:
  """`procrustes` of the arrays that the moments are of."""

  def formula(m):
    return bounded(safe_cosine(nuclear_norm(m.xy), jnp.trace(m.xx), jnp.trace(m.yy)), 0.0, 1.0)

  return from_moments(formula, m)


def procrustes(z: jax.Array, z_hat: jax.Array, *, axis_name: AxisName = None) -> jax.Array:
  """Similarity after the best rotation: `||X'Y||_* / (||X||_F ||Y||_F)`, X, Y the centred channels.

  The cosine between X and the best orthogonal map of Y (the narrower one is padded with zeros).
  Symmetric; unchanged by offsets, isotropic scales and orthogonal maps, not by general linear maps.
  Schonemann 1966; Ding et al. 2021; Williams et al. 2021 (its arc cosine is a metric).

  Args:
    z: `[..., C]`, floating point.
    z_hat: `[..., D]` with the same leading axes, which are all samples.
    axis_name: as in `expvar`.

  Returns:
    float32 scalar in [0, 1]; 1 = identical up to the invariances. 0 with a zero gradient where one
    side has no variance. NaN where a sample is NaN or infinite.

  Raises:
    ValueError: the leading axes differ or a dtype is not floating point.
  """
  return procrustes_from_moments(moments(z, z_hat, axis_name=axis_name))


def procrustes_distance(z: jax.Array, z_hat: jax.Array, *, axis_name: AxisName = None) -> jax.Array:
  """Procrustes distance of centred representations of unit norm: `min_R ||X/||X|| - Y R/||Y||||_F`.

  `sqrt(2 - 2 ||X'Y||_* / (||X||_F ||Y||_F))`, in [0, sqrt 2]; 0 = identical up to rotation and
  scale, with float32 resolving about 1e-3. sqrt 2 where one side has no variance. Other lines as
  in `procrustes`.
  """
  return safe_root(2.0 - 2.0 * procrustes(z, z_hat, axis_name=axis_name))


def procrustes_distance_squared(
  z: jax.Array, z_hat: jax.Array, *, axis_name: AxisName = None
) -> jax.Array:
  """Squared distance after the best rotation, scales kept: `min_R ||X - Y R||_F^2`.

  `||X||_F^2 + ||Y||_F^2 - 2 ||X'Y||_*` of centred channels, summed over samples; at least 0, 0 =
  identical up to rotation. Other lines as in `procrustes`.
  """

  def formula(m):
    distance = jnp.trace(m.xx) + jnp.trace(m.yy) - 2.0 * nuclear_norm(m.xy)
    return bounded(distance, 0.0, jnp.inf)

  return from_moments(formula, moments(z, z_hat, axis_name=axis_name))
