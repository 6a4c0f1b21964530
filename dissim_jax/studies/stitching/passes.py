"""Passes over images with two networks: moments at their seams, accuracy of stitched networks."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dissim_jax.data.augment import normalise
from dissim_jax.data.batches import batches
from dissim_jax.members.member import Member
from dissim_jax.models import Layered, resized
from dissim_jax.similarity import Moments, merge_moments, moments
from dissim_jax.studies.stitching.maps import Stitch, apply_stitch

Taps = tuple[tuple[int, int], ...]  # (source tap, target tap)


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two architectures that can be joined; hashable, so that programs are compiled once for it.

  Variables of a pair are `(source variables, target variables)`. Images are uint8 `[B, H, W, C]`.

  Attributes:
    source: represents the image.
    target: classifies the representation.
    source_scale: mean and std that the source's images are normalised with.
    target_scale: those of the target.
    resize: whether a source tap of another spatial size is resized to the target's (bilinear,
      antialiased); without it the sizes must be equal.
  """

  source: Layered
  target: Layered
  source_scale: tuple[tuple[float, ...], tuple[float, ...]]
  target_scale: tuple[tuple[float, ...], tuple[float, ...]]
  resize: bool = False

  def source_taps(self, variables, images: jax.Array, last: int) -> list[jax.Array]:
    """The source's taps 0 … last."""
    images = normalise(images, *self.source_scale)
    return self.source.apply(variables[0], images, last, method="taps")

  def target_taps(self, variables, images: jax.Array, last: int) -> list[jax.Array]:
    """The target's taps 0 … last."""
    images = normalise(images, *self.target_scale)
    return self.target.apply(variables[1], images, last, method="taps")

  def target_logits(self, variables, images: jax.Array) -> jax.Array:
    """What the target itself says of the images, `[B, K]`."""
    return self.target.apply(variables[1], normalise(images, *self.target_scale))[0]

  def classify(self, variables, z: jax.Array, tap: int) -> jax.Array:
    """The target's logits `[B, K]` from a representation at its tap."""
    return self.target.apply(variables[1], z, tap, method="classify")

  def fit_size(self, z: jax.Array, like: tuple[int, ...]) -> jax.Array:
    """A source tap `[B, h, w, C]` in the spatial size of a target tap's shape `like`.

    Raises:
      ValueError: the sizes differ and the pair does not resize.
    """
    size = like[1:-1]
    if z.shape[1:-1] == size:
      return z
    if not self.resize:
      raise ValueError(
        f"the source tap is {_by(z.shape[1:-1])}, the target tap {_by(size)}: resize is needed"
      )
    return resized(z, size)

  def shapes(self, image_shape: Sequence[int]) -> tuple[list, list]:
    """Shapes `(H, W, C)` of all taps of source and target for images `[H, W, C]`."""
    image = jnp.zeros((1, *image_shape))
    return tuple(
      [
        tap.shape[1:]
        for tap in jax.eval_shape(lambda m=m: m.init_with_output(jax.random.key(0), image))[0][1]
      ]
      for m in (self.source, self.target)
    )


def _by(size: Sequence[int]) -> str:
  return "x".join(map(str, size))


def make_pair(source: Member, target: Member, resize: bool = False) -> tuple[Pair, tuple]:
  """The pair of two members and its variables."""
  scales = ((member.mean, member.std) for member in (source, target))
  return Pair(source.model, target.model, *scales, resize), (source.variables, target.variables)


@functools.partial(jax.jit, static_argnames=("pair", "taps"))
def _seam_moments(pair: Pair, taps: Taps, variables, images):
  """Moments of one batch at each seam, and the target's logits."""
  sources = pair.source_taps(variables, images, max(source for source, _ in taps))
  targets = pair.target_taps(variables, images, max(target for _, target in taps))
  seam_moments = [moments(pair.fit_size(sources[s], targets[t].shape), targets[t]) for s, t in taps]
  return seam_moments, pair.target_logits(variables, images)


@jax.jit
def _merge(a: list[Moments], b: list[Moments]) -> list[Moments]:
  return [merge_moments(x, y) for x, y in zip(a, b, strict=True)]


def collect_moments(
  pair: Pair, variables, taps: Taps, images: np.ndarray, batch_size: int
) -> tuple[list[Moments], np.ndarray]:
  """One pass over the images: moments of (source tap, target tap) at every seam.

  Args:
    pair: the two architectures.
    variables: (source variables, target variables).
    taps: (source tap, target tap) of every seam.
    images: uint8 `[N, H, W, C]`.
    batch_size: images at a time; activations do not outlive a batch.

  Returns:
    One `Moments` a seam, every position of every image a sample, and the target's logits
    float32 `[N, K]`.
  """
  total, logits = None, []
  for batch in batches(images, batch_size):
    batch_moments, batch_logits = _seam_moments(pair, taps, variables, batch)
    total = batch_moments if total is None else _merge(total, batch_moments)
    logits.append(batch_logits)
  return total, np.concatenate(jax.device_get(logits))


@functools.partial(jax.jit, static_argnames=("pair", "tap"))
def _represent(pair: Pair, tap: tuple[int, int], variables, images):
  z = pair.source_taps(variables, images, tap[0])[-1]
  like = jax.eval_shape(lambda: pair.target_taps(variables, images, tap[1])[-1])
  return pair.fit_size(z, like.shape)


@functools.partial(jax.jit, static_argnames=("pair", "tap"))
def _score(pair: Pair, tap: tuple[int, int], variables, stitch, z, labels, target_logits):
  """Sums over one batch: right answers, agreement with the target, cross-entropies."""
  logits = pair.classify(variables, apply_stitch(stitch, z), tap[1]).astype(jnp.float32)
  said, soft = jnp.argmax(logits, -1), jax.nn.softmax(target_logits)
  return jnp.stack(
    [
      jnp.sum(said == labels),
      jnp.sum(said == jnp.argmax(target_logits, -1)),
      jnp.sum(optax.softmax_cross_entropy(logits, soft)),
      jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels)),
    ]
  )


SCORES = ("accuracy", "agreement", "cross_entropy", "label_cross_entropy")


def score_stitches(
  pair: Pair,
  variables,
  tap: tuple[int, int],
  stitches: Sequence[Stitch],
  images: np.ndarray,
  labels: np.ndarray,
  target_logits: np.ndarray,
  batch_size: int,
) -> list[dict[str, float]]:
  """How well the network does that each stitch makes, in one pass over the images.

  Args:
    pair, variables: as in `collect_moments`.
    tap: (source tap, target tap) of the seam.
    stitches: maps for this seam.
    images: uint8 `[N, H, W, C]`.
    labels: int32 `[N]`.
    target_logits: `[N, K]`, what the target says of the images, see `collect_moments`.
    batch_size: images at a time.

  Returns:
    For each stitch: `accuracy`; `relative_accuracy`, divided by the target's own; `agreement`, the
    share of images on which stitched network and target say the same; `cross_entropy` to the
    target's probabilities and `label_cross_entropy` to the labels, in nats an image.
  """
  sums = [jnp.zeros(len(SCORES)) for _ in stitches]
  parts = zip(
    batches(images, batch_size),
    batches(labels, batch_size),
    batches(target_logits, batch_size),
    strict=True,
  )
  for batch, *truth in parts:
    z = _represent(pair, tap, variables, batch)
    sums = [
      total + _score(pair, tap, variables, stitch, z, *truth)
      for total, stitch in zip(sums, stitches, strict=True)
    ]
  target_accuracy = float(np.mean(np.argmax(target_logits, -1) == labels))
  rows = []
  for total in jax.device_get(sums):
    row = {name: float(value) / len(labels) for name, value in zip(SCORES, total, strict=True)}
    rows.append(
      {"relative_accuracy": row["accuracy"] / target_accuracy if target_accuracy else float("nan")}
      | row
    )
  return rows
