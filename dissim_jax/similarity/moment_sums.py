"""Centred co-moments of two representations, which can be streamed.

`Moments` are all that least-squares maps in both directions, canonical correlations, Procrustes and
the biased linear CKA over positions need. They add up over batches and devices without loss.

Sums are in float64. The smallest directions of a representation matter as much as the largest to a
canonical correlation or a regression, and have a share of 1e-7 of the variance in networks that are
in use: less than what float32 loses in adding up. Nor do squares of activations at 1e15 fit in it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional

import jax
import jax.numpy as jnp
from jax import lax

from dissim_jax.similarity.aligned import (
  AxisName,
  center,
  check_same_samples,
  global_count,
  global_sum,
)
from dissim_jax.similarity.floats import float64, with_gradient_of
from dissim_jax.similarity.spectrum import rounding_noise

HIGHEST = lax.Precision.HIGHEST


class Moments(NamedTuple):
  """Count, means and centred co-moment sums of x `[..., Cx]` and y `[..., Cy]`, all float32.

  Attributes:
    count: number of samples, scalar.
    mean_x: `[Cx]`.
    mean_y: `[Cy]`.
    xx: `[Cx, Cx]`, `sum_i (x_i - mean_x)(x_i - mean_x)'`: a sum, not an average.
    xy: `[Cx, Cy]`.
    yy: `[Cy, Cy]`.
    exact: the same in float64, which similarities are computed from; None where only float32 is
      known. Its arrays are float64 also where `jax_enable_x64` is off: functions here take them,
      other computing with them needs `jax.enable_x64(True)` or NumPy.
  """

  count: jax.Array
  mean_x: jax.Array
  mean_y: jax.Array
  xx: jax.Array
  xy: jax.Array
  yy: jax.Array
  exact: Optional["Moments"] = None


class Wide(NamedTuple):
  """Moments in float64, whatever they were added up in.

  `noise_x`, `noise_y`: `rounding_noise` of the samples; None where float32 sums have larger errors.
  """

  count: jax.Array
  mean_x: jax.Array
  mean_y: jax.Array
  xx: jax.Array
  xy: jax.Array
  yy: jax.Array
  noise_x: jax.Array | None
  noise_y: jax.Array | None


def sample_block() -> int:
  """Samples that are taken to float64 at once: what caches of a CPU hold, else a large product."""
  return 1024 if jax.default_backend() == "cpu" else 65536


def exact_comoments(
  arrays: Sequence[jax.Array], pairs: Sequence[tuple[int, int]], axis_name: AxisName = None
) -> tuple[jax.Array, list[jax.Array], list[jax.Array]]:
  """Count, means `[C_i]` and centred products `[C_i, C_j]` of `[n, C_i]` arrays, in float64.

  By blocks of samples, so that no array is copied whole. No gradient flows through them.
  """
  arrays = [lax.stop_gradient(array) for array in arrays]
  # Deviations from the float32 mean are nearly centred: what is left is subtracted from the sums.
  near = [center(array, axis_name)[1] for array in arrays]
  total = arrays[0].shape[0]
  block = min(sample_block(), total)
  first = total % block or block
  with float64():
    near = [mean.astype(jnp.float64) for mean in near]

    def sums(blocks):
      parts = [z.astype(jnp.float64) - mean for z, mean in zip(blocks, near, strict=True)]
      products = [jnp.matmul(parts[i].T, parts[j], precision=HIGHEST) for i, j in pairs]
      return [jnp.sum(part, axis=0) for part in parts], products

    def add(partial_sums, start):
      blocks = [lax.dynamic_slice_in_dim(array, start, block) for array in arrays]
      return jax.tree.map(jnp.add, partial_sums, sums(blocks)), None

    partial_sums = sums([array[:first] for array in arrays])
    if first < total:
      partial_sums, _ = lax.scan(add, partial_sums, jnp.arange(first, total, block))
    rests, products = global_sum(partial_sums, axis_name)
    count = jnp.float64(global_count(total, axis_name))
    rests = [rest / count for rest in rests]
    products = [
      product - count * jnp.outer(rests[i], rests[j])
      for product, (i, j) in zip(products, pairs, strict=True)
    ]
    return count, [a + b for a, b in zip(near, rests, strict=True)], products


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _rounded(value: jax.Array, x: jax.Array, y: jax.Array, axis_name: AxisName) -> jax.Array:
  """`value`, which is the product x'y of centred `[n, C]` arrays, with the gradient of it."""
  del x, y, axis_name
  return value


@_rounded.defjvp
def _rounded_jvp(axis_name, primals, tangents):
  value, x, y = primals
  _, dx, dy = tangents
  slope = jnp.matmul(dx.T, y, precision=HIGHEST) + jnp.matmul(x.T, dy, precision=HIGHEST)
  return _rounded(value, x, y, axis_name), global_sum(slope, axis_name)


def moments(
  x: jax.Array, y: jax.Array, *, axis_name: AxisName = None, exact: bool = True
) -> Moments:
  """Moments of one batch; every leading axis is samples.

  Args:
    x: `[..., Cx]`, floating point.
    y: `[..., Cy]` with the same leading axes.
    axis_name: as in `expvar`: the moments are of the global batch, the same on every device.
    exact: sums in float64, which the float32 ones are then rounded from; otherwise these are summed
      in float32, which is enough for `solve_affine` with a ridge.

  Raises:
    ValueError: the leading axes differ or a dtype is not floating point.
  """
  check_same_samples(x=x, y=y)
  x, y = (z.reshape(-1, z.shape[-1]) for z in (x, y))
  (fine_x, mean_x), (fine_y, mean_y) = center(x, axis_name), center(y, axis_name)
  sides = (fine_x, fine_x), (fine_x, fine_y), (fine_y, fine_y)
  if not exact:
    products = tuple(jnp.matmul(a.T, b, precision=HIGHEST) for a, b in sides)
    count = jnp.float32(global_count(x.shape[0], axis_name))
    xx, xy, yy = global_sum(products, axis_name)
    return Moments(count, mean_x, mean_y, xx, xy, yy)
  count, means, products = exact_comoments((x, y), ((0, 0), (0, 1), (1, 1)), axis_name)
  (exact_x, exact_y), (xx, xy, yy) = means, products
  precise = Moments(count, exact_x, exact_y, xx, xy, yy)
  with float64():
    count, *products = (value.astype(jnp.float32) for value in (count, *products))
  xx, xy, yy = (_rounded(p, a, b, axis_name) for p, (a, b) in zip(products, sides, strict=True))
  return Moments(count, mean_x, mean_y, xx, xy, yy, precise)


def empty_moments(channels_x: int, channels_y: int) -> Moments:
  """Moments of no samples: the neutral element of `merge_moments`, to start a stream with."""

  def zeros(dtype):
    shapes = (), (channels_x,), (channels_y,), (channels_x, channels_x)
    shapes = (*shapes, (channels_x, channels_y), (channels_y, channels_y))
    count, mean_x, mean_y, xx, xy, yy = (jnp.zeros(shape, dtype) for shape in shapes)
    return Moments(count, mean_x, mean_y, xx, xy, yy)

  with float64():
    return zeros(jnp.float32)._replace(exact=zeros(jnp.float64))


def map_moments(function: Callable[..., Moments], *all_moments: Moments) -> Moments:
  """A function of moments, of the float32 ones and of the exact ones if all have them."""
  precise = [m.exact for m in all_moments if m.exact is not None]
  exact = map_moments(function, *precise) if len(precise) == len(all_moments) else None
  with float64():
    return function(*all_moments)._replace(exact=exact)


def _merge(a: Moments, b: Moments) -> Moments:
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


def merge_moments(a: Moments, b: Moments) -> Moments:
  """Moments of the union of two disjoint sets of samples (Chan, Golub & LeVeque 1983).

  Exact also where means and scales of the sets differ; either count may be 0.
  """
  return map_moments(_merge, a, b)


def swap_moments(m: Moments) -> Moments:
  """The moments with x and y exchanged: turns x -> y regression into y -> x."""
  return map_moments(lambda m: Moments(m.count, m.mean_y, m.mean_x, m.yy, m.xy.T, m.xx), m)


def wide(m: Moments) -> Wide:
  """The moments in float64, without a gradient; to be called in `float64()`."""
  source = m if m.exact is None else m.exact
  values = [lax.stop_gradient(jnp.asarray(value)) for value in source[:6]]
  summed = values[3].dtype == jnp.float64
  count, mean_x, mean_y, xx, xy, yy = (value.astype(jnp.float64) for value in values)
  noise = [
    rounding_noise(jnp.diagonal(product), mean, count) if summed else None
    for product, mean in ((xx, mean_x), (yy, mean_y))
  ]
  return Wide(count, mean_x, mean_y, xx, xy, yy, *noise)


def from_moments(
  formula: Callable[[Wide], jax.Array], m: Moments, *, differentiable: bool = True
) -> jax.Array:
  """A float32 number that a formula makes of moments in float64; NaN where these are not finite.

  The gradient is that of the formula with respect to xx, xy and yy, on to what the float32 ones
  were made of; what the formula holds fixed (`stop_gradient`) is. None if not `differentiable`.
  """
  with float64():
    wide_moments = wide(m)
    finite = jnp.all(jnp.isfinite(jnp.diagonal(wide_moments.xx)))
    finite &= jnp.all(jnp.isfinite(jnp.diagonal(wide_moments.yy)))
    # Decompositions of NaN may not end.
    products = [
      jnp.where(finite, product, 0.0)
      for product in (wide_moments.xx, wide_moments.xy, wide_moments.yy)
    ]

    def value_of(products):
      xx, xy, yy = products
      return formula(wide_moments._replace(xx=xx, xy=xy, yy=yy))

    slope_of = jax.value_and_grad(value_of)
    value, slopes = slope_of(products) if differentiable else (value_of(products), None)
    value = jnp.where(finite, value, jnp.nan).astype(jnp.float32)
    if slopes is None:
      return value
    plain = [product.astype(jnp.float32) for product in (m.xx, m.xy, m.yy)]
    slopes = [slope.astype(jnp.float32) for slope in slopes]
    surrogate = sum(jnp.vdot(s, p) for s, p in zip(slopes, plain, strict=True))
  return with_gradient_of(value, surrogate)
