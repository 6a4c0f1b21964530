"""A whole experiment: member after member, or all together, then the evaluation."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import ml_collections

from dissim_jax.config.check import check_config
from dissim_jax.config.values import plain
from dissim_jax.data import Dataset, load
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
from dissim_jax.registry.objectives import recipe
from dissim_jax.train.recipes import Trained

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
    elif plan.name not in frozen:
      alone = plan.group is None
      group = [plan] if alone else [other for other in plans if other.group == plan.group]
      for trained in recipe(plan.objective)(config, group, dataset, frozen, mesh):
        _save(trained)
        frozen[trained.planned.name] = _member(config, trained)
  return frozen


def _member(config: ml_collections.ConfigDict, trained: Trained) -> Member:
  """A member that was trained here."""
  mean, std = tuple(config.data.mean), tuple(config.data.std)
  return Member(trained.planned.name, trained.model, trained.variables, mean, std)


def _save(trained: Trained) -> None:
  """Writes a trained member, and whom it was trained against or with."""
  planned = trained.planned
  facts = trained.facts | {
    "objective": planned.objective,
    "devices": jax.device_count(),
    "teachers": [os.path.relpath(t.directory, planned.directory) for t in planned.teachers],
    "parameters": sum(x.size for x in jax.tree.leaves(trained.variables["params"])),
  }
  member_files.save_member(planned.directory, trained.variables, facts)
