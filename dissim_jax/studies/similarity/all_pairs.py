"""Every pair of taps of every pair of members, by any similarity measure, over streamed images.

Activations never outlive a batch: measures of examples leave sums over batches, measures of
positions leave co-moments of channels.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.members.member import Reader, Subject
from dissim_jax.similarity import swap_moments
from dissim_jax.similarity.comoments import (
  Comoments,
  Layout,
  add_batch,
  common_size,
  empty_comoments,
  layouts,
  pair_moments,
)
from dissim_jax.similarity.floats import float64
from dissim_jax.studies.similarity import nonfinite
from dissim_jax.studies.similarity.choice import ChosenMeasure

# All members share one pass over the images while their co-moments fit in this; else a pass a pair.
ONE_PASS_BYTES = 2**30

Arrays = dict[str, np.ndarray]
Progress = Callable[[str, int, int], None]


@functools.partial(
  jax.jit,
  static_argnames=("readers", "examples", "parts", "pooled"),
  donate_argnames=("comoments",),
)
def batch_step(
  variables: list,
  images: jax.Array,
  comoments: list[Comoments],
  *,
  readers: tuple[Reader, ...],
  examples: tuple[ChosenMeasure, ...],
  parts: tuple[Layout, ...],
  pooled: bool,
) -> tuple[list, list[Comoments]]:
  """One batch of images.

  Args:
    variables: of every reader.
    images: uint8 `[n, H, W, C]`.
    comoments: of every layout in `parts`; donated.
    readers: give the taps.
    examples: measures of examples.
    parts: what co-moments are of.
    pooled: co-moments are of means over space.

  Returns:
    The batch's sums of every measure of examples, and the co-moments with the batch added.
  """
  pairs = zip(readers, variables, strict=True)
  taps = [tap for reader, reader_variables in pairs for tap in reader(reader_variables, images)]
  sums = [c.measure.pairwise.update(taps, **dict(c.options)) for c in examples]
  if pooled:
    taps = [jnp.mean(t.astype(jnp.float32), axis=tuple(range(1, t.ndim - 1))) for t in taps]
  added = [add_batch(old, part, taps) for old, part in zip(comoments, parts, strict=True)]
  return sums, added


class Pass(NamedTuple):
  """A pass over the images: indices of its subjects, what is measured of them, its layouts."""

  group: tuple[int, ...]
  examples: tuple[ChosenMeasure, ...]
  positions: tuple[ChosenMeasure, ...]
  parts: tuple[Layout, ...]


def compare(
  subjects: Sequence[Subject],
  chosen: Sequence[ChosenMeasure],
  batches: Sequence[np.ndarray],
  *,
  pooled: bool = False,
  resize: bool = False,
  progress: Progress = lambda what, done, total: None,
) -> Arrays:
  """Measures every pair of members, also a member with itself, at all pairs of taps.

  Args:
    subjects: members of different names and their taps.
    chosen: measures that need no aligned channels, with options.
    batches: uint8 images `[n, H, W, C]` each. Measures of examples see one batch at a time.
    pooled: measures of positions take the means of the taps over space, an image a sample.
    resize: measures of positions compare taps of different sizes at the smaller one, the larger
      resized bilinearly with antialiasing; otherwise such pairs of taps are NaN.
    progress: called with what is being done, how much of it is done, and how much there is.

  Returns:
    `<measure>/<a>/<b>` float32 `[L_a, L_b]`, f(tap of a, tap of b), for a up to b in the order of
    `subjects`, and for b before a too where the measure is not symmetric. What a tap that holds NaN
    or infinity takes part in is NaN, and stderr says which taps these are.
  """
  shapes = [subject.shapes(batches[0].shape[1:], pooled) for subject in subjects]
  passes = _passes(shapes, chosen, resize)
  arrays: Arrays = {}
  broken = [np.zeros(len(subject.taps), bool) for subject in subjects]
  for number, each in enumerate(passes, 1):
    inside = [subjects[i] for i in each.group]
    what = "images" if len(passes) == 1 else f"images, pass {number} of {len(passes)}"
    tick = functools.partial(progress, what)
    sums, comoments = _stream(inside, each, pooled, batches, tick)
    broken_taps = _broken(each, sums, comoments)
    for i, span in zip(each.group, _spans(inside), strict=True):
      broken[i] |= broken_taps[list(span)]
    for c, total in zip(each.examples, sums, strict=True):
      arrays |= _example_blocks(inside, c, total)
    if each.positions:
      inside_shapes = [shapes[i] for i in each.group]
      _add_position_blocks(arrays, inside, inside_shapes, each, comoments, resize, progress)
  taps = (np.compress(bad, s.taps) for s, bad in zip(subjects, broken, strict=True))
  nonfinite.warn(zip((subject.name for subject in subjects), taps, strict=True))
  return arrays


def _broken(each: Pass, sums: list, comoments: list[Comoments]) -> np.ndarray:
  """Which of the taps of a pass hold NaN or infinity, by what it summed: bool `[L]`."""
  broken = [nonfinite.broken(s["sum"] if isinstance(s, dict) else s) for s in sums or ()]
  if not each.parts:
    return np.any(broken, axis=0)
  count = sum(len(part.native) for part in each.parts)
  taps = np.zeros(count, bool)
  for part, of_part in zip(each.parts, comoments, strict=True):
    for tap in part.native:
      channels = nonfinite.broken(of_part.cross[:, : part.native_channels])[part.span(tap)]
      taps[tap] = np.any(channels)
  return np.any([taps, *broken], axis=0)


def _passes(shapes, chosen: Sequence[ChosenMeasure], resize: bool) -> list[Pass]:
  """One pass for all members, or one for all measures of examples and one for each pair."""
  examples = tuple(c for c in chosen if c.measure.samples == "example")
  positions = tuple(c for c in chosen if c.measure.samples == "position")

  def parts(group):
    return layouts([shape for i in group for shape in shapes[i]], resize) if positions else ()

  everyone = tuple(range(len(shapes)))
  whole = parts(everyone)
  if len(everyone) <= 2 or sum(part.nbytes for part in whole) <= ONE_PASS_BYTES:
    return [Pass(everyone, examples, positions, whole)]
  pairs = itertools.combinations(everyone, 2)
  first = [Pass(everyone, examples, (), ())] if examples else []
  return first + [Pass(pair, (), positions, parts(pair)) for pair in pairs]


def _stream(subjects, each: Pass, pooled: bool, batches, tick) -> tuple[list, list[Comoments]]:
  """One pass: float64 sums of its measures of examples, co-moments of its layouts."""
  readers = tuple(subject.reader for subject in subjects)
  variables = [subject.member.variables for subject in subjects]
  sums, comoments = None, [empty_comoments(part) for part in each.parts]
  for done, batch in enumerate(batches, 1):
    new, comoments = batch_step(
      variables,
      batch,
      comoments,
      readers=readers,
      examples=each.examples,
      parts=each.parts,
      pooled=pooled,
    )
    new = jax.tree.map(lambda x: np.asarray(x, np.float64), new)
    sums = new if sums is None else jax.tree.map(np.add, sums, new)
    tick(done, len(batches))
  return sums, jax.tree.map(np.asarray, comoments)


def _spans(subjects: Sequence[Subject]) -> list[range]:
  """Where the taps of each subject are among all."""
  ends = itertools.accumulate(len(subject.taps) for subject in subjects)
  return [range(end - len(s.taps), end) for s, end in zip(subjects, ends, strict=True)]


def _example_blocks(subjects: Sequence[Subject], chosen: ChosenMeasure, total) -> Arrays:
  """The blocks of an `[L, L]` matrix by pair of members."""
  matrix = np.asarray(chosen.measure.pairwise.finish(total), np.float32)
  spans, name = _spans(subjects), chosen.measure.name
  return {
    f"{name}/{a.name}/{b.name}": matrix[np.ix_(spans[i], spans[j])]
    for i, a in enumerate(subjects)
    for j, b in enumerate(subjects)
    if i <= j or not chosen.measure.symmetric
  }


def _add_position_blocks(arrays, subjects, shapes, each, comoments, resize, progress) -> None:
  """Adds the blocks of all pairs of members that are not there yet, with their progress."""
  by_size = {part.size: (part, sums) for part, sums in zip(each.parts, comoments, strict=True)}
  flat = [shape for member_shapes in shapes for shape in member_shapes]

  def moments_of(x, y):
    size = common_size(flat[x][0], flat[y][0], resize)
    return None if size is None else pair_moments(*by_size[size], x, y)

  pairs = list(itertools.combinations_with_replacement(range(len(subjects)), 2))
  what, spans = ", ".join(c.measure.name for c in each.positions), _spans(subjects)
  for done, (i, j) in enumerate(pairs, 1):
    a, b = subjects[i].name, subjects[j].name
    if f"{each.positions[0].measure.name}/{a}/{b}" not in arrays:
      there, back = _position_blocks(each.positions, moments_of, spans[i], spans[j])
      for k, c in enumerate(each.positions):
        if i != j and not c.measure.symmetric:
          arrays[f"{c.measure.name}/{b}/{a}"] = back[k]
        arrays[f"{c.measure.name}/{a}/{b}"] = there[k]
    progress(what, done, len(pairs))


def _position_blocks(positions, moments_of, rows: range, columns: range):
  """f(row tap, column tap) `[K, L_a, L_b]` by K measures, and f(column tap, row tap)."""
  function = _from_moments(positions)
  there = np.full((len(positions), len(rows), len(columns)), np.nan, np.float32)
  back = there.swapaxes(1, 2).copy()
  for (p, x), (q, y) in itertools.product(enumerate(rows), enumerate(columns)):
    if rows == columns and q < p:
      continue  # Seen from the other side.
    m = moments_of(x, y)
    if m is not None:
      with float64():
        there[:, p, q], back[:, q, p] = np.asarray(function(m))
  if rows == columns:
    there = np.where(np.isnan(there), back, there)
  return there, back


@functools.cache
def _from_moments(positions: tuple[ChosenMeasure, ...]) -> Callable:
  """Moments of x and y to `[2, K]`: all f(x, y), all f(y, x).

  One program for all measures, so that what they have in common is computed once.
  """

  def function(m):
    there = [c.measure.from_moments(m, **dict(c.options)) for c in positions]
    back = [
      value if c.measure.symmetric else c.measure.from_moments(swap_moments(m), **dict(c.options))
      for c, value in zip(positions, there, strict=True)
    ]
    return jnp.array([there, back])

  return jax.jit(function)
