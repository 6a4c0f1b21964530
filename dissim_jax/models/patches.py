"""What architectures of patches share: the patches, layers over tokens, the head.

Tokens stay the grid that the patches form in the image, `[B, H, W, C]`, so that taps can be
compared, resized and stitched with those of convolutional networks. Differs from the papers: all
initial weights are LeCun's, whose spread falls with the number of inputs, because the width is a
field; most papers fix it at 0.02.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

dense_init = nn.initializers.lecun_normal()


@jax.custom_jvp
def normal_cdf(x: jax.Array) -> jax.Array:
  """Phi(x) = erfc(-x / sqrt 2) / 2, element by element; its derivative is exp(-x^2/2) / sqrt(2 pi).

  The derivative is written out because JAX 0.12's own of `erfc` is a `lax.polynomial` whose
  coefficients are constants. Constants do not vary over a mesh, and so `jax.shard_map` refuses to
  map it ("Primitive polynomial requires varying manual axes to match").
  """
  return 0.5 * jax.lax.erfc(-x * np.sqrt(0.5).astype(x.dtype))


@normal_cdf.defjvp
def _normal_cdf_jvp(primals, tangents):
  (x,), (tangent,) = primals, tangents
  density = jnp.exp(-0.5 * x * x) * np.sqrt(0.5 / np.pi).astype(x.dtype)
  return normal_cdf(x), tangent * density


def gelu(x: jax.Array) -> jax.Array:
  """x Phi(x), the exact form (Hendrycks and Gimpel 2016), in the dtype of x."""
  return x * normal_cdf(x)


def scaled(width: int, multiplier: float, multiple: int = 1) -> int:
  """`width * multiplier`, rounded to a multiple of `multiple` that is not zero."""
  return multiple * max(1, round(width * multiplier / multiple))


def patch_words(side: int) -> str:
  """The component `stem` of a network that begins with patches."""
  return f"{side}x{side} conv s{side}"


class PatchEmbed(nn.Module):
  """Cuts an image into patches that do not overlap, and maps each of them linearly to features.

  This is a convolution whose kernel and stride are `size`, with bias.
  """

  features: int
  size: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/size, W/size, features]`; ValueError where that is no integer."""
    del train
    height, width = x.shape[1:3]
    if height % self.size or width % self.size:
      raise ValueError(
        f"model.patch_size={self.size}: images are {height}x{width} pixels, "
        "only a number that divides both is allowed"
      )
    side = (self.size, self.size)
    conv = functools.partial(nn.Conv, padding="VALID", dtype=self.dtype, kernel_init=dense_init)
    return conv(self.features, side, side, name="conv")(x.astype(self.dtype))


class NormedPatches(nn.Module):
  """Patches and a layer norm of each: the first layer of ConvNeXt and Swin."""

  features: int
  size: int
  epsilon: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/size, W/size, features]`."""
    x = PatchEmbed(self.features, self.size, self.dtype, name="patches")(x, train)
    return nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm")(x)


class SelfAttention(nn.Module):
  """Multi-head self-attention of tokens: softmax(q k' / sqrt(C / heads) + bias) v, then linear.

  Vaswani et al. 2017, Eq. 1. All linear maps have a bias; the softmax is in float32.
  """

  heads: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: jax.Array, bias: jax.Array | None = None, mask: jax.Array | None = None
  ) -> jax.Array:
    """`[N, T, C]` -> the same shape.

    Args:
      x: tokens; C is a multiple of `heads`.
      bias: `[1 or N, heads, T, T]`, added before the softmax; axes are query and key.
      mask: bool `[1 or N, 1, T, T]`, whether the query attends to the key.
    """
    features = x.shape[-1]
    parts = (3, self.heads, features // self.heads)
    qkv = nn.DenseGeneral(parts, dtype=self.dtype, kernel_init=dense_init, name="qkv")(x)
    query, key, value = (qkv[..., i, :, :] for i in range(3))
    x = jax.nn.dot_product_attention(query, key, value, bias=bias, mask=mask)
    return nn.DenseGeneral(
      features, axis=(-2, -1), dtype=self.dtype, kernel_init=dense_init, name="out"
    )(x)


class Mlp(nn.Module):
  """Two linear maps of the last axis with GELU (erf) between them; the size stays as it is."""

  hidden: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """`[..., C]` -> `[..., C]`."""
    features = x.shape[-1]
    dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=dense_init)
    return dense(features, name="dense2")(gelu(dense(self.hidden, name="dense1")(x)))


class TokenHead(nn.Module):
  """Layer norm, mean over tokens, dense layer; `pool_first` swaps the first two. All in float32."""

  num_classes: int
  epsilon: float
  pool_first: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> logits `[B, num_classes]`."""
    del train
    norm = nn.LayerNorm(self.epsilon, dtype=jnp.float32, name="norm")
    mean = functools.partial(jnp.mean, axis=(1, 2), dtype=jnp.float32)
    x = norm(mean(x)) if self.pool_first else mean(norm(x))
    return nn.Dense(self.num_classes, name="dense")(x)
