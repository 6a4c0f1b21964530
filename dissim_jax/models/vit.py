"""Vision transformers (Dosovitskiy et al. 2021; the small sizes of Touvron et al. 2021, DeiT).

Tap 0 is the patches with their position embedding, tap i the residual stream after encoder block i,
as the grid of patches. Differs from the papers: there is no class token, the head takes the mean of
the tokens after the last layer norm; no dropout and no stochastic depth.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dissim_jax.models.components import Components
from dissim_jax.models.layered import Design, Layered
from dissim_jax.models.patches import Mlp, PatchEmbed, SelfAttention, TokenHead, patch_words, scaled

_PATCH = {8: 2, 32: 4, 224: 16}  # by the stem
_EPSILON = 1e-6  # of layer norms


class Embedding(nn.Module):
  """Patches, and what is learned about each place of the grid added to them."""

  features: int
  size: int
  scale: float  # standard deviation of the initial values
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/size, W/size, features]`."""
    x = PatchEmbed(self.features, self.size, self.dtype, name="patches")(x, train)
    position = self.param("position", nn.initializers.normal(self.scale), x.shape[1:])
    return x + position.astype(self.dtype)


class EncoderBlock(nn.Module):
  """x + attention(LN(x)), then x + MLP(LN(x)) with four times the features."""

  heads: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H, W, C]`."""
    del train
    norm = functools.partial(nn.LayerNorm, _EPSILON, dtype=self.dtype)
    tokens = x.reshape(x.shape[0], -1, x.shape[-1])
    y = norm(name="norm1")(tokens)
    tokens += SelfAttention(self.heads, self.dtype, name="attention")(y)
    tokens += Mlp(4 * x.shape[-1], self.dtype, name="mlp")(norm(name="norm2")(tokens))
    return tokens.reshape(x.shape)


def vit(
  num_classes: int,
  *,
  width: int,
  depth: int,
  heads: int,
  position_scale: float = 0.02,
  width_multiplier: float = 1.0,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  stem: int = 32,
  patch_size: int = 0,
) -> Layered:
  """A vision transformer of `depth` blocks; `patch_size` 0 is 2, 4 or 16 by the stem.

  `position_scale` is the standard deviation of the initial position embedding. `width_multiplier`
  scales the features, rounded to a multiple of `heads`. The number of patches is that of the images
  it is initialised with. Nothing is normalised over the batch: `axis_name` is not used.
  """
  del axis_name
  width = scaled(width, width_multiplier, heads)
  layers = (
    Embedding(width, patch_size or _PATCH[stem], position_scale, dtype),
    *(EncoderBlock(heads, dtype) for _ in range(depth)),
  )
  names = ("patches", *(f"block {i}" for i in range(1, depth + 1)))
  return Layered(layers, TokenHead(num_classes, _EPSILON), names)


def _entry(width: int, depth: int, heads: int, **fields: float) -> Design:
  """A vision transformer of this size."""

  def describe(stem: int, patch_size: int = 0) -> Components:
    return Components(
      "Transformer",
      patch_words(patch_size or _PATCH[stem]),
      "LN",
      hierarchical="no",
      activation="GELU",
      self_attention="global",
      kernel="tokens",
      width=str(width),
      depth=str(2 + 4 * depth),
    )

  return Design(functools.partial(vit, width=width, depth=depth, heads=heads, **fields), describe)


# The mean of the tokens does not know their places: with the published spread of the position
# embedding 100 digits teach the small one a bag of patches (45 % of the test; so 86 %).
DESIGNS = {
  "vit_mini": _entry(48, 4, 3, position_scale=2.0),
  "vit_tiny": _entry(192, 12, 3),
  "vit_small": _entry(384, 12, 6),
  "vit_base": _entry(768, 12, 12),
}
