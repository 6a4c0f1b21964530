"""Group and depth-wise convolutions that are fast on a CPU as well.

XLA's own are 5 to 80 times slower there than what stands in for them: the depth-wise one above all
in the forward pass, the others in the gradient of the kernel. On other devices XLA's own run.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

_LAYOUT = ("NHWC", "HWIO", "NHWC")
# Up to so many places of the grid a depth-wise convolution is a matrix product a feature: its
# gradient takes a tenth to a fifth of the time of the shifts at 7x7, at 3x3 about as long. The
# matrix grows with the square of the places.
_MATRIX_PLACES = 64


class GroupedConv(nn.Module):
  """A convolution in groups of features that do not see each other, "same" padding (size // 2).

  Parameters as those of `nn.Conv`: `kernel` `[size, size, C / groups, features]`, and `bias`.

  Attributes:
    features: a multiple of `groups`.
    groups: as many as the input has features: a depth-wise convolution.
    size: pixels a side of the kernel, odd.
    stride: of both axes.
    use_bias: whether there is a bias.
    dtype: of the output.
    kernel_init: of the kernel; None: variance 2 / fan-out, where an input feeds its group only.
  """

  features: int
  groups: int
  size: int
  stride: int = 1
  use_bias: bool = False
  dtype: Any = jnp.float32
  kernel_init: nn.initializers.Initializer | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/stride, W/stride, features]`; ValueError if not in groups."""
    channels = x.shape[-1]
    if channels % self.groups or self.features % self.groups:
      raise ValueError(
        f"groups={self.groups}: {channels} features to {self.features}, "
        "only a number that divides both is allowed"
      )
    init = self.kernel_init or nn.initializers.variance_scaling(
      2.0 * self.groups, "fan_out", "normal"
    )
    shape = (self.size, self.size, channels // self.groups, self.features)
    kernel = self.param("kernel", init, shape)
    y = grouped_convolution(
      x.astype(self.dtype), kernel.astype(self.dtype), self.groups, self.stride
    )
    if self.use_bias:
      y += self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
    return y


def grouped_convolution(x: jax.Array, kernel: jax.Array, groups: int, stride: int) -> jax.Array:
  """`[B, H, W, C]` and `[size, size, C / groups, F]` -> `[B, ceil(H/stride), ceil(W/stride), F]`.

  Feature f of the output sees the inputs of group f // (F / groups) alone; odd `size`, zeros
  beyond the border.
  """
  if jax.default_backend() != "cpu":
    return convolution(x, kernel, groups, stride)
  if kernel.shape[2] == 1 and kernel.shape[3] == groups:
    if stride == 1 and x.shape[1] * x.shape[2] <= _MATRIX_PLACES:
      return depthwise_by_matrix(x, kernel)
    return depthwise_by_shifts(x, kernel, stride)
  return convolution(x, block_diagonal(kernel, groups), 1, stride)


def convolution(x: jax.Array, kernel: jax.Array, groups: int, stride: int) -> jax.Array:
  """`grouped_convolution` by XLA."""
  pad = kernel.shape[0] // 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(pad, pad)] * 2,
    dimension_numbers=_LAYOUT,
    feature_group_count=groups,
  )


def depthwise_by_shifts(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """The depth-wise convolution as a sum over the kernel's places of shifted, weighted images."""
  size = kernel.shape[0]
  pad = size // 2
  height, width = (-(-n // stride) for n in x.shape[1:3])
  x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
  return sum(
    x[:, i : i + rows : stride, j : j + columns : stride] * kernel[i, j, 0]
    for i in range(size)
    for j in range(size)
  )


def depthwise_by_matrix(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """The depth-wise convolution of stride 1 as a matrix a feature, from every place to every one."""
  rows, columns = (
    jnp.asarray(_offset_is(places, size), x.dtype)
    for places, size in zip(x.shape[1:3], kernel.shape, strict=False)
  )
  matrix = jnp.einsum("wxj,ijc->iwxc", columns, kernel[:, :, 0])
  matrix = jnp.einsum("hyi,iwxc->chwyx", rows, matrix)
  return jnp.einsum("chwyx,byxc->bhwc", matrix, x)


def _offset_is(places: int, size: int) -> np.ndarray:
  """bool `[places, places, size]`: whether the second place is i - size // 2 after the first."""
  offset = np.arange(places)[None] - np.arange(places)[:, None] + size // 2
  return offset[..., None] == np.arange(size)


def block_diagonal(kernel: jax.Array, groups: int) -> jax.Array:
  """`[size, size, C / groups, F]` -> `[size, size, C, F]`, zero between groups."""
  inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
  mask = np.kron(np.eye(groups), np.ones((inputs, outputs)))
  return jnp.tile(kernel, (1, 1, groups, 1)) * mask.astype(kernel.dtype)
