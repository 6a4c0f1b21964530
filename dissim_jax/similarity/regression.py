"""Affine least squares between representations, and the biased linear CKA, from moments."""

import jax
import jax.numpy as jnp
from jax import lax

from dissim_jax.similarity.aligned import AxisName, safe_cosine
from dissim_jax.similarity.floats import bounded, float64
from dissim_jax.similarity.moment_sums import (
  HIGHEST,
  Moments,
  Wide,
  from_moments,
  moments,
  swap_moments,
  wide,
)
from dissim_jax.similarity.spectrum import correlation_spectrum


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.matmul(a, b, precision=HIGHEST)


def _pseudo_inverse(m: Moments | Wide, noise: jax.Array | None, ridge: float) -> jax.Array:
  """`pinv(xx + r I) xy`, directions of the source without variance left out."""
  added = ridge * jnp.mean(jnp.diagonal(m.xx))
  matrix = m.xx + added * jnp.eye(m.xx.shape[0])
  scale, values, vectors, kept = correlation_spectrum(matrix, noise)
  inverse = jnp.where(kept, 1.0 / jnp.where(kept, values, 1.0), 0.0)
  rotated = inverse[:, None] * _dot(vectors.T, scale[:, None] * m.xy)
  return scale[:, None] * _dot(vectors, rotated)


def _ridge_solution(xx: jax.Array, xy: jax.Array, ridge: float) -> jax.Array:
  """`(xx + r I)^-1 xy` by Cholesky factors."""
  channels = xx.shape[0]
  mean_variance = jnp.mean(jnp.diagonal(xx))
  # A source without any variance gets the identity: its weights are zero, not NaN.
  added = ridge * jnp.where(mean_variance > 0, mean_variance, 1.0)
  factor = jax.scipy.linalg.cho_factor(xx + added * jnp.eye(channels))
  return jax.scipy.linalg.cho_solve(factor, xy)


def _check_ridge(ridge: float, channels: int) -> bool:
  """Whether a ridge is one that float32 resolves beside so many channels."""
  if ridge < 0:
    raise ValueError(f"ridge={ridge}: zero or a positive number is needed.")
  return ridge > channels * float(jnp.finfo(jnp.float32).eps)


def solve_affine(m: Moments, ridge: float = 0.0) -> tuple[jax.Array, jax.Array]:
  """The affine least-squares map x -> y: minimises `sum_i |y_i - x_i W - b|^2 + r |W|_F^2`.

  `r = ridge * mean(diag(xx))`, so that `ridge` does not depend on the scale of x or on the number
  of samples. With a ridge the solution is by Cholesky factors, without one (or with one that
  float32 cannot resolve beside `Cx` channels) by the pseudo-inverse, which is right for a source of
  any rank. The solution carries no gradient: at the minimum it has none to add (envelope theorem).

  Args:
    m: moments of source x and target y.
    ridge: >= 0, a Python number.

  Returns:
    weights `[Cx, Cy]` and bias `[Cy]`, float32; y is approximated by `x @ weights + bias`.

  Raises:
    ValueError: `ridge` is negative.
  """
  m = lax.stop_gradient(m)
  if _check_ridge(ridge, m.xx.shape[0]):
    weights = _ridge_solution(m.xx, m.xy, ridge)
  elif m.exact is None:
    weights = _pseudo_inverse(m, None, ridge)
  else:
    with float64():
      precise = wide(m)
      weights = _pseudo_inverse(precise, precise.noise_x, ridge).astype(jnp.float32)
  return weights, m.mean_y - _dot(m.mean_x, weights)


def r2_from_moments(m: Moments, *, ridge: float = 0.0, weighting: str = "channel") -> jax.Array:
  """R^2 of the least-squares map x -> y of `solve_affine`, evaluated on the same samples.

  `1 - SSE_c / SST_c` with `SST_c = yy_cc`, `SSE_c = yy_cc - 2 w_c . xy_c + w_c' xx w_c`. The
  gradient holds the map fixed, which is exact for `ridge=0` and off by a term of the order of
  `ridge` otherwise.

  Args:
    m: moments of source x and target y.
    ridge: as in `solve_affine`.
    weighting: "channel": the mean of 1 - SSE_c/SST_c over the target channels that vary.
      "variance": 1 - sum_c SSE_c / sum_c SST_c, the R^2_LR of Kornblith et al. 2019.

  Returns:
    float32 scalar in [0, 1]; 1 = y is an affine map of x, 0 = x says nothing about y. 0 where no
    target channel varies, NaN where a sample was NaN or infinite.

  Raises:
    ValueError: an unknown `weighting` or a negative `ridge`.
  """
  resolved = _check_ridge(ridge, m.xx.shape[0])
  if weighting not in ("channel", "variance"):
    raise ValueError(f"weighting={weighting!r}: allowed are 'channel' and 'variance'.")

  def formula(m):
    fixed = lax.stop_gradient(m)
    if resolved:
      solved = _ridge_solution(fixed.xx, fixed.xy, ridge)
    else:
      solved = _pseudo_inverse(fixed, fixed.noise_x, ridge)
    sst = jnp.diagonal(m.yy)
    # SST - SSE rather than SSE: a source that explains nothing gives exactly 0.
    explained = jnp.sum(solved * (2.0 * m.xy - _dot(m.xx, solved)), axis=0)
    if weighting == "variance":
      explained, sst = jnp.sum(explained, keepdims=True), jnp.sum(sst, keepdims=True)
    varies = sst > 0
    r2 = jnp.where(varies, explained / jnp.where(varies, sst, 1.0), 0.0)
    return bounded(jnp.sum(r2) / jnp.maximum(jnp.sum(varies), 1), 0.0, 1.0)

  return from_moments(formula, m)


def r2_least_squares(
  z_source: jax.Array,
  z_target: jax.Array,
  *,
  weighting: str = "channel",
  axis_name: AxisName = None,
) -> jax.Array:
  """R^2 of the best affine map from source to target positions, without a ridge.

  Unchanged by invertible affine maps of the source and by scale and offset of target channels. The
  optimum that the learned projection of Wald et al. 2023 (Eq. 4, 6) strives for: `expvar` of the
  best approximation, but for the eps (no R^2_c is negative, so the CELU does nothing).

  Args:
    z_source: `[..., Cs]`, floating point; may be of deficient rank.
    z_target: `[..., Ct]` with the same leading axes, which are all samples.
    weighting: as in `r2_from_moments`.
    axis_name: as in `expvar`.

  Returns:
    float32 scalar in [0, 1]; 1 = linearly predictable. Fitted and evaluated on the same samples: it
    nears 1 for any data when there are no more samples than source channels. Within 1e-4 of float64
    for covariances of condition 1e7. NaN where a sample is NaN or infinite.

  Raises:
    ValueError: as in `moments` and `r2_from_moments`.
  """
  return r2_from_moments(moments(z_source, z_target, axis_name=axis_name), weighting=weighting)


def r2_reverse_from_moments(m: Moments, *, weighting: str = "channel") -> jax.Array:
  """R^2 of the least-squares map y -> x: `r2` of the arrays that the moments are of."""
  return r2_from_moments(swap_moments(m), weighting=weighting)


def r2(
  z: jax.Array, z_hat: jax.Array, *, weighting: str = "channel", axis_name: AxisName = None
) -> jax.Array:
  """How well the second representation predicts the first: `r2_least_squares(z_hat, z)`.

  In the order of a penalty: a member trained against it becomes unpredictable, by any affine map of
  its channels, from `z_hat`, which needs no projection. Not symmetric. Args, range and errors as in
  `r2_least_squares`; `z_hat` may have other channels than `z`.
  """
  return r2_least_squares(z_hat, z, weighting=weighting, axis_name=axis_name)


def lincka_from_moments(m: Moments) -> jax.Array:
  """Biased linear CKA with every position a sample: `||xy||_F^2 / (||xx||_F ||yy||_F)`.

  Kornblith et al. 2019; what `lincka(..., unbiased=False, samples="position")` gives for
  all samples at once. float32 scalar in [0, 1], 1 = identical up to an orthogonal map and a scale;
  0 where one side has no variance, NaN where a sample was NaN or infinite.
  """

  def formula(m):
    terms = (jnp.sum(product**2) for product in (m.xy, m.xx, m.yy))
    return bounded(safe_cosine(*terms), 0.0, 1.0)

  return from_moments(formula, m)
