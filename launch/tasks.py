"""From the entries of a sweep to tasks: folders, commands, and how much there is to train.

`<root>/sweep.json` holds the tasks; it is what `dissim_jax.collect` knows of runs that are missing.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from dissim_jax.config.ensemble import member_names, training_folders
from dissim_jax.config.source import canonical
from dissim_jax.config.values import plain
from dissim_jax.errors import UserError
from dissim_jax.files import layout
from dissim_jax.files.atomic import is_part, read_json, write_json
from dissim_jax.launch import commands
from dissim_jax.launch.sweep import Comparison, Entry, Run
from dissim_jax.names import nearest
from dissim_jax.registry.measures import check_comparable

PLAN = layout.SWEEP
_DONE = {"run": layout.REPORT_PAGE, "comparison": layout.COMPARISON_PAGE}  # written last


@dataclasses.dataclass(frozen=True)
class Task:
  """One process to start.

  Attributes:
    name: of the run or comparison.
    kind: "run" or "comparison".
    argv: the arguments of the Python interpreter, e.g. `("-m", "dissim_jax.main", …)`.
    needs: names of the tasks that must be finished before.
    config: every field of a run's config; empty for a comparison.
    trainings: folder of each training of a run and how many models it trains, in order.
  """

  name: str
  kind: str
  argv: tuple[str, ...]
  needs: tuple[str, ...] = ()
  config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  trainings: Mapping[str, int] = dataclasses.field(default_factory=dict)

  @property
  def models(self) -> int:
    """How many models it trains."""
    return sum(self.trainings.values())

  @property
  def epochs(self) -> int:
    """Passes over the training images of each training."""
    return self.config["train"]["epochs"] if self.config else 0


def folder(task: Task, root: Path) -> Path:
  """Where the results of a task are."""
  return root / task.name


def is_done(task: Task, root: Path) -> bool:
  """Whether the last file that the task writes is there."""
  return (folder(task, root) / _DONE[task.kind]).is_file()


def make_tasks(entries: Sequence[Entry], root: Path, overrides: Sequence[str] = ()) -> list[Task]:
  """The tasks of a checked sweep, in its order.

  Args:
    entries: from `sweep.load`.
    root: an absolute path; the run named n works in root/n.
    overrides: "field=value" for all runs, after their own.

  Raises:
    UserError: a config that cannot be built or used, a teacher or member that no run has; the run
      is named.
  """
  for_all = dict(_split(override) for override in overrides)
  configs: dict[str, ml_collections.ConfigDict] = {}
  teachers: dict[str, tuple[str, ...]] = {}  # of each run, "run/member" as trained
  tasks = []
  for entry in entries:
    if isinstance(entry, Comparison):
      _check_comparison(entry, configs)
      folders = [root / name for name in entry.runs]
      argv = commands.for_comparison(folders, entry.measures, entry.members, root / entry.name)
      tasks.append(Task(entry.name, "comparison", tuple(argv), entry.needs))
      continue
    values = {**entry.overrides, **for_all}
    teachers[entry.name] = tuple(_trained(entry, configs, teachers))
    if entry.teachers:
      if "ensemble.teachers" in values:
        raise UserError(f"run {entry.name!r}: give teachers or ensemble.teachers, not both")
      values["ensemble.teachers"] = tuple(str(root / member) for member in teachers[entry.name])
    argv, config = commands.for_run(entry.name, entry.config, values, root / entry.name)
    configs[entry.name] = config
    needs = dict.fromkeys(member.rpartition("/")[0] for member in teachers[entry.name])
    values = plain(config)
    task = Task(entry.name, "run", tuple(argv), tuple(needs), values, training_folders(config))
    tasks.append(task)
  return tasks


def _split(override: str) -> tuple[str, str]:
  """(field, text) of "field=value" as given on the command line."""
  field, sign, text = override.partition("=")
  if not sign or not field:
    raise UserError(f"--override={override!r}: give FIELD=VALUE")
  return field, text


def _trained(
  entry: Run, configs: Mapping[str, Any], teachers: Mapping[str, tuple[str, ...]]
) -> Iterator[str]:
  """'run/member' that trained each teacher of a run: the run that is named may itself reuse it."""
  for teacher in entry.teachers:
    run, _, member = teacher.rpartition("/")
    names = member_names(configs[run])
    if member not in names:
      raise UserError(
        f"run {entry.name!r}: teachers={teacher!r}: {run!r} has the members {', '.join(names)}"
      )
    reused = {f"member_{i}": origin for i, origin in enumerate(teachers[run])}
    yield reused.get(member, teacher)


def _check_comparison(entry: Comparison, configs: Mapping[str, Any]) -> None:
  """Its measures must exist, and its members be of one of its runs."""
  try:
    for name in entry.measures:
      check_comparable(name)
  except UserError as error:
    reason = str(error).replace("--measures", "measures", 1)
    raise UserError(f"comparison {entry.name!r}: {reason}") from error
  known = list(dict.fromkeys(name for run in entry.runs for name in member_names(configs[run])))
  for member in entry.members:
    if member.rpartition(":")[2] not in known:
      raise UserError(
        f"comparison {entry.name!r}: members={member!r}: its runs have "
        f"{', '.join(known)}{nearest(member, known)}"
      )


def check_root(name: str, tasks: Sequence[Task], root: Path) -> None:
  """Whether the root is new, or this sweep's.

  Raises:
    UserError: it is another sweep's, has other files, or a run of that name with other settings.
  """
  try:
    old = read_plan(root)
    if old is None and root.exists() and not all(map(is_part, os.listdir(root))):
      raise UserError(
        f"--root={str(root)!r}: it holds no {PLAN} but is not empty; choose a new folder or one of "
        "the same sweep"
      )
  except OSError as error:
    raise UserError(f"--root={str(root)!r}: cannot be read ({error.strerror or error})") from error
  if old is not None:
    _check_same(name, tasks, *old, root)


def save_plan(name: str, tasks: Sequence[Task], root: Path) -> None:
  """Writes `sweep.json`; runs of an earlier plan that are not among the tasks stay in it.

  Raises:
    UserError: see `check_root`, or the root cannot be written; nothing was overwritten.
  """
  check_root(name, tasks, root)
  old = (read_plan(root) or ("", []))[1]
  plan = list(({task.name: task for task in old} | {task.name: task for task in tasks}).values())
  if plan == old:
    return  # Nothing is written in vain: the disk may be full.
  values = {"sweep": name, "tasks": [dataclasses.asdict(task) for task in plan]}
  try:
    write_json(root / PLAN, values)
  except OSError as error:
    raise UserError(
      f"--root={str(root)!r}: cannot be written ({error.strerror or error})"
    ) from error


def read_plan(root: Path) -> tuple[str, list[Task]] | None:
  """Name and tasks of the sweep that a root belongs to; None if there is none.

  Raises:
    UserError: the file is damaged.
  """
  path = root / PLAN
  if not path.exists():
    return None
  try:
    values = read_json(path)
    tasks = [
      Task(**task | {"argv": tuple(task["argv"]), "needs": tuple(task["needs"])})
      for task in values["tasks"]
    ]
    return values["sweep"], tasks
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f"{str(path)!r} cannot be read; move it away to start again") from error


def _check_same(
  name: str, tasks: Sequence[Task], old_name: str, old_tasks: Sequence[Task], root: Path
) -> None:
  """A root holds one sweep, whose runs keep what they are; new ones may be added."""
  if old_name != name:
    raise UserError(f"--root={str(root)!r}: it belongs to the sweep {old_name!r}, this is {name!r}")
  old = {task.name: task for task in old_tasks}
  for task in tasks:
    differ = _differences(old.get(task.name, task), task)
    if differ:
      raise UserError(
        f"--root={str(root)!r}: its run {task.name!r} was made with other settings "
        f"({', '.join(differ)}); choose a new root"
      )


def _differences(old: Task, new: Task) -> list[str]:
  """Arguments, or else fields of the config file, that differ; a field that is new does not."""
  differ = sorted(set(old.argv) ^ set(new.argv))
  if differ:
    return differ
  before, now = dict(_flat(old.config)), dict(_flat(new.config))
  return [
    f"{field}: {before[field]!r} there, {now[field]!r} now"
    for field in before
    if field in now and canonical(field, before[field]) != canonical(field, now[field])
  ]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """(dotted field, value) of everything in a config."""
  for field, value in config.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f"{prefix}{field}.")
    else:
      yield prefix + field, value
