"""Affine least squares between representations, from centred co-moments that can be streamed.

`Moments` of two representations are all that least-squares maps in both directions, their R^2 and
the biased linear CKA over positions need. They add up over batches and devices without loss.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dissim_jax.similarity.aligned import (
  AxisName,
  center,
  check_same_samples,
  global_count,
  global_sum,
  safe_cosine,
)
from dissim_jax.similarity.spectrum import correlation_spectrum

_HIGHEST = lax.Precision.HIGHEST


class Moments(NamedTuple):
  """Count, means and centred co-moment sums of x `[..., Cx]` and y `[..., Cy]`, all float32.

  Attributes:
    count: number of samples, scalar.
    mean_x: `[Cx]`.
    mean_y: `[Cy]`.
    xx: `[Cx, Cx]`, `sum_i (x_i - mean_x)(x_i - mean_x)'`: a sum, not an average.
    xy: `[Cx, Cy]`.
    yy: `[Cy, Cy]`.
  """

  count: jax.Array
  mean_x: jax.Array
  mean_y: jax.Array
  xx: jax.Array
  xy: jax.Array
  yy: jax.Array


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.matmul(a, b, precision=_HIGHEST)


def moments(x: jax.Array, y: jax.Array, *, axis_name: AxisName = None) -> Moments:
  """Moments of one batch; every leading axis is samples.

  Args:
    x: `[..., Cx]`, floating point.
    y: `[..., Cy]` with the same leading axes.
    axis_name: as in `expvar`: the moments are of the global batch, the same on every device.

  Raises:
    ValueError: the leading axes differ or a dtype is not floating point.
  """
  check_same_samples(x=x, y=y)
  (x, mean_x), (y, mean_y) = center(x, axis_name), center(y, axis_name)
  x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
  products = global_sum((_dot(x.T, x), _dot(x.T, y), _dot(y.T, y)), axis_name)
  count = jnp.float32(global_count(x.shape[0], axis_name))
  return Moments(count, mean_x, mean_y, *products)


def empty_moments(channels_x: int, channels_y: int) -> Moments:
  """Moments of no samples: the neutral element of `merge_moments`, to start a stream with."""
  zeros = jnp.zeros
  return Moments(
    count=zeros(()),
    mean_x=zeros((channels_x,)),
    mean_y=zeros((channels_y,)),
    xx=zeros((channels_x, channels_x)),
    xy=zeros((channels_x, channels_y)),
    yy=zeros((channels_y, channels_y)),
  )


def merge_moments(a: Moments, b: Moments) -> Moments:
  """Moments of the union of two disjoint sets of samples (Chan, Golub & LeVeque 1983).

  Exact up to the float32 rounding of the means, also where these differ; either count may be 0.
  """
  count = a.count + b.count
  share = b.count / jnp.maximum(count, 1.0)
  delta_x, delta_y = b.mean_x - a.mean_x, b.mean_y - a.mean_y
  weight = a.count * share
  return Moments(
    count=count,
    mean_x=a.mean_x + share * delta_x,
    mean_y=a.mean_y + share * delta_y,
    xx=a.xx + b.xx + weight * jnp.outer(delta_x, delta_x),
    xy=a.xy + b.xy + weight * jnp.outer(delta_x, delta_y),
    yy=a.yy + b.yy + weight * jnp.outer(delta_y, delta_y),
  )


def swap_moments(m: Moments) -> Moments:
  """The moments with x and y exchanged: turns x -> y regression into y -> x."""
  return Moments(m.count, m.mean_y, m.mean_x, m.yy, m.xy.T, m.xx)


def _solve_pseudo_inverse(xx: jax.Array, xy: jax.Array, added: jax.Array) -> jax.Array:
  """`pinv(xx + added I) xy`, directions of the source without variance left out."""
  matrix = xx + added * jnp.eye(xx.shape[0])
  scale, values, vectors, kept = correlation_spectrum(matrix)
  inverse = jnp.where(kept, 1.0 / jnp.where(kept, values, 1.0), 0.0)
  rotated = inverse[:, None] * _dot(vectors.T, scale[:, None] * xy)
  return scale[:, None] * _dot(vectors, rotated)


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
  if ridge < 0:
    raise ValueError(f"ridge={ridge}: zero or a positive number is needed.")
  m = lax.stop_gradient(m)
  channels = m.xx.shape[0]
  mean_variance = jnp.mean(jnp.diagonal(m.xx))
  if ridge > channels * float(jnp.finfo(jnp.float32).eps):
    # A source without any variance gets the identity: its weights are zero, not NaN.
    added = ridge * jnp.where(mean_variance > 0, mean_variance, 1.0)
    factor = jax.scipy.linalg.cho_factor(m.xx + added * jnp.eye(channels))
    weights = jax.scipy.linalg.cho_solve(factor, m.xy)
  else:
    weights = _solve_pseudo_inverse(m.xx, m.xy, ridge * mean_variance)
  return weights, m.mean_y - _dot(m.mean_x, weights)


def r2_from_moments(
  m: Moments, *, ridge: float = 0.0, weighting: str = "channel"
) -> jax.Array:
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
    float32 scalar in [0, 1] up to rounding; 1 = y is an affine map of x, 0 = x says nothing about
    y. 0 where no target channel varies.

  Raises:
    ValueError: an unknown `weighting` or a negative `ridge`.
  """
  weights, _ = solve_affine(m, ridge)
  sst = jnp.diagonal(m.yy)
  # SST - SSE rather than SSE: a source that explains nothing gives exactly 0.
  explained = jnp.sum(weights * (2.0 * m.xy - _dot(m.xx, weights)), axis=0)
  if weighting == "variance":
    explained, sst = jnp.sum(explained, keepdims=True), jnp.sum(sst, keepdims=True)
  elif weighting != "channel":
    raise ValueError(f"weighting={weighting!r}: allowed are 'channel' and 'variance'.")
  varies = sst > 0
  r2 = jnp.where(varies, explained / jnp.where(varies, sst, 1.0), 0.0)
  return jnp.sum(r2) / jnp.maximum(jnp.sum(varies), 1)


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
    float32 scalar in [0, 1] up to rounding; 1 = linearly predictable. Fitted and evaluated on the
    same samples: it nears 1 for any data when there are no more samples than source channels.

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
  0 where one side has no variance.
  """
  return safe_cosine(jnp.sum(m.xy**2), jnp.sum(m.xx**2), jnp.sum(m.yy**2))
