"""From the entries of a sweep to tasks: folders, commands, and how much there is to train.

`<root>/sweep.json` holds the tasks; it is what `dissim_jax.collect` knows of runs that are missing.
"""

import ast
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from dissim_jax.errors import UserError
from dissim_jax.names import nearest
from dissim_jax.plan import member_names, training_folders
from dissim_jax.records import read_json, write_json
from dissim_jax.validate import check_config
from launch.sweep import Comparison, Entry, Run

PLAN = "sweep.json"
_DONE = {"run": "report/report.html", "comparison": "comparison.html"}  # written last


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


def make_tasks(
  entries: Sequence[Entry], root: Path, overrides: Sequence[str] = ()
) -> list[Task]:
  """The tasks of a checked sweep, in its order.

  Args:
    entries: from `sweep.load`.
    root: an absolute path; the run named n works in root/n.
    overrides: "field=value" for all runs, after their own.

  Raises:
    UserError: a config that cannot be built or used; the run is named.
  """
  runs = {entry.name: entry for entry in entries if isinstance(entry, Run)}
  for_all = dict(_parsed(override) for override in overrides)
  configs: dict[str, ml_collections.ConfigDict] = {}
  loaded: dict[str, ml_collections.ConfigDict] = {}
  tasks = []
  for entry in entries:
    if isinstance(entry, Comparison):
      tasks.append(_comparison(entry, root))
      continue
    if entry.config not in loaded:
      loaded[entry.config] = _load_config(entry)
    values = {**entry.overrides, **for_all}
    if entry.teachers:
      if "ensemble.teachers" in values:
        raise UserError(f"run {entry.name!r}: give teachers or ensemble.teachers, not both")
      owners = [_owner(teacher, entry, runs, configs) for teacher in entry.teachers]
      values["ensemble.teachers"] = tuple(str(root / owner) for owner in owners)
      entry = dataclasses.replace(entry, teachers=tuple(owners))
    configs[entry.name] = config = _override(entry, loaded[entry.config], values)
    argv = ["-m", "dissim_jax.main", f"--config={entry.config}"]
    argv += [f"--config.{field}={_text(value)}" for field, value in values.items()]
    argv.append(f"--workdir={root / entry.name}")
    values = json.loads(json.dumps(config.to_dict()))
    task = Task(entry.name, "run", tuple(argv), entry.needs, values, training_folders(config))
    tasks.append(task)
  return tasks


def _comparison(entry: Comparison, root: Path) -> Task:
  argv = ["-m", "dissim_jax.compare", *(f"--workdir={root / name}" for name in entry.runs)]
  argv += [f"--measures={','.join(entry.measures)}", f"--out={root / entry.name}"]
  if entry.members:
    argv.append(f"--members={','.join(entry.members)}")
  return Task(entry.name, "comparison", tuple(argv), entry.needs)


def _load_config(entry: Run) -> ml_collections.ConfigDict:
  """The base config of a run, read as the command line reads it."""
  values = flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values)
  if not Path(entry.config.split(":")[0]).is_file():
    raise UserError(f"run {entry.name!r}: config={entry.config!r}: there is no such file")
  try:
    values(["launch", f"--config={entry.config}"])
    values.config.keys()  # A file that could not be read complains only when used.
    return values.config
  except Exception as error:  # The config file is the user's Python.
    told = f"{type(error).__name__}: {error}".splitlines()[0]
    where = f"run {entry.name!r}: config={entry.config!r}"
    raise UserError(f"{where} cannot be loaded: {told}") from error


def _parsed(override: str) -> tuple[str, Any]:
  """(field, value) of "field=value" as given on the command line."""
  field, sign, text = override.partition("=")
  if not sign or not field:
    raise UserError(f"--override={override!r}: give FIELD=VALUE")
  try:
    return field, ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return field, text


def _override(
  entry: Run, base: ml_collections.ConfigDict, values: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """A copy of the config with the fields set and everything checked that needs no data."""
  config = base.copy_and_resolve_references()
  known = list(_fields(config))
  for field, value in values.items():
    if field not in known:
      raise UserError(
        f"run {entry.name!r}: {field}: the config has no such field{nearest(field, known)}"
      )
    try:
      config.update_from_flattened_dict({field: value})
    except (TypeError, ValueError) as error:
      kind = type(_get(config, field)).__name__
      raise UserError(f"run {entry.name!r}: {field}={value!r}: must be a {kind}") from error
  try:
    check_config(config)
  except UserError as error:
    raise UserError(f"run {entry.name!r}: {error}") from error
  return config


def _get(config: Any, field: str) -> Any:
  for part in field.split("."):
    config = config[part]
  return config


def _fields(config, prefix: str = ""):
  """Dotted names of all values; a block itself cannot be set."""
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _fields(value, f"{prefix}{name}.")
    else:
      yield prefix + name


def _owner(
  teacher: str, entry: Run, runs: Mapping[str, Run], configs: Mapping[str, Any]
) -> str:
  """The 'run/member' that trained a teacher, where the run named may itself reuse it."""
  run, _, member = teacher.rpartition("/")
  names = member_names(configs[run])
  if member not in names:
    raise UserError(
      f"run {entry.name!r}: teachers={teacher!r}: {run!r} has the members {', '.join(names)}"
    )
  reused = {f"member_{i}": own for i, own in enumerate(runs[run].teachers)}
  return _owner(reused[member], entry, runs, configs) if member in reused else teacher


def _text(value: Any) -> str:
  """A value as the command line takes it."""
  return value if isinstance(value, str) else repr(tuple(value) if _listed(value) else value)


def _listed(value: Any) -> bool:
  return isinstance(value, list | tuple)


def check_root(name: str, tasks: Sequence[Task], root: Path) -> None:
  """Whether the root is new, or this sweep's.

  Raises:
    UserError: it is another sweep's, has other files, or a run of that name with other settings.
  """
  try:
    old = read_plan(root)
    if old is None and root.exists() and any(root.iterdir()):
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
  try:
    kept = {task.name: task for task in (read_plan(root) or ("", []))[1]}
    plan = list((kept | {task.name: task for task in tasks}).values())
    values = {"sweep": name, "tasks": [dataclasses.asdict(task) for task in plan]}
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
    if task.name in old and task.argv != old[task.name].argv:
      differ = sorted(set(task.argv) ^ set(old[task.name].argv))
      raise UserError(
        f"--root={str(root)!r}: its run {task.name!r} was made with other settings "
        f"({' '.join(differ)}); choose a new root"
      )
