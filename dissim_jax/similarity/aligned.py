"""Similarity of representations whose channels correspond, and the statistics all measures share.

Explained variance and channel-wise correlation compare channel c of one array with channel c of the
other, so one of the two must first be mapped onto the other's channels by a projection.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from dissim_jax.similarity.floats import bounded, unit_scale

AxisName = str | tuple[str, ...] | None


def global_sum(values, axis_name: AxisName):
  """Sum of a pytree over the devices of `axis_name`; the pytree itself where there is no axis."""
  return values if axis_name is None else lax.psum(values, axis_name)


def global_count(local_count: int, axis_name: AxisName) -> int:
  """Number of samples in the global batch, a Python int known at trace time."""
  return local_count if axis_name is None else local_count * lax.axis_size(axis_name)


def check_floating(**arrays) -> None:
  """Raises a ValueError that names the argument unless every array is a floating [..., C]."""
  for name, array in arrays.items():
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(f"{name} has dtype {array.dtype}: a floating-point dtype is needed.")
    if array.ndim < 2 or 0 in array.shape:
      raise ValueError(f"{name} has shape {array.shape}: a non-empty [..., C] is needed.")


def check_same_samples(**arrays) -> None:
  """Raises a ValueError unless the arrays are floating [..., C] of the same leading axes."""
  check_floating(**arrays)
  shapes = {name: array.shape for name, array in arrays.items()}
  if len({shape[:-1] for shape in shapes.values()}) > 1:
    raise ValueError(f"Shapes {shapes}: all axes but the last must be equal.")


def center(z: jax.Array, axis_name: AxisName = None) -> tuple[jax.Array, jax.Array]:
  """Subtracts the mean over all axes but the last: `[..., C]` -> (centred `[..., C]`, mean `[C]`).

  Works in float32 whatever the dtype of `z`. One sample is subtracted before the mean is taken:
  that makes a constant channel exactly zero (its float32 mean need not be the constant, and a
  correlation would then be taken of rounding errors), and keeps the digits of a channel whose
  mean is far larger than its deviation.
  """
  z = z.astype(jnp.float32)
  sample_axes = tuple(range(z.ndim - 1))
  anchor = lax.stop_gradient(z[(0,) * (z.ndim - 1)])
  if axis_name is not None:
    # Any one sample would do as long as all devices take the same; pmax chooses without rounding.
    anchor = lax.pmax(anchor, axis_name)
  shifted = z - anchor
  count = global_count(z.size // z.shape[-1], axis_name)
  mean = global_sum(jnp.sum(shifted, axis=sample_axes), axis_name) / count
  return shifted - mean, anchor + mean


def unit_size(z: jax.Array, axis_name: AxisName = None, *, per_channel: bool = False) -> jax.Array:
  """`[..., C]` in float32, times the power of two that makes its largest entry about 1.

  Then no sum of squares leaves the range of float32. `per_channel`: of every channel by itself.
  """
  axes = tuple(range(z.ndim - 1)) if per_channel else None
  largest = jnp.max(jnp.abs(lax.stop_gradient(z)), axis=axes)
  if axis_name is not None:
    largest = lax.pmax(largest, axis_name)
  return z.astype(jnp.float32) * unit_scale(largest)


def safe_cosine(xy: jax.Array, xx: jax.Array, yy: jax.Array) -> jax.Array:
  """`xy / (sqrt(xx) sqrt(yy))`; NaN where a self term is not finite.

  0 with a gradient of 0 where one is not positive (and both are finite).
  """
  finite = jnp.isfinite(xx) & jnp.isfinite(yy)
  usable = finite & (xx > 0) & (yy > 0)
  # The root must not see the zero even in the branch not taken: its gradient would be 0 * inf.
  scale = jnp.sqrt(jnp.where(usable, xx, 1.0)) * jnp.sqrt(jnp.where(usable, yy, 1.0))
  return jnp.where(usable, xy / scale, jnp.where(finite, 0.0, jnp.nan))


def _check_aligned(z: jax.Array, z_hat: jax.Array) -> None:
  check_floating(z=z, z_hat=z_hat)
  if z.shape != z_hat.shape:
    raise ValueError(f"z has shape {z.shape} and z_hat {z_hat.shape}: they must be equal.")


def expvar(
  z: jax.Array,
  z_hat: jax.Array,
  *,
  alpha: float = 1.0,
  eps: float = 1e-4,
  axis_name: AxisName = None,
) -> jax.Array:
  """Bounded explained variance of a representation by its approximation.

  `mean_c CELU_alpha(1 - SSE_c / (SST_c + eps))`, with `SSE_c = sum_i (z_ic - z_hat_ic)^2` and
  `SST_c = sum_i (z_ic - mean_i z_ic)^2`; i runs over all axes but the last (batch and space).
  Not symmetric: the scale and offset of `z_hat` matter, and because of `eps` the scale of both.

  Wald et al. 2023, "Exploring new ways", Eq. 8-10.

  Differs from the paper: `eps` in the denominator, as in the authors' code. It is added to the sum,
  not to a mean, and keeps a channel of no variance finite.

  Args:
    z: the target `[..., C]`, floating point.
    z_hat: its approximation, `[..., C]` of the same shape.
    alpha: the CELU's alpha, > 0; the result is at least -alpha.
    eps: added to SST_c.
    axis_name: named axis (or axes) over which the leading axes are sharded; the sums are then of
      the global batch and the result is the same on every device.

  Returns:
    float32 scalar in [-alpha, 1]; 1 = perfectly approximated, 0 = no better than the mean. NaN
    where an array holds NaN or infinity.

  Raises:
    ValueError: the shapes differ or a dtype is not floating point.
  """
  _check_aligned(z, z_hat)
  sample_axes = tuple(range(z.ndim - 1))
  centered, _ = center(z, axis_name)
  residual = z.astype(jnp.float32) - z_hat.astype(jnp.float32)
  sums = tuple(jnp.sum(a, axis=sample_axes) for a in (residual**2, centered**2, residual))
  sse, sst, sum_of_residuals = global_sum(sums, axis_name)
  # An infinite residual would otherwise be one that is merely large: CELU(-inf) = -alpha.
  sse = jnp.where(jnp.isfinite(sum_of_residuals), sse, jnp.nan)
  return bounded(jnp.mean(jax.nn.celu(1.0 - sse / (sst + eps), alpha)), -alpha, 1.0)


def channel_correlation(z: jax.Array, z_hat: jax.Array, *, axis_name: AxisName = None) -> jax.Array:
  """Pearson correlation of each channel (Wald et al. 2023, Eq. 7): two `[..., C]` -> float32 `[C]`.

  In [-1, 1]; where either channel has no variance it is 0, with a gradient of 0; NaN where either
  holds NaN or infinity. Arguments and errors as in `l2corr`.
  """
  _check_aligned(z, z_hat)
  sample_axes = tuple(range(z.ndim - 1))
  a, b = (unit_size(center(side, axis_name)[0], axis_name, per_channel=True) for side in (z, z_hat))
  ab, aa, bb = global_sum(
    tuple(jnp.sum(product, axis=sample_axes) for product in (a * b, a * a, b * b)), axis_name
  )
  return bounded(safe_cosine(ab, aa, bb), -1.0, 1.0)


def l2corr(z: jax.Array, z_hat: jax.Array, *, axis_name: AxisName = None) -> jax.Array:
  """Mean channel-wise correlation: `mean_c CELU(r_c)`, r_c the Pearson correlation of channel c.

  Symmetric, and unchanged by a positive scale or an offset of any channel. Wald et al. 2023,
  Eq. 7 and 11. The authors' code computes `l2corr_squared` instead.

  Args:
    z: `[..., C]`, floating point.
    z_hat: `[..., C]` of the same shape.
    axis_name: as in `expvar`.

  Returns:
    float32 scalar in [1/e - 1, 1]; 1 = identical up to scale and offset, 0 = uncorrelated. A
    channel without variance in either array counts as 0. NaN where one holds NaN or infinity.

  Raises:
    ValueError: the shapes differ or a dtype is not floating point.
  """
  correlations = channel_correlation(z, z_hat, axis_name=axis_name)
  return bounded(jnp.mean(jax.nn.celu(correlations)), math.expm1(-1.0), 1.0)


def l2corr_squared(z: jax.Array, z_hat: jax.Array, *, axis_name: AxisName = None) -> jax.Array:
  """Mean squared channel-wise correlation: `mean_c r_c^2`.

  What the authors' code of Wald et al. 2023 trains with. Blind to the sign of the correlation,
  hence bounded below at 0.

  Differs from the paper: r_c^2 where Eq. 11 has CELU(r_c), which is `l2corr`.

  Args, errors: as in `l2corr`.

  Returns:
    float32 scalar in [0, 1]; 1 = identical up to scale, sign and offset, 0 = uncorrelated.
  """
  correlations = channel_correlation(z, z_hat, axis_name=axis_name)
  return bounded(jnp.mean(correlations**2), 0.0, 1.0)
