"""The regularisation of one member against the frozen members before it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import optax

from dissim_jax.distributed import devices
from dissim_jax.models import Layered, matching_tap, resized
from dissim_jax.similarity import MEASURES
from dissim_jax.train import losses, projections
from dissim_jax.train.optimizer import make_optimizer
from dissim_jax.train.projections import Projection


@dataclasses.dataclass(frozen=True)
class Penalty:
  """The regularisation of one member: against whom, where, by what measure and how strongly.

  Attributes:
    teachers: the architectures of the earlier members; their variables go into every step.
    taps: the regularised taps of the new member.
    teacher_taps: for each teacher its taps that belong to these.
    similarity: f(targets, predictions) -> scalar, see `losses.mean_similarity`.
    projection: how the earlier members' taps predict the new member's.
    weight: lambda as a function of the step.
  """

  teachers: tuple[Layered, ...]
  taps: tuple[int, ...]
  teacher_taps: tuple[tuple[int, ...], ...]
  similarity: Callable
  projection: Projection
  weight: optax.Schedule


def make_projection(config: ml_collections.ConfigDict, steps_per_epoch: int) -> Projection:
  """The projection that a config asks for; none where the measure needs no aligned channels."""
  settings = config.dissim.projection
  if not MEASURES[config.dissim.metric].aligned:
    return projections.identity(combine=config.dissim.combine)
  if settings.name == "least_squares":
    return projections.least_squares(ridge=settings.ridge, axis_name=devices.BATCH_AXIS)
  optimizer_config = ml_collections.ConfigDict(config.optimizer)
  for field in optimizer_config:
    if settings.optimizer[field] is not None:
      optimizer_config[field] = settings.optimizer[field]
  each = steps_per_epoch * settings.inner_steps
  return projections.learned(
    make_optimizer(optimizer_config, config.train.epochs * each, each),
    inner_steps=settings.inner_steps,
  )


def make_penalty(
  config: ml_collections.ConfigDict,
  model: Layered,
  teachers: tuple[Layered, ...],
  steps_per_epoch: int,
) -> Penalty | None:
  """The regularisation of `model` that a config asks for; None without teachers or lambda."""
  dissim = config.dissim
  if not teachers or dissim.weight == 0:
    return None
  options = dissim.options[dissim.metric].to_dict()
  start = dissim.warmup_start_epoch * steps_per_epoch
  return Penalty(
    teachers,
    tuple(dissim.taps),
    tuple(
      tuple(matching_tap(tap, model, teacher, dissim.match) for tap in dissim.taps)
      for teacher in teachers
    ),
    losses.mean_similarity(dissim.metric, options, devices.BATCH_AXIS),
    make_projection(config, steps_per_epoch),
    losses.penalty_weight(dissim.weight, start, dissim.warmup_steps),
  )


def teacher_taps(
  penalty: Penalty, teachers: Sequence[Any], images: jax.Array, targets: Sequence[jax.Array]
) -> list[list[jax.Array]]:
  """`[tap][teacher]` representations of the frozen members, in eval mode, only up to the last tap.

  Where a teacher of another architecture has another spatial size than the new member's taps
  `targets`, it is resized to theirs; channels are the projection's business.
  """
  per_teacher = []
  for model, variables, chosen in zip(
    penalty.teachers, teachers, penalty.teacher_taps, strict=True
  ):
    taps = model.apply(variables, images, max(chosen), method="taps")
    per_teacher.append(
      [resized(taps[tap], target.shape[1:3]) for tap, target in zip(chosen, targets, strict=True)]
    )
  return [list(sources) for sources in zip(*jax.lax.stop_gradient(per_teacher), strict=True)]
