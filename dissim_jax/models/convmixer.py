"""ConvMixer (Trockman and Kolter 2023, "Patches are all you need?").

Tap 0 is the patches, tap i the output of the 1x1 convolution of block i, both before their
activation and batch norm, with which the next layer begins; no skip connection passes them by.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dissim_jax.models.components import Components
from dissim_jax.models.grouped import GroupedConv
from dissim_jax.models.layered import Design, Layered
from dissim_jax.models.patches import PatchEmbed, dense_init, gelu, patch_words, scaled
from dissim_jax.models.resnet import Ops

_PATCH = {8: 1, 32: 2, 224: 7}  # by the stem
_WORDS = {gelu: "GELU", nn.relu: "ReLU"}


class MixerLayer(nn.Module):
  """x + BN(act(depth-wise convolution of x)), then a 1x1 convolution; x is BN(act(input)).

  Unlike elsewhere the batch norm comes after the activation.
  """

  kernel: int
  activation: Callable[[jax.Array], jax.Array]
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H, W, C]`."""
    x = self.ops.norm(train, name="input_norm")(self.activation(x))
    y = GroupedConv(
      x.shape[-1],
      x.shape[-1],
      self.kernel,
      use_bias=True,
      dtype=self.ops.dtype,
      kernel_init=nn.initializers.lecun_normal(),
      name="depthwise",
    )(x)
    x += self.ops.norm(train, name="norm")(self.activation(y))
    dense = nn.Dense(x.shape[-1], dtype=self.ops.dtype, kernel_init=dense_init, name="pointwise")
    return dense(x)


class MixerHead(nn.Module):
  """Activation, batch norm, mean over space, dense layer; logits in float32."""

  num_classes: int
  activation: Callable[[jax.Array], jax.Array]
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> logits `[B, num_classes]`."""
    x = self.ops.norm(train, name="input_norm")(self.activation(x))
    x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    return nn.Dense(self.num_classes, name="dense")(x)


def convmixer(
  num_classes: int,
  *,
  width: int,
  depth: int,
  kernel: int,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  width_multiplier: float = 1.0,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  stem: int = 32,
  patch_size: int = 0,
) -> Layered:
  """A ConvMixer of `depth` blocks; `patch_size` 0 is 1, 2 or 7 by the stem.

  `width_multiplier` scales the features (rounded, at least one).
  """
  ops = Ops(dtype, axis_name)
  layers = (
    PatchEmbed(scaled(width, width_multiplier), patch_size or _PATCH[stem], dtype),
    *(MixerLayer(kernel, activation, ops) for _ in range(depth)),
  )
  names = ("patches", *(f"block {i}" for i in range(1, depth + 1)))
  return Layered(layers, MixerHead(num_classes, activation, ops), names)


def _entry(width: int, depth: int, kernel: int, activation: Callable = gelu) -> Design:
  """A ConvMixer of this size."""

  def describe(stem: int, patch_size: int = 0) -> Components:
    return Components(
      "CNN",
      patch_words(patch_size or _PATCH[stem]),
      "BN",
      hierarchical="no",
      activation=_WORDS[activation],
      depthwise="yes",
      kernel=f"{kernel}x{kernel}",
      width=str(width),
      depth=str(depth),
    )

  build = functools.partial(
    convmixer, width=width, depth=depth, kernel=kernel, activation=activation
  )
  return Design(build, describe)


# ReLU in 768/32: that is what its authors trained (github.com/locuslab/convmixer).
DESIGNS = {
  "convmixer_mini": _entry(48, 4, 5),
  "convmixer_256_8": _entry(256, 8, 5),
  "convmixer_768_32": _entry(768, 32, 7, nn.relu),
  "convmixer_1536_20": _entry(1536, 20, 9),
}
