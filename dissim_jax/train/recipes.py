"""How members are trained by objective: `registry.objectives` names a recipe for each.

A recipe takes `(config, planned, dataset, frozen, mesh)`: the members that are trained at once, and
by name those that are trained already. It returns what `Trained` holds of each. A recipe that is
stopped goes on where its last checkpoint is.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from dissim_jax.data import Dataset
from dissim_jax.data.augment import normalise
from dissim_jax.data.examples import balanced_part
from dissim_jax.members import store
from dissim_jax.members.member import Member
from dissim_jax.members.plan import PlannedMember
from dissim_jax.models import Layered
from dissim_jax.seeds import folded
from dissim_jax.train import joint
from dissim_jax.train.losses import Distillation
from dissim_jax.train.monitor import make_monitor
from dissim_jax.train.penalty import Penalty, make_penalty
from dissim_jax.train.step import train_member


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
  """A member that was trained, with the facts that are kept of it."""

  planned: PlannedMember
  model: Layered
  variables: Any
  facts: dict[str, Any]


def member_seed(seed: int, index: int) -> int:
  """The seed of the member at a place of the sequence, a non-negative int32."""
  return int(np.random.SeedSequence([folded(seed), index]).generate_state(1)[0] >> 1)


def sequential(
  config: ml_collections.ConfigDict,
  planned: Sequence[PlannedMember],
  dataset: Dataset,
  frozen: Mapping[str, Member],
  mesh: jax.sharding.Mesh,
) -> list[Trained]:
  """One member, against its frozen teachers if it has any (Wald et al. 2023, section 3)."""
  (one,) = planned
  facts, model = _model(config, dataset, one)
  models = tuple(frozen[teacher.name].model for teacher in one.teachers)
  penalty = make_penalty(config, model, models, _steps(config, dataset))
  return [_alone(config, one, dataset, frozen, mesh, facts, model, penalty, None)]


def distill(
  config: ml_collections.ConfigDict,
  planned: Sequence[PlannedMember],
  dataset: Dataset,
  frozen: Mapping[str, Member],
  mesh: jax.sharding.Mesh,
) -> list[Trained]:
  """One member, in part by its teacher's hard labels."""
  (one,) = planned
  facts, model = _model(config, dataset, one)
  teacher = frozen[one.teachers[0].name].model
  share = Distillation(teacher, config.objective.teacher_share)
  return [_alone(config, one, dataset, frozen, mesh, facts, model, None, share)]


def jointly(
  config: ml_collections.ConfigDict,
  planned: Sequence[PlannedMember],
  dataset: Dataset,
  frozen: Mapping[str, Member],  # noqa: ARG001
  mesh: jax.sharding.Mesh,
) -> list[Trained]:
  """All members together (Rosales et al. 2023); each has taken its share of the time."""
  group = planned[0].group
  assert group is not None  # Those that are trained together have a folder in common.
  facts, models = zip(*(_model(config, dataset, one) for one in planned), strict=True)
  shown = balanced_part(dataset.validation_labels, config.train.monitor_images)
  monitor = joint.make_joint_monitor(
    models,
    _preprocess(config),
    dataset.validation_images[shown],
    dataset.validation_labels[shown],
    config.evaluate.batch_size,
  )
  variables, seconds = joint.train_jointly(
    config,
    planned[0].objective,
    models,
    dataset,
    monitor,
    mesh,
    group,
    [member_seed(config.seed, one.index) for one in planned],
  )
  shared_facts = {
    "objective_weight": config.objective.weight,
    "train_seconds": seconds / len(planned),
  }
  return [
    Trained(one, model, member, fact | shared_facts)
    for one, model, member, fact in zip(planned, models, variables, facts, strict=True)
  ]


def _alone(
  config: ml_collections.ConfigDict,
  one: PlannedMember,
  dataset: Dataset,
  frozen: Mapping[str, Member],
  mesh: jax.sharding.Mesh,
  facts: dict[str, Any],
  model: Layered,
  penalty: Penalty | None,
  distillation: Distillation | None,
) -> Trained:
  """A member by itself; validation images, or else training images, are shown after epochs."""
  held_out = len(dataset.validation_labels) > 0
  images, labels = (
    (dataset.validation_images, dataset.validation_labels)
    if held_out
    else (dataset.train_images, dataset.train_labels)
  )
  shown = balanced_part(labels, config.train.monitor_images)
  monitor = make_monitor(
    model,
    penalty,
    _preprocess(config),
    images[shown],
    labels[shown],
    config.evaluate.batch_size,
    held_out,
  )
  variables, seconds = train_member(
    config,
    model,
    penalty,
    tuple(frozen[teacher.name].variables for teacher in one.teachers),
    dataset,
    monitor,
    mesh,
    one.directory,
    member_seed(config.seed, one.index),
    distillation,
  )
  return Trained(one, model, variables, facts | {"train_seconds": seconds})


def _model(
  config: ml_collections.ConfigDict, dataset: Dataset, one: PlannedMember
) -> tuple[dict[str, Any], Layered]:
  """What is kept of a member, and its architecture."""
  facts = store.planned_facts(config, dataset, one.model)
  return facts, store.build_model(facts, store.compute_dtype(config.dtype))


def _steps(config: ml_collections.ConfigDict, dataset: Dataset) -> int:
  """In an epoch."""
  return len(dataset.train_labels) // config.train.batch_size


def _preprocess(config: ml_collections.ConfigDict):
  """From uint8 images to the networks' input, without augmentation."""
  return functools.partial(normalise, mean=config.data.mean, std=config.data.std)
