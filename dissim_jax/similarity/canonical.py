"""Canonical correlations of two representations: CCA, SVCCA and PWCCA, from streamed co-moments.

Every leading axis is samples. Each side is whitened by the eigenvectors of its correlation matrix
(of its covariance for SVCCA); the canonical correlations rho_i are then the singular values of the
whitened cross-covariance. There are min(rank_x, rank_y) of them, so a channel that is constant or
that repeats others changes nothing. All need more samples than channels: with n <= channels every
correlation is 1 by definition, whatever the data. Computed in float64: directions whose variance
(of standardised channels) is below 6e-11 of the largest one's, or below what rounding the samples
to float32 adds, count as absent. Of moments that were summed in float32 these are directions below
about sqrt(C) 5e-7.

Gradients. Canonical directions a_i, b_i are stationary points, so that
`rho_i = a' Sxy b / sqrt(a' Sxx a b' Syy b)` along directions that are held fixed has the value and
(summed over all i, which settles those that are equal) the gradient of the canonical correlations.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dissim_jax.similarity.aligned import AxisName, safe_cosine
from dissim_jax.similarity.floats import bounded
from dissim_jax.similarity.moment_sums import HIGHEST, Moments, Wide, from_moments, moments
from dissim_jax.similarity.spectrum import correlation_spectrum, spectrum


class _Canonical(NamedTuple):
  """Directions of x `[Cx, r]`, correlations `[r]`, descending, and which of the r there are."""

  directions: jax.Array
  correlations: jax.Array
  exist: jax.Array


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.matmul(a, b, precision=HIGHEST)


def _whiten(xx: jax.Array, noise: jax.Array | None) -> jax.Array:
  """`[C, C]` with `W' xx W` the identity on the directions that vary; other columns are 0."""
  scale, values, vectors, kept = correlation_spectrum(xx, noise)
  inverse = jnp.where(kept, lax.rsqrt(jnp.where(kept, values, 1.0)), 0.0)
  return scale[:, None] * vectors * inverse[None, :]


def _whiten_principal(xx: jax.Array, noise: jax.Array | None, variance: float) -> jax.Array:
  """As `_whiten`, on the fewest principal directions that have the share `variance`."""
  values, vectors, real = spectrum(xx, noise)
  values = jnp.where(real, values, 0.0)
  # A direction is kept while those before it, the larger ones, fall short of the share.
  larger = jnp.cumsum(values[::-1])[::-1] - values
  kept = real & (larger < variance * jnp.sum(values))
  inverse = jnp.where(kept, lax.rsqrt(jnp.where(kept, values, 1.0)), 0.0)
  return vectors * inverse[None, :]


def _canonical(m: Wide, white_x: jax.Array, white_y: jax.Array) -> _Canonical:
  """Canonical directions by singular vectors, and the correlations along them."""
  white_x, white_y, xy = lax.stop_gradient((white_x, white_y, m.xy))
  u, _, vt = jnp.linalg.svd(_dot(white_x.T, _dot(xy, white_y)), full_matrices=False)
  a, b = _dot(white_x, lax.stop_gradient(u)), _dot(white_y, lax.stop_gradient(vt.T))
  xy = jnp.sum(a * _dot(m.xy, b), axis=0)
  xx = jnp.sum(a * _dot(m.xx, a), axis=0)
  yy = jnp.sum(b * _dot(m.yy, b), axis=0)
  ranks = [jnp.sum(jnp.any(white != 0, axis=0)) for white in (white_x, white_y)]
  exist = jnp.arange(xy.shape[0]) < jnp.minimum(*ranks)
  # A whitened direction has variance 1; where it has not it lies outside of what varies.
  inside = exist & (xx > 0.5) & (yy > 0.5)
  rho = safe_cosine(xy, jnp.where(inside, xx, 0.0), yy)
  return _Canonical(a, bounded(rho, 0.0, 1.0), exist)


def _all_directions(m: Wide) -> _Canonical:
  xx, yy = lax.stop_gradient((m.xx, m.yy))
  return _canonical(m, _whiten(xx, m.noise_x), _whiten(yy, m.noise_y))


def _mean(values: jax.Array, exist: jax.Array) -> jax.Array:
  return bounded(jnp.sum(values) / jnp.maximum(jnp.sum(exist), 1), 0.0, 1.0)


def cca_from_moments(m: Moments) -> jax.Array:
  """`cca` of the arrays that the moments are of."""

  def formula(m):
    canonical = _all_directions(m)
    return _mean(canonical.correlations, canonical.exist)

  return from_moments(formula, m)


def cca_squared_from_moments(m: Moments) -> jax.Array:
  """`cca_squared` of the arrays that the moments are of."""

  def formula(m):
    canonical = _all_directions(m)
    return _mean(canonical.correlations**2, canonical.exist)

  return from_moments(formula, m)


def svcca_from_moments(m: Moments, *, variance: float = 0.99) -> jax.Array:
  """`svcca` of the arrays that the moments are of."""
  if not 0 < variance <= 1:
    raise ValueError(f"variance={variance}: a share above 0 and up to 1 is needed.")

  def formula(m):
    white_x = _whiten_principal(m.xx, m.noise_x, variance)
    white_y = _whiten_principal(m.yy, m.noise_y, variance)
    canonical = _canonical(m, white_x, white_y)
    return _mean(canonical.correlations, canonical.exist)

  return from_moments(formula, m, differentiable=False)


def pwcca_from_moments(m: Moments) -> jax.Array:
  """`pwcca` of the arrays that the moments are of."""

  def formula(m):
    canonical = _all_directions(m)
    # <h_i, x_j> = a_i' xx e_j, with h_i = X a_i of unit norm.
    weights = jnp.sum(jnp.abs(_dot(canonical.directions.T, m.xx)), axis=1) * canonical.exist
    total = jnp.sum(weights)
    mean = jnp.sum(weights * canonical.correlations) / jnp.where(total > 0, total, 1.0)
    return bounded(mean, 0.0, 1.0)

  return from_moments(formula, m, differentiable=False)


def cca(z: jax.Array, z_hat: jax.Array, *, axis_name: AxisName = None) -> jax.Array:
  """Mean canonical correlation: `1/r sum_i rho_i`, `r = min(rank z, rank z_hat)`.

  Symmetric; unchanged by invertible affine maps of either side's channels. Hotelling 1936; Raghu et
  al. 2017; Kornblith et al. 2019, table 1. Differentiable: the gradient is that of the formula
  with the rank held fixed.

  Args:
    z: `[..., C]`, floating point.
    z_hat: `[..., D]` with the same leading axes, which are all samples.
    axis_name: as in `expvar`.

  Returns:
    float32 scalar in [0, 1]; 1 = the smaller of the two spaces is a linear function of the other. 0
    where one side has no variance. 1 for any data with n <= channels.

  Raises:
    ValueError: the leading axes differ or a dtype is not floating point.
  """
  return cca_from_moments(moments(z, z_hat, axis_name=axis_name))


def cca_squared(z: jax.Array, z_hat: jax.Array, *, axis_name: AxisName = None) -> jax.Array:
  """Mean squared canonical correlation, R^2_CCA: `1/r sum_i rho_i^2`.

  Kornblith et al. 2019, table 1, where r is the number of channels: the same without constant
  or repeated channels. Otherwise as `cca`.
  """
  return cca_squared_from_moments(moments(z, z_hat, axis_name=axis_name))


def svcca(
  z: jax.Array, z_hat: jax.Array, *, variance: float = 0.99, axis_name: AxisName = None
) -> jax.Array:
  """Mean canonical correlation of the principal directions of each side.

  Of each side the fewest principal directions are kept whose variance reaches the share `variance`;
  then as `cca`. Symmetric; unchanged by offsets, isotropic scales and orthogonal maps, not by
  general linear maps. Raghu et al. 2017.

  No penalty, and no gradient flows through it: the number of directions jumps.

  Args:
    z: `[..., C]`, floating point.
    z_hat: `[..., D]` with the same leading axes, which are all samples.
    variance: share of the variance in (0, 1].
    axis_name: as in `expvar`.

  Returns:
    float32 scalar in [0, 1], as in `cca`.

  Raises:
    ValueError: as in `cca`, or `variance` is outside of (0, 1].
  """
  return svcca_from_moments(moments(z, z_hat, axis_name=axis_name), variance=variance)


def pwcca(z: jax.Array, z_hat: jax.Array, *, axis_name: AxisName = None) -> jax.Array:
  """Projection-weighted CCA: `sum_i alpha_i rho_i / sum_i alpha_i`.

  `alpha_i = sum_j |<h_i, z_j>|`, h_i the i-th canonical variable of z (a vector over samples, of
  unit norm) and z_j its centred channels: a correlation counts by how much of z it accounts for.
  Not symmetric: the weights are the first argument's. Morcos et al. 2018, Kornblith et al. 2019,
  table 1.

  No penalty, and no gradient flows through it: that of the weights has terms in
  1/(rho_i^2 - rho_j^2), unbounded where correlations meet, and a game drives them together.

  Differs from the authors' code: the first argument's weights always (there, those of the side of
  fewer channels), and of centred channels.

  Args, returns and errors: as in `cca`.
  """
  return pwcca_from_moments(moments(z, z_hat, axis_name=axis_name))
