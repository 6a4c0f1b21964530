"""Whether a first tap can be dissimilar at all, or earlier members determine it whatever it does.

Layers after the first begin with the activation of their input (see `models.layered`), so that the
first tap alone can be linear in the image (affine, strictly): a convolution and batch norm, or an
embedding of patches. A position of it sees D pixel values x, U's channels there are A x + a, T's
B x + b. Once the rows of B span all D dimensions, as those of D channels or more do but for
coincidences, A x + a is an affine function of T's channels for every A: the best projection
predicts U perfectly, and a similarity that allows for a linear map stays at its highest value.

Which architectures are so is not listed but tried: the first layers are given weights without
coincidences and shown noise, and what a least-squares fit leaves over is rounding or it is not.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from dissim_jax.data import Dataset
from dissim_jax.errors import UserError
from dissim_jax.members import store as member_files
from dissim_jax.members.plan import PlannedMember
from dissim_jax.models import Layered, matching_tap, resized
from dissim_jax.registry.objectives import SEQUENTIAL
from dissim_jax.similarity import MEASURES

# Shares of variance. Rounding in float32 leaves 1e-13 over; one dimension of the 147 that the
# largest convolution sees, 1e-3.
_ROUNDING = 1e-5
_LITTLE = 0.5
_CUTOFF = 1e-10  # of the largest eigenvalue of a covariance: what is below is rounding
_MOST_TARGETS = 64  # channels of the new member that are looked at
_SAMPLES = 4  # a channel of the earlier members


class FirstTap(NamedTuple):
  """What first layers with random weights do to noise.

  Attributes:
    linear: whether the new member's is affine in the image.
    channels: of the earlier members, that predict it.
    left_over: the share of its variance that they do not predict, 0..1.
  """

  linear: bool
  channels: int
  left_over: float


def check_first_tap(
  config: ml_collections.ConfigDict, dataset: Dataset, plans: Sequence[PlannedMember]
) -> list[str]:
  """Sentences on members whose first tap is to be dissimilar where little or nothing of it can be.

  Raises:
    UserError: nothing of it can, and no such member has been begun.
  """
  dissim, sentences = config.dissim, {}
  measure = MEASURES[dissim.metric]
  if 0 not in dissim.taps or not measure.up_to_linear:
    return []
  apart = dissim.combine == "mean" and not measure.aligned  # else teachers are one representation
  for plan in plans:
    if plan.reused or plan.objective != SEQUENTIAL or not plan.teachers:
      continue
    model = _model(config, dataset, plan)
    teachers = [(teacher.name, _model(config, dataset, teacher)) for teacher in plan.teachers]
    first = [pair for pair in teachers if not matching_tap(0, model, pair[1], dissim.match)]
    if not first or (apart and len(first) < len(teachers)):
      continue
    fit = first_tap(model, [other for _, other in first], dataset.image_shape, apart=apart)
    if fit.linear and fit.left_over < _ROUNDING and not plan.directory.exists():
      raise UserError(_sentence(config, dataset, plan, first, model, fit))
    if fit.left_over < _LITTLE:
      sentences[fit] = _sentence(config, dataset, plan, first, model, fit)
  return list(sentences.values())


def _model(config: ml_collections.ConfigDict, dataset: Dataset, plan: PlannedMember) -> Layered:
  facts = (
    member_files.read_facts(plan.directory, "ensemble.teachers")
    if plan.reused
    else member_files.planned_facts(config, dataset, plan.model)
  )
  return member_files.build_model(facts, jnp.float32)


def _sentence(config, dataset, plan, first, model, fit: FirstTap) -> str:
  """What the user is to know of a member; `first` has the names and networks that predict it."""
  names = " and ".join(name for name, _ in first)
  start = (
    f"dissim.taps={list(config.dissim.taps)}: tap 0 of {plan.model} is "
    f"{'' if fit.linear else 'nearly '}linear in the image, and the {fit.channels} channels of "
    f"{names} there"
  )
  if fit.linear and fit.left_over < _ROUNDING:
    return (
      f"{start} determine all {pixels_seen(model, dataset.image_shape)} pixel values that a "
      f"position of it sees, so {plan.name} cannot be dissimilar there; choose among taps "
      f"1..{len(model.layers) - 1}"
    )
  return (
    f"{start} predict R² = {1 - fit.left_over:.2f} of it even with random weights: {plan.name} "
    "can be dissimilar only in what they leave over"
  )


def first_tap(
  model: Layered, others: Sequence[Layered], image_shape: Sequence[int], *, apart: bool = False
) -> FirstTap:
  """Whether the first taps of other networks determine that of a network, for images `[H, W, C]`.

  With `apart` each of them has to do so by itself, else all their channels together.
  """
  rng = np.random.default_rng(0)
  layers = [network.layers[0] for network in (model, *others)]
  weights = [_generic(layer, rng, image_shape) for layer in layers]
  shapes = [_shape(layer, image_shape) for layer in layers]
  channels = sum(shape[-1] for shape in shapes[1:])
  count = math.ceil(_SAMPLES * channels / (2 * math.prod(shapes[0][1:3])))
  a, b = rng.normal(size=(2, count, *image_shape))
  images = np.concatenate([a, b, a + b, np.zeros_like(a[:1])]).astype(np.float32)
  outputs = map(functools.partial(_outputs, images=images), layers, weights)
  target, *taps = jax.device_get(list(outputs))
  of_a, of_b, of_both, of_nothing = np.split(target, [count, 2 * count, 3 * count])
  off = np.mean((of_a + of_b - of_nothing - of_both) ** 2) / np.var(of_both)
  sources = [resized(tap[: 2 * count], target.shape[1:3]) for tap in taps]
  sets = [[source] for source in sources] if apart else [sources]
  left_over = max(_left_over(target[: 2 * count], each) for each in sets)
  return FirstTap(bool(off < _ROUNDING), channels, left_over)


def pixels_seen(model: Layered, image_shape: Sequence[int]) -> int:
  """How many values of an image `[H, W, C]` the middle position of a linear first tap sees."""
  layer, rng = model.layers[0], np.random.default_rng(0)
  weights = _generic(layer, rng, image_shape)

  def middle(image):
    output = _outputs(layer, weights, image[None])[0]
    return output[output.shape[0] // 2, output.shape[1] // 2].sum()

  gradient = jax.jit(jax.grad(middle))(np.zeros(image_shape, np.float32))
  return int(np.count_nonzero(gradient))


def _shape(layer: nn.Module, image_shape: Sequence[int]) -> tuple[int, ...]:
  make = lambda image: layer.init_with_output(jax.random.key(0), image, False)[0]  # noqa: E731
  return jax.eval_shape(make, _one_image(image_shape)).shape


def _one_image(image_shape: Sequence[int]) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)


def _generic(layer: nn.Module, rng: np.random.Generator, image_shape: Sequence[int]) -> dict:
  """Weights without coincidences: those that start equal, at zero or one, are drawn as well."""
  init = lambda image: layer.init(jax.random.key(0), image, False)  # noqa: E731
  shapes = dict(jax.eval_shape(init, _one_image(image_shape)))
  drawn = lambda leaf: rng.normal(size=leaf.shape).astype(np.float32)  # noqa: E731
  statistics = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
  return statistics | {"params": jax.tree.map(drawn, shapes["params"])}


@functools.partial(jax.jit, static_argnames="layer")
def _outputs(layer: nn.Module, weights: dict, images: jax.Array) -> jax.Array:
  # Full precision: an accelerator's short products would pass for something left over.
  with jax.default_matmul_precision("highest"):
    return layer.apply(weights, images, False)


def _left_over(target: jax.Array, sources: Sequence[jax.Array]) -> float:
  """The share of the variance of channels that an affine map of others leaves over: mean 0..1."""
  y = np.asarray(target, np.float64).reshape(-1, target.shape[-1])[:, :_MOST_TARGETS]
  x = np.concatenate([np.asarray(source, np.float64).reshape(len(y), -1) for source in sources], 1)
  x, y = x - x.mean(0), y - y.mean(0)
  values, vectors = np.linalg.eigh(x.T @ x)
  known = values > _CUTOFF * values[-1]
  scores = (x @ vectors[:, known]) / np.sqrt(values[known])
  rest = y - scores @ (scores.T @ y)
  return float(np.mean(np.sum(rest**2, 0) / np.sum(y**2, 0)))
