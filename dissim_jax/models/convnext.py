"""ConvNeXt (Liu et al. 2022): a ResNet with the proportions of a transformer.

Tap 0 is the patches after their layer norm, tap i the residual stream after block i; the first
block of a later stage begins with the downsampling. Differs from the paper: no stochastic depth; a
side that is odd at a downsampling is padded at the end, not cropped.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dissim_jax.models.components import Components
from dissim_jax.models.grouped import GroupedConv
from dissim_jax.models.layered import Design, Layered
from dissim_jax.models.patches import (
  Mlp,
  NormedPatches,
  TokenHead,
  dense_init,
  patch_words,
  scaled,
)

_PATCH = {8: 2, 32: 2, 224: 4}  # by the stem
_EPSILON = 1e-6  # of layer norms
_KERNEL = 7


class ConvNeXtBlock(nn.Module):
  """x + scale * MLP(LN(depth-wise 7x7 convolution of x)); the scale of each feature is learned.

  Where `downsample`, a layer norm and a 2x2 convolution with stride 2 come first.
  """

  features: int
  downsample: bool
  layer_scale: float  # initial scale
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H, W, features]`, or half as high and wide (rounded up)."""
    del train
    norm = functools.partial(nn.LayerNorm, _EPSILON, dtype=self.dtype)
    if self.downsample:
      x = norm(name="downsample_norm")(x)
      conv = functools.partial(nn.Conv, dtype=self.dtype, kernel_init=dense_init)
      x = conv(self.features, (2, 2), (2, 2), name="downsample_conv")(x)
    channels = x.shape[-1]
    y = GroupedConv(
      channels,
      channels,
      _KERNEL,
      use_bias=True,
      dtype=self.dtype,
      kernel_init=nn.initializers.lecun_normal(),
      name="depthwise",
    )(x)
    y = Mlp(4 * self.features, self.dtype, name="mlp")(norm(name="norm")(y))
    scale = self.param("scale", nn.initializers.constant(self.layer_scale), (self.features,))
    return x + scale.astype(self.dtype) * y


def convnext(
  num_classes: int,
  *,
  depths: tuple[int, ...],
  widths: tuple[int, ...],
  layer_scale: float = 1e-6,
  width_multiplier: float = 1.0,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  stem: int = 32,
  patch_size: int = 0,
) -> Layered:
  """A ConvNeXt of `depths[s]` blocks with `widths[s]` features in stage s; stages halve the size.

  `patch_size` 0 is 2, 2 or 4 by the stem. `layer_scale` is the initial scale of a residual branch.
  `width_multiplier` scales every stage (rounded, at least one feature). Nothing is normalised over
  the batch: `axis_name` is not used.
  """
  del axis_name
  widths = tuple(scaled(width, width_multiplier) for width in widths)
  layers: list[nn.Module] = [NormedPatches(widths[0], patch_size or _PATCH[stem], _EPSILON, dtype)]
  for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
    for index in range(depth):
      layers.append(ConvNeXtBlock(width, stage > 0 and index == 0, layer_scale, dtype))
  names = ("patches", *(f"block {i}" for i in range(1, len(layers))))
  return Layered(tuple(layers), TokenHead(num_classes, _EPSILON, pool_first=True), names)


def _entry(depths: tuple[int, ...], widths: tuple[int, ...], **fields: float) -> Design:
  """A ConvNeXt of this size; its depth counts the downsampling too."""
  layers = 2 + 3 * sum(depths) + len(depths) - 1

  def describe(stem: int, patch_size: int = 0) -> Components:
    return Components(
      "CNN",
      patch_words(patch_size or _PATCH[stem]),
      "LN",
      hierarchical="yes",
      activation="GELU",
      depthwise="yes",
      kernel=f"{_KERNEL}x{_KERNEL}",
      width=str(widths[0]),
      depth=str(layers),
    )

  build = functools.partial(convnext, depths=depths, widths=widths, **fields)
  return Design(build, describe)


# The small one is trained for too few steps to grow its residual branches from nothing.
DESIGNS = {
  "convnext_mini": _entry((2, 2), (32, 64), layer_scale=1.0),
  "convnext_atto": _entry((2, 2, 6, 2), (40, 80, 160, 320)),
  "convnext_tiny": _entry((3, 3, 9, 3), (96, 192, 384, 768)),
}
