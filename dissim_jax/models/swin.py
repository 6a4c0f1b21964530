"""Swin (Liu et al. 2021): a transformer in stages, with attention in windows that shift.

Tap 0 is the patches after their layer norm, tap i the residual stream after block i; the first
block of a later stage begins with the merging of patches. Differs from the paper: no stochastic
depth; windows of 2x2 and 4x4 patches with the stems for 8 and 32 pixels; a grid that windows do not
divide is padded with patches that no other attends to, one with odd sides before merging too.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.models.components import Components
from dissim_jax.models.layered import Design, Layered
from dissim_jax.models.patches import (
  Mlp,
  NormedPatches,
  SelfAttention,
  TokenHead,
  dense_init,
  patch_words,
  scaled,
)

_PATCH = {8: 2, 32: 2, 224: 4}  # by the stem
_WINDOW = {8: 2, 32: 4, 224: 7}  # patches a side, by the stem
_EPSILON = 1e-5  # of layer norms


def relative_positions(height: int, width: int) -> np.ndarray:
  """For every query and key of a window, which row of the table of biases is theirs.

  int `[T, T]` with T = height * width, values below (2 height - 1) * (2 width - 1); two pairs with
  the same offset have the same value.
  """
  y, x = np.indices((height, width)).reshape(2, -1)
  dy, dx = (a[:, None] - a[None, :] for a in (y, x))
  return (dy + height - 1) * (2 * width - 1) + dx + width - 1


def _neighbourhoods(size: int, window: int, shift: int) -> np.ndarray:
  """Which shifted window each place along one axis is in, as `[windows, window]` of rolled places.

  The places that were rolled over the border, and the padding, are windows of their own.
  """
  places = np.arange(-(-size // window) * window)
  windows = np.where(places < size, (places - shift) // window, len(places))
  return np.roll(windows, -shift).reshape(-1, window)


def window_mask(
  grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> np.ndarray | None:
  """Who attends to whom in every window after the grid was padded and rolled by -shift.

  bool `[windows, 1, T, T]`; None where all attend to all.
  """
  rows, columns = (_neighbourhoods(*axis) for axis in zip(grid, window, shift, strict=True))
  label = rows[:, None, :, None] * (sum(grid) + sum(window)) + columns[None, :, None, :]
  label = label.reshape(-1, window[0] * window[1])
  mask = label[:, None, :, None] == label[:, None, None, :]
  return None if mask.all() else mask


def to_windows(x: jax.Array, window: tuple[int, int]) -> jax.Array:
  """`[B, H, W, C]` -> `[B * windows, T, C]`, the windows of an image row by row."""
  batch, height, width, features = x.shape
  x = x.reshape(batch, height // window[0], window[0], width // window[1], window[1], features)
  return x.swapaxes(2, 3).reshape(-1, window[0] * window[1], features)


def from_windows(x: jax.Array, shape: tuple[int, ...], window: tuple[int, int]) -> jax.Array:
  """The inverse of `to_windows`, for a grid of this shape `[B, H, W, C]`."""
  batch, height, width, features = shape
  x = x.reshape(batch, height // window[0], width // window[1], *window, features)
  return x.swapaxes(2, 3).reshape(shape)


class WindowAttention(nn.Module):
  """Self-attention within windows, with a learned bias for each offset of two patches.

  A side of the grid that is no longer than the window is one window, and does not shift.
  """

  heads: int
  window: int
  shifted: bool
  bias_scale: float  # standard deviation of the initial biases
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H, W, C]`."""
    grid = x.shape[1:3]
    window = tuple(min(self.window, side) for side in grid)
    shift = tuple(self.window // 2 if self.shifted and n > self.window else 0 for n in grid)
    x = jnp.pad(x, ((0, 0), *((0, -n % w) for n, w in zip(grid, window, strict=True)), (0, 0)))
    shape = x.shape
    x = to_windows(jnp.roll(x, [-s for s in shift], (1, 2)), window)
    mask = window_mask(grid, window, shift)
    if mask is not None:
      mask = jnp.broadcast_to(mask, (shape[0], *mask.shape)).reshape(-1, *mask.shape[1:])
    attention = SelfAttention(self.heads, self.dtype, name="attention")
    x = from_windows(attention(x, self._bias(*window), mask), shape, window)
    return jnp.roll(x, shift, (1, 2))[:, : grid[0], : grid[1]]

  def _bias(self, height: int, width: int) -> jax.Array:
    """The bias before the softmax, float32 `[1, heads, T, T]`."""
    offsets = (2 * height - 1) * (2 * width - 1)
    init = nn.initializers.truncated_normal(self.bias_scale)
    table = self.param("bias_table", init, (offsets, self.heads))
    return jnp.moveaxis(table[relative_positions(height, width)], -1, 0)[None]


class PatchMerging(nn.Module):
  """Four neighbours side by side, layer norm, and a linear map to twice the features."""

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/2, W/2, features]`, rounded up."""
    x = jnp.pad(x, ((0, 0), *((0, n % 2) for n in x.shape[1:3]), (0, 0)))
    batch, height, width, features = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, features).swapaxes(2, 3)
    x = x.reshape(batch, height // 2, width // 2, 4 * features)
    x = nn.LayerNorm(_EPSILON, dtype=self.dtype, name="norm")(x)
    return nn.Dense(
      self.features, use_bias=False, dtype=self.dtype, kernel_init=dense_init, name="dense"
    )(x)


class SwinBlock(nn.Module):
  """x + window attention(LN(x)), then x + MLP(LN(x)); where `merge`, patches are merged first."""

  features: int
  heads: int
  window: int
  bias_scale: float
  shifted: bool
  merge: bool
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H, W, features]`, or half as high and wide (rounded up)."""
    del train
    norm = functools.partial(nn.LayerNorm, _EPSILON, dtype=self.dtype)
    if self.merge:
      x = PatchMerging(self.features, self.dtype, name="merging")(x)
    attention = functools.partial(WindowAttention, self.heads, self.window, self.shifted)
    y = norm(name="norm1")(x)
    x += attention(self.bias_scale, self.dtype, name="window_attention")(y)
    return x + Mlp(4 * self.features, self.dtype, name="mlp")(norm(name="norm2")(x))


def swin(
  num_classes: int,
  *,
  width: int,
  depths: tuple[int, ...],
  heads: int,
  bias_scale: float = 0.02,
  width_multiplier: float = 1.0,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  stem: int = 32,
  patch_size: int = 0,
) -> Layered:
  """A Swin of `depths[s]` blocks in stage s; stages halve the size, double features and heads.

  Every second block of a stage has shifted windows. `patch_size` 0 is 2, 2 or 4 by the stem.
  `bias_scale` is the standard deviation of the initial biases of attention.
  `width_multiplier` scales the features, rounded to a multiple of `heads`. Nothing is normalised
  over the batch: `axis_name` is not used.
  """
  del axis_name
  width = scaled(width, width_multiplier, heads)
  layers: list[nn.Module] = [NormedPatches(width, patch_size or _PATCH[stem], _EPSILON, dtype)]
  for stage, depth in enumerate(depths):
    sizes = (width * 2**stage, heads * 2**stage, _WINDOW[stem])
    block = functools.partial(SwinBlock, *sizes, bias_scale)
    for index in range(depth):
      layers.append(block(index % 2 == 1, stage > 0 and index == 0, dtype))
  names = ("patches", *(f"block {i}" for i in range(1, len(layers))))
  return Layered(tuple(layers), TokenHead(num_classes, _EPSILON), names)


def _entry(width: int, depths: tuple[int, ...], heads: int, **fields: float) -> Design:
  """A Swin of this size; its depth counts the merging too."""
  layers = 2 + 4 * sum(depths) + len(depths) - 1

  def describe(stem: int, patch_size: int = 0) -> Components:
    return Components(
      "Transformer",
      patch_words(patch_size or _PATCH[stem]),
      "LN",
      hierarchical="yes",
      activation="GELU",
      self_attention="window",
      kernel="tokens",
      width=str(width),
      depth=str(layers),
    )

  build = functools.partial(swin, width=width, depths=depths, heads=heads, **fields)
  return Design(build, describe)


# The biases are all that tells the small one where patches are: it learns more from 100 digits when
# they do not begin near zero (86 -> 89 % of the test).
DESIGNS = {
  "swin_mini": _entry(32, (2, 2), 2, bias_scale=1.0),
  "swin_tiny": _entry(96, (2, 2, 6, 2), 3),
}
