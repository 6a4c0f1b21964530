"""Two networks to be stitched: their seams, and every way to find and to score a stitch."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from dissim_jax.data import Dataset
from dissim_jax.errors import UserError
from dissim_jax.members.member import Member
from dissim_jax.names import nearest
from dissim_jax.seeds import folded
from dissim_jax.similarity import Moments
from dissim_jax.studies.stitching import maps
from dissim_jax.studies.stitching.maps import Stitch
from dissim_jax.studies.stitching.passes import (
  Pair,
  Taps,
  collect_moments,
  make_pair,
  score_stitches,
)
from dissim_jax.studies.stitching.training import TaskLoss, from_stitch, random_stitch, train_stitch

Row = dict[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class StitchPair:
  """A pair of networks, the seams to look at, and what all experiments on them share.

  Attributes:
    source, target: the members that are joined.
    seams: (source tap, target tap) of each.
    pair, variables: the same two as `passes.Pair`.
    dataset: stitches are fitted on its training images and measured on its test images.
    fitted: moments of every seam over the training images.
    tested: moments of every seam over the test images.
    wanted: `[N, K]` probabilities that task loss aims at on the training images.
    test_logits: the target's own logits on the test images.
    settings: the config's `stitch` block.
    task: how stitches are trained.
    batch_size: images at a time outside training.
    seed: of the random starts and of the order of the images.
    mesh: the devices.
    solved: solutions from several starts, kept for the experiments that share them.
  """

  source: Member
  target: Member
  seams: Taps
  pair: Any
  variables: Any
  dataset: Dataset
  fitted: list[Moments]
  tested: list[Moments]
  wanted: np.ndarray
  test_logits: np.ndarray
  settings: ml_collections.ConfigDict
  task: TaskLoss
  batch_size: int
  seed: int
  mesh: Mesh
  solved: dict = dataclasses.field(default_factory=dict)

  @property
  def target_accuracy(self) -> float:
    """The target's own accuracy on the test images."""
    return float(np.mean(np.argmax(self.test_logits, -1) == self.dataset.test_labels))

  def start(self, index: int, name: str, seed: int = 0) -> Stitch:
    """Where training starts at a seam: a name in `STARTS`."""
    return STARTS[name](self, self.fitted[index], jax.random.key(folded(seed)))

  def train(self, index: int, start: Stitch, *, rank: int = 0, **options) -> Stitch:
    """A stitch of a seam trained on the task; `options` are those of `train_stitch`."""
    task = self.task
    if options.get("cka_weight"):
      task = dataclasses.replace(task, cka=True)
    options = {"seed": self.seed, "mesh": self.mesh} | options
    return train_stitch(
      self.pair,
      self.variables,
      self.seams[index],
      from_stitch(start, rank),
      self.dataset.train_images,
      self.wanted,
      task,
      **options,
    )[0]

  def solutions(self, index: int, start: str) -> list[Stitch]:
    """`settings.starts` stitches of one seam that are trained from starts of one kind."""
    if (index, start) not in self.solved:
      self.solved[index, start] = [
        self.train(index, self.start(index, start, seed), seed=seed)
        for seed in range(self.seed, self.seed + self.settings.starts)
      ]
    return self.solved[index, start]

  def score(self, index: int, stitches: Sequence[Stitch]) -> list[Row]:
    """Accuracy, cross-entropy, similarity at the seam and sparsity of stitches, on test images."""
    data = self.dataset
    rows = score_stitches(
      self.pair,
      self.variables,
      self.seams[index],
      stitches,
      data.test_images,
      data.test_labels,
      self.test_logits,
      self.batch_size,
    )
    for row, stitch in zip(rows, stitches, strict=True):
      row |= {k: float(v) for k, v in _seam_indices(self.tested[index], stitch).items()}
      row["sparsity"] = float(maps.sparsity(stitch))
    return rows


_seam_indices = jax.jit(maps.seam_indices)

STARTS: dict[str, Callable[[StitchPair, Moments, jax.Array], Stitch]] = {
  "least_squares": lambda study, m, key: maps.least_squares(m, study.settings.ridge),
  "random": lambda study, m, key: random_stitch(key, m.xy.shape),
  "identity": lambda study, m, key: maps.identity(m),
}


def make_stitch_pair(
  source: Member,
  target: Member,
  seams: Taps,
  dataset: Dataset,
  settings: ml_collections.ConfigDict,
  *,
  batch_size: int,
  seed: int,
  resident_bytes: float,
  mesh: Mesh,
) -> StitchPair:
  """Measures the moments of all seams of two members, and what task loss will aim at."""
  pair, variables = make_pair(source, target, settings.resize)
  _check_sizes(pair, seams, dataset.image_shape)
  fitted, logits = collect_moments(pair, variables, seams, dataset.train_images, batch_size)
  tested, test_logits = collect_moments(pair, variables, seams, dataset.test_images, batch_size)
  wanted = np.asarray(jax.nn.softmax(logits))
  if settings.labels == "hard":
    wanted = np.eye(dataset.num_classes, dtype=np.float32)[dataset.train_labels]
  task = TaskLoss(
    settings.epochs,
    _batch_size(settings.batch_size, len(dataset.train_images), mesh.devices.size),
    settings.learning_rate,
    tuple(settings.decay_epochs),
    False,
    settings.steps_per_dispatch,
    resident_bytes,
  )
  return StitchPair(
    source,
    target,
    seams,
    pair,
    variables,
    dataset,
    fitted,
    tested,
    wanted,
    test_logits,
    settings,
    task,
    batch_size,
    seed,
    mesh,
  )


def _batch_size(wanted: int, images: int, devices: int) -> int:
  """The batch of task loss: as wanted, or as many images as there are, shared by the devices."""
  if wanted % devices:
    raise UserError(f"stitch.batch_size={wanted}: must be a multiple of the {devices} devices")
  return min(wanted, images - images % devices)


def _check_sizes(pair: Pair, seams: Taps, image_shape: Sequence[int]) -> None:
  """A 1x1 convolution joins taps of one spatial size."""
  sources, targets = pair.shapes(image_shape)
  for tap, end in seams:
    if tap >= len(sources):
      raise UserError(f"tap {tap}: the source has taps 0..{len(sources) - 1}")
    a, b = sources[tap][:2], targets[end][:2]
    if a != b and not pair.resize:
      raise UserError(
        f"tap {tap} of the source is {a[0]}x{a[1]} and tap {end} of the target {b[0]}x{b[1]}: "
        "stitches join taps of one size; --resize (stitch.resize in a config) resizes the source's"
      )


DIRECT: dict[str, Callable[[Moments, float], Stitch]] = {
  "identity": lambda m, ridge: maps.identity(m),
  "least_squares": maps.least_squares,
  "linear": lambda m, ridge: maps.least_squares(maps.about_origin(m), ridge),
  "orthogonal": lambda m, ridge: maps.orthogonal(m),
}
METHODS = (*DIRECT, "reduced_rank", "sparse", "task_loss")


def check_methods(methods: Sequence[str], rank: int, l1: float) -> None:
  """Raises UserError for a method that does not exist or lacks its number."""
  for name in methods:
    if name not in METHODS:
      raise UserError(f"methods={name!r}: choose from {', '.join(METHODS)}{nearest(name, METHODS)}")
  if rank < 0 or (rank == 0 and "reduced_rank" in methods):
    raise UserError(f"rank={rank}: reduced_rank needs a rank of at least 1")
  if l1 < 0 or not math.isfinite(l1):
    raise UserError(f"l1={l1}: must be a finite number of at least 0")


def solve(study: StitchPair, index: int, method: str, rank: int = 0, l1: float = 0.0) -> Stitch:
  """The stitch of one seam by one of `METHODS`.

  `l1` is a share of the smallest strength that makes the kernel zero for `sparse`, and the weight
  of the sum of absolute entries for `task_loss`.
  """
  m, ridge = study.fitted[index], study.settings.ridge
  most = min(m.xy.shape)
  if rank > most:
    raise UserError(f"rank={rank}: at tap {study.seams[index][0]} it must be in 1..{most}")
  if method == "task_loss":
    start = study.start(index, study.settings.start, study.seed)
    return study.train(index, start, rank=rank, l1=l1)
  if method == "reduced_rank":
    return maps.reduced_rank(m, rank)
  if method == "sparse":
    return maps.cut(_sparse(m, l1 * maps.largest_alpha(m)))
  return DIRECT[method](m, ridge)


_sparse = jax.jit(maps.sparse)
