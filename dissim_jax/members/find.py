"""Finding the finished members of runs, by the names that tell them apart."""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import ml_collections

from dissim_jax.errors import UserError
from dissim_jax.files import layout
from dissim_jax.files.atomic import read_json
from dissim_jax.files.workdir import read_config
from dissim_jax.members import store as member_files
from dissim_jax.names import nearest

_FACTS = ("data", "image_shape", "num_classes", "mean", "std", "width_multiplier")
_TRAINED = ("objective", "teachers", "parameters")  # how it came about
_NO_MEMBERS = (layout.CHECKPOINTS, layout.WEIGHTS, layout.TENSORBOARD)  # large folders


@dataclasses.dataclass(frozen=True, eq=False)
class SavedMember:
  """A finished member of a run.

  Attributes:
    name: as in its run; where two runs have a member of that name, with the run's before it.
    folder: where it is, also of one that another run trained.
    run: the folder of the run.
    config: of the run.
    facts: its `member.json`.
  """

  name: str
  folder: Path
  run: Path
  config: ml_collections.ConfigDict
  facts: dict


def find_members(workdirs: Sequence[str], wanted: Sequence[str] = ()) -> list[SavedMember]:
  """The finished members of one or two runs, in the order of their evaluation.

  Args:
    workdirs: folders of runs, or of single members.
    wanted: names of the members to keep, all if empty; the name that a member has in its run will
      do. A member that both runs have, as one reused it, is listed once.

  Raises:
    UserError: a folder that is no run or has no finished member, an unknown name, or members of
      different data sets.
  """
  if len({Path(workdir).resolve() for workdir in workdirs}) < len(workdirs):
    raise UserError(f"--workdir={workdirs[-1]}: is given twice")
  if not 1 <= len(workdirs) <= 2:
    raise UserError(f"--workdir: {len(workdirs)} folders are given, one or two are allowed")
  places = [place for workdir in workdirs for place in _places(Path(workdir))]
  unique = {folder.resolve(): (name, folder, run) for name, folder, run in reversed(places)}
  places = [place for place in places if unique[place[1].resolve()] == place]
  labels = _labels([(name, run) for name, _, run in places])
  plain = [name for name, _, _ in places]
  for name in wanted:
    if name not in labels and name not in plain:
      known = ", ".join(labels)
      raise UserError(f"--members={name}: choose among {known}{nearest(name, labels)}")
  members = [
    SavedMember(label, folder, run, _config(run), _read_facts(name, folder, run))
    for label, (name, folder, run) in zip(labels, places, strict=True)
    if not wanted or label in wanted or name in wanted
  ]
  _check_same_data(members)
  return members


def find_all(folders: Sequence[str | Path], field: str) -> list[SavedMember]:
  """The finished members of any number of runs, each once, also where several runs use it.

  Args:
    folders: of members, of runs, or folders with runs anywhere below them.
    field: names who asked, for errors.

  Returns:
    Members named by their path from the folder that all are in, with the run that trained them.

  Raises:
    UserError: a folder without a finished member, or a file that is missing or damaged.
  """
  unique: dict[Path, Path] = {}
  for folder in map(Path, folders):
    places = list(_below(folder, field))
    if not places:
      raise UserError(f"{field}={folder}: it has no finished member (a folder with member.json)")
    for _, member, run in places:
      real_path = member.resolve()
      unique.setdefault(
        real_path,
        real_path.parent if (real_path.parent / layout.CONFIG).exists() else run.resolve(),
      )
  root = os.path.commonpath([member.parent for member in unique]) if unique else ""
  return [
    SavedMember(
      member.relative_to(root).as_posix(),
      member,
      run,
      _config(run, field, ("seed",)),
      _read_facts(member.name, member, run, field, _TRAINED),
    )
    for member, run in unique.items()
  ]


def _below(folder: Path, field: str) -> Iterator[tuple[str, Path, Path]]:
  """(name, folder, run) of every finished member in a folder and all below it."""
  if member_files.is_done(folder):
    yield from _places(folder, field)
  elif (folder / layout.CONFIG).exists():
    yield from _run_places(folder, field)
  elif folder.is_dir():
    for path in sorted(folder.iterdir(), key=lambda path: _number(path.name)):
      hidden = path.name.startswith(".") or path.name in _NO_MEMBERS
      if path.is_dir() and not path.is_symlink() and not hidden:  # Links can lead in a circle.
        yield from _below(path, field)


def _config(
  run: Path, field: str = "--workdir", extra_keys: Sequence[str] = ()
) -> ml_collections.ConfigDict:
  return read_config(run, field, ("data", "dtype", "ensemble", *extra_keys))


def _places(workdir: Path, field: str = "--workdir") -> list[tuple[str, Path, Path]]:
  """(name, folder, run) of every member of a run; of a member's folder, its own."""
  if member_files.is_done(workdir):
    return [(workdir.resolve().name, workdir, workdir.resolve().parent)]
  places = _run_places(workdir, field)
  if not places:
    raise UserError(f"{field}={workdir}: it has no finished member (a folder with member.json)")
  return places


def _run_places(workdir: Path, field: str) -> list[tuple[str, Path, Path]]:
  """(name, folder, run) of every finished member of a run, reused ones among them."""
  config = _config(workdir, field)
  reused = enumerate(config.ensemble.teachers)
  folders = {f"member_{i}": _resolve(Path(path).expanduser(), workdir) for i, path in reused}
  for pattern in ("member_*", "independent_*", "*_[0-9]*"):
    paths = [path for path in workdir.glob(pattern) if member_files.is_done(path)]
    folders |= {path.name: path for path in sorted(paths, key=lambda path: _number(path.name))}
  listed = [name for name in _evaluated(workdir) if name in folders]
  return [(name, folders[name], workdir) for name in dict.fromkeys([*listed, *folders])]


def _number(name: str) -> tuple[int, str]:
  """Sorts member_2 before member_10."""
  digits = name.rpartition("_")[2]
  return (int(digits) if digits.isdecimal() else 10**9, name)


def _evaluated(workdir: Path) -> list[str]:
  """Names of the members in the order of `evaluation/metrics.json`, if there is one."""
  try:
    metrics = read_json(workdir / layout.EVALUATION / "metrics.json")
    return [member["name"] for member in metrics["members"]]
  except (OSError, ValueError, KeyError, TypeError):
    return []


def _resolve(path: Path, workdir: Path) -> Path:
  """A reused member's folder, whose path may be relative to where its run was started."""
  bases = [Path(), *workdir.resolve().parents]
  candidates = (base / path for base in bases)
  return next((folder for folder in candidates if member_files.is_done(folder)), path)


def _read_facts(
  name: str, folder: Path, run: Path, field: str = "--workdir", extra_keys: Sequence[str] = ()
) -> dict:
  """A member's facts, complete."""
  if not member_files.is_done(folder):
    raise UserError(
      f"{field}={run}: its {name} was trained by another run, and {str(folder)!r} holds no "
      "finished member; call this where that run was started, or choose others by --members"
    )
  facts = member_files.read_facts(folder, field)
  missing = [key for key in (*_FACTS, *extra_keys) if key not in facts]
  if missing:
    raise UserError(f"{field}={run}: {str(folder / 'member.json')!r} has no {missing[0]!r}")
  return facts


def _labels(places: Sequence[tuple[str, Path]]) -> list[str]:
  """Names, those that are not unique with their run's name before them."""
  names = [name for name, _ in places]
  runs = list(dict.fromkeys(run for _, run in places))
  parts = {run: run.resolve().parts[1:] for run in runs}
  for depth in itertools.count(1):
    # Runs of one name are told apart by the folders they are in.
    titles = {run: "_".join(parts[run][-depth:]) for run in runs}
    if len(set(titles.values())) == len(runs) or depth > max(map(len, parts.values())):
      break
  return [name if names.count(name) == 1 else f"{titles[run]}:{name}" for name, run in places]


def _check_same_data(members: Sequence[SavedMember]) -> None:
  """All members must be of one data set."""

  def data(member):
    facts = member.facts
    shape = "x".join(map(str, facts["image_shape"]))
    return f"{facts['data']}, {shape}, {facts['num_classes']} classes"

  for member in members[1:]:
    if data(member) != data(members[0]):
      one, other = (f"{m.name} ({data(m)})" for m in (members[0], member))
      raise UserError(f"members of different data sets: {one} and {other}")
