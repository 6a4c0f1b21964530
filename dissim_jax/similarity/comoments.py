"""Moments of all pairs of taps of one spatial size at once, streamed over batches.

The channels of all taps of a size lie side by side, so that a batch costs one matrix product, and
the blocks of the summed matrix are the `Moments` of every pair of them. All sums are float64, see
`similarity.moment_sums`.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dissim_jax.similarity import Moments, swap_moments
from dissim_jax.similarity.floats import float64
from dissim_jax.similarity.moment_sums import exact_comoments

Size = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
  """The taps that are compared at one spatial size, and where their channels lie; hashable.

  Attributes:
    size: the spatial size, () for taps without space.
    native: indices of the taps that have it.
    resized: indices of larger taps, resized to it.
    channels: of the taps in `native`, then of those in `resized`.
  """

  size: Size
  native: tuple[int, ...]
  resized: tuple[int, ...]
  channels: tuple[int, ...]

  def span(self, index: int) -> slice:
    """The channels of a tap."""
    place = (*self.native, *self.resized).index(index)
    start = sum(self.channels[:place])
    return slice(start, start + self.channels[place])

  @property
  def native_channels(self) -> int:
    """Channels of all taps in `native`."""
    return sum(self.channels[: len(self.native)])

  @property
  def nbytes(self) -> int:
    """Of the co-moments."""
    shapes = jax.tree.leaves(jax.eval_shape(lambda: empty_comoments(self)))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in shapes)


class Comoments(NamedTuple):
  """What a layout's taps leave: C channels side by side, of which the first P have its own size.

  All float64, which JAX only passes on where `jax_enable_x64` is off.

  Attributes:
    count: number of samples, scalar.
    mean: `[C]`.
    cross: `[P, C]`, sums of products of centred channels.
    within: the same of every resized tap with itself, `[C_i, C_i]`.
  """

  count: jax.Array
  mean: jax.Array
  cross: jax.Array
  within: tuple[jax.Array, ...]


def layouts(shapes: Sequence[tuple[Size, int]], resize: bool) -> tuple[Layout, ...]:
  """One layout for every spatial size among the taps.

  Args:
    shapes: (spatial size, channels) of every tap.
    resize: whether a tap is compared, resized, at every smaller size too.
  """
  size_layouts = []
  for size in dict.fromkeys(size for size, _ in shapes):
    native = tuple(i for i, (other, _) in enumerate(shapes) if other == size)
    resized = tuple(i for i, (other, _) in enumerate(shapes) if resize and _larger(other, size))
    size_layouts.append(
      Layout(size, native, resized, tuple(shapes[i][1] for i in native + resized))
    )
  return tuple(size_layouts)


def common_size(a: Size, b: Size, resize: bool) -> Size | None:
  """The spatial size at which two taps are compared; None if they are not."""
  if a == b or (resize and _larger(b, a)):
    return a
  return b if resize and _larger(a, b) else None


def _larger(a: Size, b: Size) -> bool:
  return a != b and len(a) == len(b) and all(x >= y for x, y in zip(a, b, strict=True))


def empty_comoments(layout: Layout) -> Comoments:
  """Co-moments of no samples."""
  total = sum(layout.channels)
  with float64():
    within = tuple(jnp.zeros((c, c)) for c in layout.channels[len(layout.native) :])
    cross = jnp.zeros((layout.native_channels, total))
    return Comoments(jnp.zeros(()), jnp.zeros(total), cross, within)


def add_batch(old: Comoments, layout: Layout, taps: Sequence[jax.Array]) -> Comoments:
  """The co-moments with those of one more batch, merged as `merge_moments` does.

  Args:
    old: of the batches before; its count may be 0.
    layout: which of the taps to take.
    taps: `[n, *size, C]` each, floating point.
  """
  native = [taps[i].astype(jnp.float32) for i in layout.native]
  resized = [_resize(taps[i], layout.size) for i in layout.resized]
  native, resized = ([tap.reshape(-1, tap.shape[-1]) for tap in some] for some in (native, resized))
  blocks = [jnp.concatenate(native, -1), *resized]
  first, others = (0, 0), range(1, len(blocks))
  pairs = (first, *((0, i) for i in others), *((i, i) for i in others))
  batch_count, means, products = exact_comoments(blocks, pairs)
  with float64():
    mean = jnp.concatenate(means)
    new_cross, new_within = products[: len(blocks)], products[len(blocks) :]
    count = old.count + batch_count
    share, delta = batch_count / count, mean - old.mean
    weight = old.count * share
    within = []
    for index, product, total in zip(layout.resized, new_within, old.within, strict=True):
      step = delta[layout.span(index)]
      within.append(total + product + weight * jnp.outer(step, step))
    outer = jnp.outer(delta[: layout.native_channels], delta)
    cross = old.cross + jnp.concatenate(new_cross, -1) + weight * outer
    return Comoments(count, old.mean + share * delta, cross, tuple(within))


def _resize(z: jax.Array, size: Size) -> jax.Array:
  """`[n, H, W, C]` at a smaller size: bilinear with antialiasing, in float32."""
  shape = (z.shape[0], *size, z.shape[-1])
  return jax.image.resize(z.astype(jnp.float32), shape, "linear", antialias=True)


def pair_moments(layout: Layout, sums: Comoments, a: int, b: int) -> Moments:
  """The moments of two taps of a layout (x is `a`, y is `b`), one or both of its own size.

  Of NumPy sums NumPy arrays of float64: only inside of `float64()` does JAX take them as such.
  """
  if a not in layout.native:
    return swap_moments(pair_moments(layout, sums, b, a))
  x, y = layout.span(a), layout.span(b)
  is_native = b in layout.native
  yy = sums.cross[y, y] if is_native else sums.within[layout.resized.index(b)]
  return Moments(sums.count, sums.mean[x], sums.mean[y], sums.cross[x, x], sums.cross[x, y], yy)
