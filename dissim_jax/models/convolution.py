"""Convolutions as `nn.Conv` calls them, in the form that is fast on a CPU.

All are the same sums of products; on other devices XLA's own convolution runs. On a CPU

* the gradient of a kernel begins with a transposition of the convolution's input. XLA would compute
  that input again while it transposes: batch norms, and the sum of all residual branches before,
  read with a stride from memory, which took longer than the convolutions. So the input is fenced
  off: it is computed once, and the transposition reads the result.
* a 1x1 kernel is a product of matrices, which takes half to all of the time of the convolution. One
  that is larger than the image is a sum of such products, a tenth of the time: 2x2 is what pooling
  leaves of 8x8 and of 32x32 pixels in some networks.
* with few channels most of a processor's vector is idle. Neighbouring pixels of a row then become
  the channels of one wide pixel, and the kernel gets zeros where it does not reach.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Pixels are taken together up to so many channels, before and after. Measured for 1 to 32 channels
# on images of 8 to 32 pixels a side: up to half the time with 4, no gain from 16 on.
_CHANNELS, _FEATURES = 16, 32


def convolution(
  x: jax.Array,
  kernel: jax.Array,
  strides: Sequence[int],
  padding: Sequence[tuple[int, int]],
  *,
  lhs_dilation: Sequence[int] = (1, 1),
  rhs_dilation: Sequence[int] = (1, 1),
  feature_group_count: int = 1,
  precision: lax.PrecisionLike = None,
  **options,
) -> jax.Array:
  """`lax.conv_general_dilated`, for the field `conv_general_dilated` of `nn.Conv`.

  `x` `[B, H, W, C]`, `kernel` `[h, w, C, F]`; `options` are passed on.
  """
  if jax.default_backend() == "cpu":
    x = lax.optimization_barrier(x)
    if feature_group_count == 1 and {*lhs_dilation, *rhs_dilation} == {1}:
      small = any(n < m for n, m in zip(x.shape[1:3], kernel.shape[:2], strict=True))
      if small or kernel.shape[:2] == (1, 1):
        return _sum_of_products(x, kernel, strides, padding, precision)
      if tuple(strides) == (1, 1):
        return _wide_pixels(x, kernel, padding, precision=precision, **options)
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    padding,
    lhs_dilation=lhs_dilation,
    rhs_dilation=rhs_dilation,
    feature_group_count=feature_group_count,
    precision=precision,
    **options,
  )


def _sum_of_products(x, kernel, strides, padding, precision) -> jax.Array:
  """The convolution as a product of matrices for every place of the kernel."""
  height, width = (
    1 + (n + sum(pad) - size) // stride
    for n, pad, size, stride in zip(x.shape[1:3], padding, kernel.shape, strides, strict=False)
  )
  x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
  rows, columns = strides
  return sum(
    jnp.matmul(
      x[:, i : i + rows * (height - 1) + 1 : rows, j : j + columns * (width - 1) + 1 : columns],
      kernel[i, j],
      precision=precision,
    )
    for i in range(kernel.shape[0])
    for j in range(kernel.shape[1])
  )


def _pixels(width: int, channels: int, features: int) -> int:
  """How many pixels of a row are taken together: a power of two that divides the width."""
  pixels = 1
  while (
    width % (2 * pixels) == 0
    and 2 * pixels * channels <= _CHANNELS
    and 2 * pixels * features <= _FEATURES
  ):
    pixels *= 2
  return pixels


def _wide_pixels(x, kernel, padding, **options) -> jax.Array:
  """The convolution of stride one, on rows of wide pixels if there are few channels.

  Column q of a wide pixel sees column q + j - left through place j of the kernel, which is in the
  same wide pixel or in another one beside it.
  """
  (batch, height, width, channels), (size, places, _, features) = x.shape, kernel.shape
  top, (left, right) = padding
  pixels = _pixels(width, channels, features)
  if pixels == 1 or left + right != places - 1:
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, **options)
  seen = np.arange(pixels)[:, None] + np.arange(places) - left
  first, last = seen.min() // pixels, seen.max() // pixels
  columns = np.arange(first * pixels, (last + 1) * pixels)
  reaches = (columns[:, None, None] == seen).reshape(-1, pixels, *seen.shape)
  wide = jnp.einsum("opqj,hjcf->hopcqf", reaches.astype(kernel.dtype), kernel)
  y = lax.conv_general_dilated(
    x.reshape(batch, height, width // pixels, pixels * channels),
    wide.reshape(size, -1, pixels * channels, pixels * features),
    (1, 1),
    (top, (int(-first), int(last))),
    **options,
  )
  return y.reshape(batch, y.shape[1], width, features)
