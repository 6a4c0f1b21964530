"""A whole experiment: member after member, or all together, then the evaluation."""

import contextlib
import functools
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections

from dissim_jax.config.check import check_config
from dissim_jax.config.ensemble import member_seed
from dissim_jax.config.values import plain
from dissim_jax.data import Dataset, load
from dissim_jax.data.augment import normalise
from dissim_jax.data.examples import balanced_part
from dissim_jax.distributed import devices, processes
from dissim_jax.experiment.checks import check_dataset
from dissim_jax.experiment.linear_taps import check_first_tap
from dissim_jax.experiment.measure import evaluate
from dissim_jax.files import layout
from dissim_jax.files.atomic import write_json
from dissim_jax.files.workdir import check_workdir, locked
from dissim_jax.members import store as member_files
from dissim_jax.members.member import Member
from dissim_jax.members.plan import PlannedMember, make_plan
from dissim_jax.models import Layered
from dissim_jax.registry.objectives import DISTILL
from dissim_jax.train import joint
from dissim_jax.train.losses import Distillation
from dissim_jax.train.monitor import make_monitor
from dissim_jax.train.penalty import make_penalty
from dissim_jax.train.step import train_member

_log = logging.getLogger(__name__)


def run(config: ml_collections.ConfigDict, workdir: str | Path, command: str = "") -> dict:
  """Trains and measures an experiment; goes on where an earlier call stopped.

  Args:
    config: see `config/blocks.py`.
    workdir: a new folder, or that of an earlier run of the same config. The caller keeps other
      processes out of it, see `files.workdir.locked`.
    command: how the user started it, for the report.

  Returns:
    What `evaluation/metrics.json` holds.

  Raises:
    UserError: something that the user can mend; nothing was overwritten.
    Stopped: the process was told to stop; the same call goes on.
  """
  began, workdir = time.monotonic(), Path(workdir)
  dataset, plans, sequences, notes = _prepare(config, workdir)
  with _claimed(config, workdir, command):
    frozen = _train_missing(config, dataset, plans)
    metrics = evaluate(config, workdir, dataset, plans, sequences, frozen)
    metrics["notes"] = notes
    metrics["seconds"] = time.monotonic() - began
    write_json(workdir / layout.EVALUATION / "metrics.json", metrics)
  return metrics


def train(config: ml_collections.ConfigDict, workdir: str | Path, command: str = "") -> None:
  """The part of `run` that several processes do together: trains the members."""
  workdir = Path(workdir)
  dataset, plans, _, _ = _prepare(config, workdir)
  with _claimed(config, workdir, command):
    _train_missing(config, dataset, plans)


@contextlib.contextmanager
def _claimed(config: ml_collections.ConfigDict, workdir: Path, command: str) -> Iterator[None]:
  """Makes the folder that of this experiment, written by these processes alone.

  Raises:
    UserError: see `check_workdir`.
    BusyError: another process works there.
  """
  with contextlib.ExitStack() as stack:

    def claim():
      check_workdir(config, workdir)
      stack.enter_context(locked(workdir))
      if not check_workdir(config, workdir):
        write_json(workdir / layout.CONFIG, plain(config) | {"command": command})

    processes.first_does(claim)
    yield


def _prepare(
  config: ml_collections.ConfigDict, workdir: Path
) -> tuple[Dataset, list[PlannedMember], dict[str, list[str]], list[str]]:
  """Data, members and sequences of an experiment, checked, and what the user is to know of them.

  Nothing is written.
  """
  check_config(config)
  plans, sequences = make_plan(config, workdir)
  dataset = load(config.data)
  check_dataset(config, dataset, plans)
  notes = check_first_tap(config, dataset, plans)
  for note in notes if jax.process_index() == 0 else ():
    _log.warning("%s", note)
  return dataset, plans, sequences, notes


def _train_missing(
  config: ml_collections.ConfigDict, dataset: Dataset, plans: list[PlannedMember]
) -> dict[str, Member]:
  """Trains the members that are not yet done; all of them, by name."""
  mesh = devices.make_mesh()
  frozen: dict[str, Member] = {}
  for plan in plans:
    if plan.reused or member_files.is_done(plan.directory):
      frozen[plan.name] = member_files.load_member(
        plan.name, plan.directory, config.dtype, mesh, plan.name
      )
    elif plan.group is None:
      frozen[plan.name] = _train(config, plan, dataset, frozen, mesh)
    elif plan.name not in frozen:
      group = [other for other in plans if other.group == plan.group]
      frozen |= _train_group(config, group, dataset, mesh)
  return frozen


def _train(
  config: ml_collections.ConfigDict,
  plan: PlannedMember,
  dataset: Dataset,
  frozen: dict[str, Member],
  mesh: jax.sharding.Mesh,
) -> Member:
  """Trains a member by itself."""
  facts = member_files.planned_facts(config, dataset, plan.model)
  model = member_files.build_model(facts, member_files.compute_dtype(config.dtype))
  teachers = [frozen[teacher.name] for teacher in plan.teachers]
  steps = len(dataset.train_labels) // config.train.batch_size
  models = tuple(teacher.model for teacher in teachers)
  penalty = distillation = None
  if plan.objective == DISTILL:
    distillation = Distillation(models[0], config.objective.teacher_share)
  else:
    penalty = make_penalty(config, model, models, steps)
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
    tuple(teacher.variables for teacher in teachers),
    dataset,
    monitor,
    mesh,
    plan.directory,
    member_seed(config.seed, plan.index),
    distillation,
  )
  _save(plan, variables, facts | {"train_seconds": seconds})
  return _member(config, plan, model, variables)


def _train_group(
  config: ml_collections.ConfigDict,
  group: list[PlannedMember],
  dataset: Dataset,
  mesh: jax.sharding.Mesh,
) -> dict[str, Member]:
  """Trains members together; by name.

  Each is said to have taken its share of the time.
  """
  facts = [member_files.planned_facts(config, dataset, plan.model) for plan in group]
  dtype = member_files.compute_dtype(config.dtype)
  models = [member_files.build_model(own, dtype) for own in facts]
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
    group[0].objective,
    models,
    dataset,
    monitor,
    mesh,
    group[0].group,
    [member_seed(config.seed, plan.index) for plan in group],
  )
  own = {"objective_weight": config.objective.weight, "train_seconds": seconds / len(group)}
  for plan, member, planned in zip(group, variables, facts, strict=True):
    _save(plan, member, planned | own)
  return {
    plan.name: _member(config, plan, model, member)
    for plan, model, member in zip(group, models, variables, strict=True)
  }


def _member(
  config: ml_collections.ConfigDict, plan: PlannedMember, model: Layered, variables: Any
) -> Member:
  """A member that was trained here."""
  return Member(plan.name, model, variables, tuple(config.data.mean), tuple(config.data.std))


def _save(plan: PlannedMember, variables: Any, facts: dict) -> None:
  """Writes a trained member, and whom it was trained against or with."""
  facts |= {
    "objective": plan.objective,
    "devices": jax.device_count(),
    "teachers": [os.path.relpath(t.directory, plan.directory) for t in plan.teachers],
    "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
  }
  member_files.save_member(plan.directory, variables, facts)


def _preprocess(config: ml_collections.ConfigDict):
  """From uint8 images to the networks' input, without augmentation."""
  return functools.partial(normalise, mean=config.data.mean, std=config.data.std)
