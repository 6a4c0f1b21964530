"""The interface of every architecture: an ordered list of layers that can be cut at any tap.

Wald et al. 2023 (Eq. 1-3) write a network as f_k ∘ … ∘ f_0. Tap l is the output of layer l, taken
before the ReLU at a place that no skip connection bypasses (their Figure 6), so everything the
rest of the network knows about the input passes through it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import numpy as np

from dissim_jax.models.components import Components
from dissim_jax.registry.architectures import STEMS


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


def matching_tap(tap: int, model: Layered, other: Layered, match: str = "depth") -> int:
  """The tap of another network that belongs to a tap of this one.

  Args:
    tap: of `model`.
    model: the network whose tap is given.
    other: the network whose tap is wanted; of one architecture the answer is `tap`.
    match: `depth`, the tap nearest in relative depth tap / (number of taps - 1), the deeper of two;
      or `name`, the tap of the same name.

  Raises:
    ValueError: `other` has no tap of that name.
  """
  if match == "depth":
    last, others = len(model.layers) - 1, len(other.layers) - 1
    return math.floor(tap / max(last, 1) * others + 0.5)
  name = model.tap_names[tap]
  if name not in other.tap_names:
    raise ValueError(f"no tap is named {name!r}, there are {', '.join(other.tap_names)}")
  return other.tap_names.index(name)


def resized(z: jax.Array, size: Sequence[int]) -> jax.Array:
  """A representation `[B, h, w, C]` in another spatial size: bilinear, antialiased."""
  if z.shape[1:3] == tuple(size):
    return z
  return jax.image.resize(z, (z.shape[0], *size, z.shape[-1]), "linear")


@dataclasses.dataclass(frozen=True)
class Design:
  """How to build a network of one architecture, and what it is made of.

  Attributes:
    build: `(num_classes, *, width_multiplier, dtype, axis_name, stem) -> Layered`, and `patch_size`
      where it has patches; all but the first have defaults.
    describe: `(stem) -> Components`, and `patch_size` where it has patches.
  """

  build: Callable[..., Layered]
  describe: Callable[..., Components]


def nearest_stem(image_size: int) -> int:
  """The stem for images of so many pixels a side: the nearest of `STEMS` on a log scale."""
  return min(STEMS, key=lambda size: abs(math.log(size / image_size)))


def init_variables(model: Layered, key: jax.Array, image_shape: Sequence[int]) -> dict:
  """Fresh float32 variables of a model for images `[H, W, C]`: `params` and `batch_stats`.

  Networks without batch norm have empty `batch_stats`. Runs once, so on CPU it is compiled without
  optimisation: the unrolled random number generators of all parameters otherwise take longer to
  compile than a training step.
  """
  return _initialiser(model, tuple(image_shape))(key)


def variable_shapes(model: Layered, image_shape: Sequence[int]) -> dict:
  """Shapes and dtypes of `init_variables`, without computing anything."""
  return jax.eval_shape(_initialiser(model, tuple(image_shape)), jax.random.key(0))


@functools.lru_cache(maxsize=16)  # members of one architecture share the program
def _initialiser(model: Layered, image_shape: tuple[int, ...]) -> Callable[[jax.Array], dict]:
  options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
  image = np.zeros((1, *image_shape), np.float32)
  return jax.jit(lambda key: {"batch_stats": {}} | model.init(key, image), compiler_options=options)
