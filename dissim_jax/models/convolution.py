"""Convolutions as `nn.Conv` calls them, fast on a CPU as well.

On a CPU the gradient of a kernel begins with a transposition of the convolution's input. XLA would
compute that input again while it transposes: batch norms, and the sum of all residual branches
before, read with a stride from memory, which took longer than the convolutions. So the input is
fenced off: it is computed once, and the transposition reads the result. Elsewhere nothing changes.
"""

import jax
from jax import lax


def convolution(x: jax.Array, kernel: jax.Array, *args, **kwargs) -> jax.Array:
  """`lax.conv_general_dilated`, for the field `conv_general_dilated` of `nn.Conv`."""
  if jax.default_backend() == "cpu":
    x = lax.optimization_barrier(x)
  return lax.conv_general_dilated(x, kernel, *args, **kwargs)
