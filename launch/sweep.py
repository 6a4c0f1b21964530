"""What a sweep file yields, and the checks that it makes sense before anything starts.

A sweep is a Python file with a function `get_sweep()` that yields `Run`s and `Comparison`s; see
`configs/sweeps/`.
"""

import dataclasses
import fnmatch
import graphlib
import heapq
import os.path
import runpy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from dissim_jax.config import blocks, source
from dissim_jax.config.source import find
from dissim_jax.config.values import flat
from dissim_jax.errors import UserError
from dissim_jax.files import layout
from dissim_jax.names import nearest

# Names in a root that are not those of runs.
RESERVED = ("launch", "tables", "slurm", layout.SWEEP, "sweep.lock")
PACKAGED = source.PACKAGED / "sweeps"
_LONGEST = 200  # bytes of a part of a name; file systems allow 255


@dataclasses.dataclass(frozen=True)
class Run:
  """One call of `dissim_jax.main`.

  Attributes:
    name: unique in the sweep, and the run's folder below the root; it may have several parts
      (`seed_0/baseline`) and any characters that a file name can have.
    config: the base config: the name of a packaged one, perhaps with an argument
      (`cifar10:lincka`), a file, relative to where the launcher is started, or a config that was
      built in Python, such as `cifar10.get_config("lincka")` with some fields changed.
    overrides: values by dotted field: `{"dissim.taps": (8,)}`.
    teachers: members of other runs that are the first members of this one instead of being trained
      again: `("seed_0/baseline/member_0",)`. The run starts when those runs are finished.
  """

  name: str
  config: str | ml_collections.ConfigDict
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  teachers: tuple[str, ...] = ()

  @property
  def needs(self) -> tuple[str, ...]:
    """The runs that must be finished before."""
    return tuple(dict.fromkeys(teacher.rpartition("/")[0] for teacher in self.teachers))


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One call of `dissim_jax.compare`, on members of two finished runs.

  Attributes:
    name: unique in the sweep, and the folder of the results below the root.
    runs: names of one or two runs.
    members: which members to compare; all if empty.
    measures: names in `similarity.MEASURES`.
  """

  name: str
  runs: tuple[str, ...]
  members: tuple[str, ...] = ()
  measures: tuple[str, ...] = ("lincka",)

  @property
  def needs(self) -> tuple[str, ...]:
    """The runs that must be finished before."""
    return tuple(dict.fromkeys(self.runs))


Entry = Run | Comparison


def load(path: str | Path) -> list[Entry]:
  """Everything a sweep file yields, in an order in which parents come first.

  `path` may also be the name of a packaged sweep, such as `digits_table1`.

  Raises:
    UserError: the file cannot be read, or what it yields cannot be run; nothing was started.
  """
  where = f"--sweep={str(path)!r}"
  try:
    path = find(str(path), PACKAGED)
    if not os.path.isfile(path):
      raise UserError("there is no such file")
  except UserError as error:
    raise UserError(f"{where}: {error}") from error
  try:
    yielded = runpy.run_path(str(path)).get("get_sweep", lambda: None)()
    entries = None if yielded is None else list(yielded)
  except (Exception, SystemExit) as error:  # The file is the user's Python.
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    raise UserError(f"{where} cannot be loaded: {reason}") from error
  if entries is None:
    raise UserError(f"{where}: it needs a function get_sweep() that yields runs")
  if not entries:
    raise UserError(f"{where}: get_sweep() yields no run")
  return check(entries)


def check(entries: Sequence[Entry]) -> list[Entry]:
  """The entries with parents first, otherwise in their order.

  Raises:
    UserError: an entry that is no Run or Comparison, a name that cannot be a folder, a name given
      twice, a missing parent, or a cycle.
  """
  for entry in entries:
    if not isinstance(entry, Run | Comparison):
      raise UserError(f"get_sweep() yields {entry!r}: only Run and Comparison can be launched")
    check_name(entry.name)
    _check_types(entry)
  entries = [_by_overrides(entry) for entry in entries]
  by_name = {entry.name: entry for entry in entries}
  if len(by_name) < len(entries):
    names = [entry.name for entry in entries]
    twice = next(name for name in names if names.count(name) > 1)
    raise UserError(f"two runs of the sweep are named {twice!r}: every name may be given once")
  for entry in entries:
    _check_parents(entry, by_name)
  return _ordered(entries)


def check_name(name: Any) -> None:
  """A name must be a relative path that stays below the root."""
  problem = ""
  parts = name.split("/") if isinstance(name, str) else []
  if not isinstance(name, str) or not name:
    problem = "must be a text that is not empty"
  elif any(part in ("", ".", "..") for part in parts):
    problem = "must be a path below the root, without empty parts, '.' or '..'"
  elif not name.isprintable():
    problem = "must not hold line breaks or other characters that cannot be printed"
  elif any(len(part.encode()) > _LONGEST for part in parts):
    problem = f"each part must be at most {_LONGEST} bytes long"
  elif parts[0] in RESERVED:
    problem = f"must not begin with {', '.join(RESERVED)}, which are the launcher's own"
  if problem:
    raise UserError(f"run name {name!r}: {problem}")


def _check_types(entry: Entry) -> None:
  """The fields of an entry are what its class says."""
  if isinstance(entry, Run):
    of_texts = ("teachers",)
    if not isinstance(entry.config, str | ml_collections.ConfigDict):
      raise UserError(
        f"run {entry.name!r}: config={entry.config!r}: must be the path of a file, or a ConfigDict"
      )
    fields = entry.overrides if isinstance(entry.overrides, Mapping) else [None]
    if not all(isinstance(field, str) for field in fields):
      raise UserError(
        f"run {entry.name!r}: overrides={entry.overrides!r}: must be a dict of values by field"
      )
  else:
    of_texts = ("runs", "members", "measures")
  for field in of_texts:
    values = getattr(entry, field)
    if not isinstance(values, tuple | list) or not all(isinstance(v, str) for v in values):
      raise UserError(f"run {entry.name!r}: {field}={values!r}: must be a tuple of texts")


def _by_overrides(entry: Entry) -> Entry:
  """A run whose config was built in Python, as what it changes of the default."""
  if not isinstance(entry, Run) or isinstance(entry.config, str):
    return entry
  default = dict(flat(blocks.config()))
  changed = {
    field: value
    for field, value in flat(entry.config)
    if field not in default or default[field] != value
  }
  return dataclasses.replace(entry, config="default", overrides=changed | dict(entry.overrides))


def _check_parents(entry: Entry, by_name: Mapping[str, Entry]) -> None:
  """Parents must be runs of the sweep, and no run may lie in the folder of another."""
  folder = entry.name
  while "/" in folder:
    folder = folder.rpartition("/")[0]
    if folder in by_name:
      raise UserError(
        f"run {entry.name!r} would lie in the folder of run {folder!r}: give it another name"
      )
  if isinstance(entry, Run):
    for teacher in entry.teachers:
      if not all(teacher.rpartition("/")):
        raise UserError(f"run {entry.name!r}: teachers={teacher!r}: give 'run/member'")
  elif len(entry.runs) not in (1, 2) or len(set(entry.runs)) < len(entry.runs):
    raise UserError(
      f"comparison {entry.name!r}: runs={tuple(entry.runs)}: give one run or two different ones"
    )
  runs = [name for name, other in by_name.items() if isinstance(other, Run)]
  for parent in entry.needs:
    if parent not in runs:
      raise UserError(
        f"run {entry.name!r} needs {parent!r}, which is no run of the sweep{nearest(parent, runs)}"
      )


def _ordered(entries: Sequence[Entry]) -> list[Entry]:
  """Parents first, otherwise as they came; a cycle is told with the names on it."""
  place = {entry.name: i for i, entry in enumerate(entries)}
  sorter = graphlib.TopologicalSorter({entry.name: entry.needs for entry in entries})
  try:
    sorter.prepare()
  except graphlib.CycleError as error:
    cycle = " needs ".join(map(repr, reversed(error.args[1])))
    raise UserError(f"the runs wait for each other: {cycle}") from error
  ready: list[int] = []
  ordered = []
  while sorter.is_active():
    for name in sorter.get_ready():
      heapq.heappush(ready, place[name])
    ordered.append(entries[heapq.heappop(ready)])
    sorter.done(ordered[-1].name)
  return ordered


def choose(entries: Sequence[Entry], patterns: Iterable[str]) -> list[Entry]:
  """The entries whose names match one of the patterns (`seed_0/*`), and the runs they need."""
  patterns = list(patterns)
  if not patterns:
    return list(entries)
  wanted: set[str] = set()
  for pattern in patterns:
    matching = {entry.name for entry in entries if fnmatch.fnmatchcase(entry.name, pattern)}
    if not matching:
      names = [entry.name for entry in entries]
      raise UserError(f"--only={pattern!r}: no run is named so{nearest(pattern, names)}")
    wanted |= matching
  for entry in reversed(entries):  # Parents come before those who need them.
    if entry.name in wanted:
      wanted |= set(entry.needs)
  return [entry for entry in entries if entry.name in wanted]
