"""What is compared, and by what: members with their taps, measures with their options."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dissim_jax.data.augment import normalise
from dissim_jax.evaluate.streaming import Member
from dissim_jax.models import Layered
from dissim_jax.similarity import Measure
from dissim_jax.similarity.comoments import Size


@dataclasses.dataclass(frozen=True)
class Chosen:
  """A measure and the options it is called with, as (name, value) pairs; hashable."""

  measure: Measure
  options: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class Reader:
  """What gives the taps to compare; hashable, so that members of one kind share a program."""

  model: Layered
  mean: tuple[float, ...]
  std: tuple[float, ...]
  taps: tuple[int, ...]

  def __call__(self, variables, images: jax.Array) -> list[jax.Array]:
    """The taps of uint8 images `[n, H, W, C]`; what comes after the last is not computed."""
    images = normalise(images, self.mean, self.std)
    found = self.model.apply(variables, images, max(self.taps), method="taps")
    return [found[tap] for tap in self.taps]


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

  def shapes(self, image_shape: Sequence[int], pooled: bool) -> list[tuple[Size, int]]:
    """(spatial size, channels) of every tap; pooled: without space."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)
    taps = jax.eval_shape(self.reader, self.member.variables, images)
    return [(() if pooled else tap.shape[1:-1], tap.shape[-1]) for tap in taps]
