"""The interface of every architecture: an ordered list of layers that can be cut at any tap.

Wald et al. 2023 (Eq. 1-3) write a network as f_k ∘ … ∘ f_0. Tap l is the output of layer l, taken
before the ReLU at a place that no skip connection bypasses (their Figure 6), so everything the
rest of the network knows about the input passes through it.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class Layered(nn.Module):
  """A classifier as layers f_0 … f_L and a head; `taps[l]` is the output of `layers[l]`.

  Layers after the first begin with the activation of their input, so that a tap is always a
  pre-activation. Every layer and the head are linen modules with `__call__(x, train)`.

  Attributes:
    layers: f_0 … f_L in the order they are applied.
    head: from the last tap to the logits, float32 `[B, K]`.
    tap_names: what to call each tap in tables and figures.
  """

  layers: Sequence[nn.Module]
  head: nn.Module
  tap_names: tuple[str, ...] = ()

  def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, list[jax.Array]]:
    """Images `[B, H, W, C]` to (logits `[B, K]`, the list of all taps)."""
    taps = self.taps(x, len(self.layers) - 1, train)
    return self.head(taps[-1], train), taps

  def taps(self, x: jax.Array, last: int, train: bool = False) -> list[jax.Array]:
    """Taps 0 … last of the images; nothing after layer `last` is computed."""
    outputs = []
    for layer in self.layers[: last + 1]:
      x = layer(x, train)
      outputs.append(x)
    return outputs

  def represent(self, x: jax.Array, tap: int, train: bool = False) -> jax.Array:
    """f_tap ∘ … ∘ f_0: the representation of the images at one tap."""
    return self.taps(x, tap, train)[-1]

  def classify(self, z: jax.Array, tap: int, train: bool = False) -> jax.Array:
    """The rest of the network: logits `[B, K]` from a representation at `tap`."""
    for layer in self.layers[tap + 1 :]:
      z = layer(z, train)
    return self.head(z, train)


def init_variables(model: Layered, key: jax.Array, image_shape: Sequence[int]) -> dict:
  """Fresh float32 variables of a model for images `[H, W, C]`.

  Runs once, so on CPU it is compiled without optimisation: the unrolled random number generators
  of all parameters otherwise take longer to compile than a training step.
  """
  options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
  image = jnp.zeros((1, *image_shape))
  return jax.jit(lambda key: model.init(key, image), compiler_options=options)(key)
