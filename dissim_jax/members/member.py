"""A member that is loaded: its network, its variables, how images are normalised for it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from dissim_jax.data.augment import normalise
from dissim_jax.models import Layered


@dataclasses.dataclass(frozen=True)
class Network:
  """Images in 0..1 to logits; hashable, so that members of one kind share a program."""

  model: Layered
  mean: tuple[float, ...]
  std: tuple[float, ...]

  def __call__(self, variables: Any, images: jax.Array) -> jax.Array:
    """float32 `[N, K]` from float `[N, H, W, C]`, in eval mode."""
    images = normalise(255.0 * images, self.mean, self.std)
    return self.model.apply(variables, images)[0].astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Member:
  """A frozen member: its name, architecture, variables, and how images are normalised for it."""

  name: str
  model: Layered
  variables: Any
  mean: tuple[float, ...] = (0.0,)
  std: tuple[float, ...] = (1.0,)

  @property
  def network(self) -> Network:
    """What it makes of images."""
    return Network(self.model, tuple(self.mean), tuple(self.std))


def classifier(member: Member) -> Partial:
  """The member as a function from images in 0..1 to logits, on one device."""
  return Partial(member.network, jax.device_put(member.variables, jax.local_devices()[0]))


@dataclasses.dataclass(frozen=True)
class Reader:
  """Images to taps; hashable, so that members of one kind share a program."""

  model: Layered
  mean: tuple[float, ...]
  std: tuple[float, ...]
  taps: tuple[int, ...]

  def __call__(self, variables: Any, images: jax.Array) -> list[jax.Array]:
    """The taps of uint8 images `[n, H, W, C]`; what comes after the last is not computed."""
    images = normalise(images, self.mean, self.std)
    outputs: Any = self.model.apply(variables, images, max(self.taps), method="taps")
    return [outputs[tap] for tap in self.taps]


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
  """A member and the taps of it that are compared, in that order."""

  member: Member
  taps: tuple[int, ...]

  @property
  def name(self) -> str:
    """The member's."""
    return self.member.name

  @property
  def reader(self) -> Reader:
    """What gives its taps."""
    return Reader(self.member.model, self.member.mean, self.member.std, self.taps)

  def shapes(self, image_shape: Sequence[int], pooled: bool) -> list[tuple[tuple[int, ...], int]]:
    """(spatial size, channels) of every tap; pooled: without space."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)
    taps = jax.eval_shape(self.reader, self.member.variables, images)
    return [(() if pooled else tap.shape[1:-1], tap.shape[-1]) for tap in taps]
