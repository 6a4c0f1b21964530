"""MLP-Mixer (Tolstikhin et al. 2021): one MLP over the tokens, one over the features, in turn.

Tap 0 is the patches, tap i the residual stream after mixer block i, as the grid of patches. Differs
from the paper: no dropout and no stochastic depth.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dissim_jax.models.components import Components
from dissim_jax.models.layered import Design, Layered
from dissim_jax.models.patches import Mlp, PatchEmbed, TokenHead, patch_words, scaled

_PATCH = {8: 2, 32: 4, 224: 16}  # by the stem
_EPSILON = 1e-6  # of layer norms


class MixerBlock(nn.Module):
  """x + MLP of the tokens of LN(x), each feature alone; then x + MLP of the features of LN(x).

  The first has C / 2 hidden units, the second 4 C (the ratios of the paper's Table 1).
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H, W, C]`."""
    del train
    features = x.shape[-1]
    norm = functools.partial(nn.LayerNorm, _EPSILON, dtype=self.dtype)
    tokens = x.reshape(x.shape[0], -1, features)
    y = norm(name="norm1")(tokens).swapaxes(1, 2)
    y = Mlp(max(1, features // 2), self.dtype, name="token_mixing")(y)
    tokens += y.swapaxes(1, 2)
    y = norm(name="norm2")(tokens)
    tokens += Mlp(4 * features, self.dtype, name="channel_mixing")(y)
    return tokens.reshape(x.shape)


def mlp_mixer(
  num_classes: int,
  *,
  width: int,
  depth: int,
  width_multiplier: float = 1.0,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  stem: int = 32,
  patch_size: int = 0,
) -> Layered:
  """An MLP-Mixer of `depth` blocks; `patch_size` 0 is 2, 4 or 16 by the stem.

  `width_multiplier` scales the features (rounded, at least one). The number of patches is that of
  the images it is initialised with. Nothing is normalised over the batch: `axis_name` is not used.
  """
  del axis_name
  layers = (
    PatchEmbed(scaled(width, width_multiplier), patch_size or _PATCH[stem], dtype),
    *(MixerBlock(dtype) for _ in range(depth)),
  )
  names = ("patches", *(f"block {i}" for i in range(1, depth + 1)))
  return Layered(layers, TokenHead(num_classes, _EPSILON), names)


def _entry(width: int, depth: int) -> Design:
  """An MLP-Mixer of this size."""

  def describe(stem: int, patch_size: int = 0) -> Components:
    return Components(
      "MLP-Mixer",
      patch_words(patch_size or _PATCH[stem]),
      "LN",
      hierarchical="no",
      activation="GELU",
      kernel="tokens",
      width=str(width),
      depth=str(2 + 4 * depth),
    )

  return Design(functools.partial(mlp_mixer, width=width, depth=depth), describe)


DESIGNS = {
  "mlp_mixer_mini": _entry(64, 4),
  "mlp_mixer_s16": _entry(512, 8),
  "mlp_mixer_b16": _entry(768, 12),
}
