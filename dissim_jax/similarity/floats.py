"""What keeps similarities right in floating point: float64 in float32 programs, scales, bounds."""

import jax
import jax.numpy as jnp
from jax import lax


def float64():
  """A context in which JAX computes in float64, also inside a program that is in float32.

  For values without a gradient only: what differentiation adds is traced after it has been left.
  Arrays of float64 that leave it stay what they are as long as they are only passed on.
  """
  return jax.enable_x64(True)


@jax.custom_jvp
def with_gradient_of(value: jax.Array, surrogate: jax.Array) -> jax.Array:
  """`value` with the derivatives of `surrogate`, of the same shape and dtype."""
  del surrogate
  return value


@with_gradient_of.defjvp
def _surrogate_jvp(primals, tangents):
  return with_gradient_of(*primals), tangents[1]


def bounded(value: jax.Array, low: float, high: float) -> jax.Array:
  """The value, rounding errors beyond its bounds cut off; NaN stays NaN.

  The gradient is that of the value also where it is cut: a penalty that starts at exactly 1, where
  rounding decides on which side, must not be stuck there.
  """
  return with_gradient_of(jnp.clip(lax.stop_gradient(value), low, high), value)


def unit_scale(largest: jax.Array) -> jax.Array:
  """The power of two that brings numbers of this magnitude into [0.5, 1): multiplying is exact.

  1 for what is 0, NaN or infinite. float32, without a gradient.
  """
  largest = lax.stop_gradient(largest).astype(jnp.float32)
  usable = (largest > 0) & jnp.isfinite(largest)
  _, exponent = jnp.frexp(jnp.where(usable, largest, 0.5))
  return jnp.ldexp(jnp.float32(1), -jnp.clip(exponent, -126, 126))
