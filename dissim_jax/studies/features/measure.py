"""What the last representations of two members hold together, and how far they can be compressed.

Gontijo-Lopes et al. 2022, "No one representation to rule them all", section 4.6 and Figure 6: a
linear classifier is fitted on features of both members. If a mixture of equal size beats either
member's own features, the members have learned overlapping features, none a superset of the other.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.data.augment import normalise
from dissim_jax.data.batches import batches
from dissim_jax.data.examples import balanced_part
from dissim_jax.data.pixels import check_images
from dissim_jax.errors import UserError
from dissim_jax.members.member import Member, Network
from dissim_jax.studies.context import Context
from dissim_jax.studies.features.choice import (
  diversity_order,
  linear_accuracy,
  share_features,
  standardise,
)

__all__ = [
  "diversity_order",
  "last_features",
  "linear_accuracy",
  "share_features",
  "standardise",
  "study_features",
]


@functools.partial(jax.jit, static_argnames="network")
def _features(network: Network, variables: Any, images: jax.Array) -> jax.Array:
  seen = []

  def keep(call, arguments, keywords, context):
    if isinstance(context.module, nn.Dense):
      seen.append(arguments[0])
    return call(*arguments, **keywords)

  with nn.intercept_methods(keep):
    network.model.apply(variables, normalise(images, network.mean, network.std))
  return seen[-1].astype(jnp.float32)


def last_features(member: Member, images: np.ndarray, batch_size: int) -> np.ndarray:
  """What a member's last dense layer, which gives the logits, sees of each image.

  In most networks the last tap after activation or norm, averaged over space.

  Args:
    member: a network whose head ends with a dense layer.
    images: uint8 `[N, H, W, C]`.
    batch_size: images at a time.

  Returns:
    float32 `[N, D]`.
  """
  check_images(images)
  features = [
    _features(member.network, member.variables, batch) for batch in batches(images, batch_size)
  ]
  return np.concatenate(jax.device_get(features))


def measure(
  context: Context, settings: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """`study_features` of some training images and the test images, by `settings.asked`."""
  data, config = context.dataset, context.config
  used = balanced_part(data.train_labels, settings["images"])
  values = study_features(
    context.members,
    context.sequences,
    data.train_images[used],
    data.train_labels[used],
    data.test_images,
    data.test_labels,
    batch_size=config.evaluate.batch_size,
    seed=config.seed,
    **{name: value for name, value in settings.items() if name != "images"},
  )
  return values, {}


def study_features(
  members: Sequence[Member],
  sequences: dict[str, list[str]],
  train_images: np.ndarray,
  train_labels: np.ndarray,
  test_images: np.ndarray,
  test_labels: np.ndarray,
  *,
  shares: Sequence[float],
  dimensions: Sequence[int],
  draws: int,
  regularisation: float,
  max_iter: int,
  batch_size: int,
  seed: int,
) -> dict[str, Any]:
  """Linear accuracy of the first two members' features, mixed and compressed, for every sequence.

  Mixed: `share_features` of every share, as wide as the narrower member. Compressed: all features
  of both, the first d in `diversity_order` (of the training images) or in random order. Features
  are standardised and classifiers fitted on the training images, without augmentation, and scored
  on the test images. Every sequence has the same random draws, so that sequences compare.

  Args:
    members: of all sequences.
    sequences: name of a sequence -> names of its members; those of one member are left out.
    train_images, test_images: uint8 `[N, H, W, C]`.
    train_labels, test_labels: integer `[N]`.
    shares: of the first member's features, each 0..1.
    dimensions: numbers of features kept; () for the powers of two up to all, and all.
    draws: random choices of features, at least 1.
    regularisation, max_iter: see `linear_accuracy`.
    batch_size: images at a time.
    seed: of the draws.

  Returns:
    A dictionary for JSON: "draws", "regularisation", "num_train", "num_test", "sequences": {name:
    {"a", "b" (the members), "width", "shares", "accuracy", "accuracy_std", "compression":
    {"dimensions", "diverse", "random", "random_std"}}}. Means and population standard deviations
    are over draws.

  Raises:
    UserError: a setting is out of range.
    ValueError: images, labels, members and sequences do not fit each other.
  """
  _check_settings(shares, dimensions, draws, regularisation, max_iter, batch_size)
  _check_labels("train_labels", train_labels, train_images)
  _check_labels("test_labels", test_labels, test_images)
  by_name = {member.name: member for member in members}
  pairs = {name: tuple(chosen[:2]) for name, chosen in sequences.items() if len(chosen) > 1}
  for name, pair in pairs.items():
    if not set(pair) <= set(by_name):
      raise ValueError(f"sequences[{name!r}]: {pair} must be of the members {list(by_name)}")
  features = {
    name: standardise(
      last_features(by_name[name], train_images, batch_size),
      last_features(by_name[name], test_images, batch_size),
    )
    for name in dict.fromkeys(name for pair in pairs.values() for name in pair)
  }
  fit = functools.partial(linear_accuracy, regularisation=regularisation, max_iter=max_iter)
  rows = {
    (a, b): {"a": a, "b": b}
    | _study_pair(
      features[a],
      features[b],
      train_labels,
      test_labels,
      fit,
      shares=shares,
      dimensions=dimensions,
      draws=draws,
      seed=seed,
    )
    for a, b in dict.fromkeys(pairs.values())
  }
  return {
    "draws": int(draws),
    "regularisation": float(regularisation),
    "num_train": len(train_labels),
    "num_test": len(test_labels),
    "sequences": {name: rows[pair] for name, pair in pairs.items()},
  }


def _study_pair(
  a: tuple[np.ndarray, np.ndarray],
  b: tuple[np.ndarray, np.ndarray],
  train_labels: np.ndarray,
  test_labels: np.ndarray,
  fit: Callable[..., float],
  *,
  shares: Sequence[float],
  dimensions: Sequence[int],
  draws: int,
  seed: int,
) -> dict[str, Any]:
  """The study of two members' standardised features (of training images, of test images)."""
  train, test = (np.concatenate(both, axis=1) for both in zip(a, b, strict=True))
  total, width = train.shape[1], min(a[0].shape[1], b[0].shape[1])
  dimensions = _dimensions(dimensions, total)

  @functools.cache  # Where all features of a member are taken, every draw is the same.
  def accuracy(columns: tuple[int, ...]) -> float:
    return fit(train[:, columns], train_labels, test[:, columns], test_labels)

  def scores(choices) -> np.ndarray:
    return np.array([[accuracy(tuple(np.sort(c).tolist())) for c in row] for row in choices])

  rng = np.random.default_rng(seed)
  mixed = scores(
    [[share_features(a[0], b[0], share, width, rng) for _ in range(draws)] for share in shares]
  )
  orders = [rng.permutation(total) for _ in range(draws)]
  kept = scores([[order[:size] for order in orders] for size in dimensions])
  order = diversity_order(a[0], b[0])
  diverse = scores([[order[:size]] for size in dimensions])[:, 0]
  return {
    "width": int(width),
    "shares": [float(share) for share in shares],
    "accuracy": mixed.mean(axis=1).tolist(),
    "accuracy_std": mixed.std(axis=1).tolist(),
    "compression": {
      "dimensions": dimensions,
      "diverse": diverse.tolist(),
      "random": kept.mean(axis=1).tolist(),
      "random_std": kept.std(axis=1).tolist(),
    },
  }


def _dimensions(asked: Sequence[int], total: int) -> list[int]:
  """The numbers of features that are kept, of `total`."""
  for size in asked:
    if size > total:
      raise UserError(f"dimensions={size}: the two members have {total} features")
  powers = [2**power for power in range(total.bit_length()) if 2**power < total]
  return [int(size) for size in asked] or [*powers, total]


def _check_settings(shares, dimensions, draws, regularisation, max_iter, batch_size) -> None:
  """Raises UserError naming the first argument whose value is not allowed."""
  for share in shares:
    if not 0 <= share <= 1:
      raise UserError(f"shares={share!r}: must be in 0..1")
  for size in dimensions:
    if size < 1 or size != int(size):
      raise UserError(f"dimensions={size!r}: must be whole numbers of at least 1")
  for name, value in (("draws", draws), ("max_iter", max_iter), ("batch_size", batch_size)):
    if value < 1:
      raise UserError(f"{name}={value!r}: must be at least 1")
  if not regularisation > 0:
    raise UserError(f"regularisation={regularisation!r}: must be above 0")


def _check_labels(name: str, labels: np.ndarray, images: np.ndarray) -> None:
  if np.shape(labels) != (len(images),) or not np.issubdtype(np.asarray(labels).dtype, np.integer):
    raise ValueError(
      f"{name}: shape {np.shape(labels)}, expected one integer for each of {len(images)} images"
    )
  if name == "train_labels" and len(np.unique(labels)) < 2:
    raise ValueError(f"{name}: {len(np.unique(labels))} classes, at least 2 are needed")
