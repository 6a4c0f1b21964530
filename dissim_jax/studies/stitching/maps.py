"""Stitching two networks: F = classify_target(S(represent_source(x))), S a 1x1 convolution.

Csiszárik et al. 2021, *Similarity and Matching of Neural Network Representations*. Here are the
maps S that follow from the representations alone (their section 4.2), all from the moments of one
pass over the images, and what is measured of a map. Maps that are trained on the task are in
`training`, passes over images in `passes`.

Maps have a bias (affine). The paper's linear ones are those of moments taken about the origin:
`least_squares(about_origin(m))`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dissim_jax.similarity import Moments, lincka_from_moments, solve_affine
from dissim_jax.similarity.floats import bounded
from dissim_jax.similarity.moment_sums import from_moments, map_moments

_HIGHEST = lax.Precision.HIGHEST
ZERO_BELOW = 1e-4  # Entries of a stitch that count as zero (section 8 of the paper).


class Stitch(NamedTuple):
  """An affine map of channels: `kernel` float32 `[C_source, C_target]`, `bias` `[C_target]`."""

  kernel: jax.Array
  bias: jax.Array


def apply_stitch(stitch: Stitch, z: jax.Array) -> jax.Array:
  """S(z) at every position, `[..., C_source]` -> float32 `[..., C_target]`."""
  return jnp.matmul(z.astype(jnp.float32), stitch.kernel, precision=_HIGHEST) + stitch.bias


# --- Direct matching: maps from the moments of source x and target y (section 4.2) --------------


def about_origin(m: Moments) -> Moments:
  """Moments without centring, `xx = sum_i x_i x_i'`: maps made of them have no bias."""

  def moved(m):
    zeros, n = jnp.zeros_like, m.count
    return Moments(
      n,
      zeros(m.mean_x),
      zeros(m.mean_y),
      m.xx + n * jnp.outer(m.mean_x, m.mean_x),
      m.xy + n * jnp.outer(m.mean_x, m.mean_y),
      m.yy + n * jnp.outer(m.mean_y, m.mean_y),
    )

  return map_moments(moved, m)


def _with_bias(m: Moments, kernel: jax.Array) -> Stitch:
  """The best bias for a kernel: means are mapped to means."""
  return Stitch(kernel, m.mean_y - jnp.matmul(m.mean_x, kernel, precision=_HIGHEST))


def least_squares(m: Moments, ridge: float = 0.0) -> Stitch:
  """The minimiser of `||X W + b - Y||_F^2` (Eq. 1 and 2): the pseudo-inverse of X times Y.

  `ridge` as in `similarity.solve_affine`.
  """
  return Stitch(*solve_affine(m, ridge))


def orthogonal(m: Moments) -> Stitch:
  """The best orthogonal map (Procrustes): `W = U V'` with `X'Y = U S V'`.

  Where the numbers of channels differ, W has orthonormal rows or columns, whichever are fewer.
  """
  u, _, vt = jnp.linalg.svd(m.xy, full_matrices=False)
  return _with_bias(m, jnp.matmul(u, vt, precision=_HIGHEST))


def reduced_rank(m: Moments, rank: int) -> Stitch:
  """The best map of rank at most k: `W_LS V_k V_k'`, V of the SVD of `X W_LS` (Izenman 1975).

  The right singular vectors are the eigenvectors of `W' X'X W`.

  Raises:
    ValueError: `rank` is not between 1 and the smaller number of channels.
  """
  most = min(m.xy.shape)
  if not 1 <= rank <= most:
    raise ValueError(f"rank={rank}: must be in 1..{most}, the smaller number of channels")
  kernel = least_squares(m).kernel
  fitted = functools.partial(jnp.matmul, precision=_HIGHEST)
  _, vectors = jnp.linalg.eigh(fitted(fitted(kernel.T, m.xx), kernel))
  top = vectors[:, -rank:]
  return _with_bias(m, fitted(fitted(kernel, top), top.T))


def sparse(m: Moments, alpha: float | jax.Array, steps: int = 2000) -> Stitch:
  """L1-regularised least squares: minimises `||X W + b - Y||_F^2 / (2 n) + alpha sum |W_ij|`.

  Accelerated proximal gradient steps (Beck & Teboulle 2009) of length 1 / lambda_max(X'X / n),
  from zero, restarted where the momentum points uphill. With enough steps it is scikit-learn's
  `Lasso`.

  Differs from the paper: Eq. 3 has the norm itself where this has its square over 2 n, as in the
  work it cites (Li et al. 2016). The solutions are the same for another `alpha`.

  Args:
    m: moments of source and target.
    alpha: strength, >= 0; it may be traced, so that one program serves a whole path.
    steps: number of proximal steps.
  """
  n = jnp.maximum(m.count, 1.0)
  xx, xy = m.xx / n, m.xy / n
  largest = jnp.linalg.eigvalsh(xx)[-1]
  length = jnp.where(largest > 0, 1.0 / jnp.where(largest > 0, largest, 1.0), 0.0)

  def step(_, carry):
    kernel, ahead, momentum = carry
    gradient = jnp.matmul(xx, ahead, precision=_HIGHEST) - xy
    moved = ahead - length * gradient
    new = jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - length * alpha, 0.0)
    uphill = jnp.sum((ahead - new) * (new - kernel)) > 0
    momentum = jnp.where(uphill, 1.0, momentum)
    grown = (1.0 + jnp.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
    ahead = new + jnp.where(uphill, 0.0, (momentum - 1.0) / grown) * (new - kernel)
    return new, ahead, grown

  zero = jnp.zeros_like(xy)
  kernel, _, _ = lax.fori_loop(0, steps, step, (zero, zero, jnp.ones(())))
  return _with_bias(m, kernel)


def largest_alpha(m: Moments) -> jax.Array:
  """The smallest `alpha` of `sparse` for which the kernel is zero: `max |X'Y| / n`."""
  return jnp.max(jnp.abs(m.xy)) / jnp.maximum(m.count, 1.0)


def identity(m: Moments) -> Stitch:
  """No transformation; where the numbers of channels differ, the first ones are passed on."""
  channels = m.xy.shape
  return Stitch(jnp.eye(*channels), jnp.zeros(channels[1]))


# --- What is measured of a map -------------------------------------------------------------------


def sparsity(stitch: Stitch) -> jax.Array:
  """Share of the kernel's entries below 1e-4 in absolute value, 0 to 1."""
  return jnp.mean(jnp.abs(stitch.kernel) < ZERO_BELOW)


def cut(stitch: Stitch) -> Stitch:
  """The stitch with exact zeros where entries of the kernel are below 1e-4 in absolute value."""
  small = jnp.abs(stitch.kernel) < ZERO_BELOW
  return stitch._replace(kernel=jnp.where(small, 0.0, stitch.kernel))


def stitched_moments(m: Moments, stitch: Stitch) -> Moments:
  """The moments of S(x) and y, from those of x and y: no second pass over the images."""
  dot = functools.partial(jnp.matmul, precision=_HIGHEST)

  def stitched(m):
    kernel, bias = (part.astype(m.xx.dtype) for part in stitch)
    return Moments(
      m.count,
      dot(m.mean_x, kernel) + bias,
      m.mean_y,
      dot(dot(kernel.T, m.xx), kernel),
      dot(kernel.T, m.xy),
      m.yy,
    )

  return map_moments(stitched, m)


def fixed_r2(m: Moments) -> jax.Array:
  """`1 - ||X - Y||_F^2 / ||Y - mean Y||_F^2` of moments of x and y, which must correspond.

  For stitched moments this is the R^2 of the map as it is (Csiszárik et al. 2021, Definition 6.1,
  with a centred denominator): 1 = exact, at most that of the least-squares map, negative where the
  mean of y would be nearer.
  """

  def formula(m):
    offset = m.count * jnp.sum((m.mean_x - m.mean_y) ** 2)
    error = jnp.trace(m.xx) - 2.0 * jnp.trace(m.xy) + jnp.trace(m.yy) + offset
    total = jnp.trace(m.yy)
    r2 = jnp.where(total > 0, 1.0 - error / jnp.where(total > 0, total, 1.0), 0.0)
    return bounded(r2, -jnp.inf, 1.0)

  return from_moments(formula, m)


def seam_indices(m: Moments, stitch: Stitch) -> dict[str, jax.Array]:
  """How near S(x) is to y: `lincka` (positions as samples) and `r2`, from moments of x and y."""
  at_seam = stitched_moments(m, stitch)
  return {"lincka": lincka_from_moments(at_seam), "r2": fixed_r2(at_seam)}
