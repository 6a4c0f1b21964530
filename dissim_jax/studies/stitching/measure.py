"""The stitching experiments of a run: which pairs, what is still to do, where results go.

`workdir/stitching/<experiment>/<source>-<target>.json` (and `.npz`, the stitching matrices) is
written when an experiment on a pair is done; a run started again does only what is left.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from dissim_jax.config.ensemble import member_names
from dissim_jax.config.values import plain
from dissim_jax.data import Dataset, load
from dissim_jax.distributed import devices
from dissim_jax.distributed.environment import environment
from dissim_jax.errors import UserError
from dissim_jax.files import layout
from dissim_jax.files.atomic import read_json, write_arrays, write_json
from dissim_jax.files.workdir import locked
from dissim_jax.members.member import Member
from dissim_jax.members.plan import make_plan
from dissim_jax.members.store import load_member
from dissim_jax.names import expanded, listed
from dissim_jax.registry.stitching import EXPERIMENTS
from dissim_jax.studies.stitching.pair import StitchPair, make_stitch_pair
from dissim_jax.studies.stitching.passes import Taps

# Settings that choose what is done; the others say how.
_CHOICES = ("experiments", "pairs", "widths")


def run(
  config: ml_collections.ConfigDict,
  workdir: str | Path,
  train_run: Callable[[ml_collections.ConfigDict, Path], Any],
) -> None:
  """Does the experiments that `config.stitch` names and that are not yet done.

  Args:
    config: of the run.
    workdir: its folder, with its trained members.
    train_run: trains and measures a run of a config into a folder: the experiment `width` needs
      networks of other widths. See `experiment.run`.

  Raises:
    UserError: earlier results were made with other settings; nothing was overwritten.
  """
  settings, workdir = config.stitch, Path(workdir)
  if not settings.experiments:
    return
  left = [task for task in tasks(config, workdir) if not _is_done(task["file"], settings)]
  if not left:
    return
  with locked(workdir):
    _do(config, workdir, left, train_run)


def _do(
  config: ml_collections.ConfigDict, workdir: Path, left: list[dict[str, Any]], train_run: Callable
) -> None:
  """Does the tasks in order and writes the results of each."""
  settings = config.stitch
  dataset, mesh = load(config.data), devices.make_mesh()
  members: dict[Path, Member] = {}
  study, joined, trained = None, None, {workdir}
  for task in left:
    if task["workdir"] not in trained:
      train_run(width_config(config, task["width"]), task["workdir"])
      trained.add(task["workdir"])
    folders = [_folder(config, task["workdir"], name) for name in (task["source"], task["target"])]
    for folder, name in zip(folders, (task["source"], task["target"]), strict=True):
      if folder not in members:
        members[folder] = load_member(name, folder, config.dtype, mesh, "stitch.pairs")
    if joined != folders:
      source, target = (members[folder] for folder in folders)
      study, joined = pair_of_run(config, settings, dataset, source, target, mesh), folders
    began = time.monotonic()
    print(
      f"stitching {task['source']} to {task['target']}: {task['experiment']}"
      + (f", width {task['width']:g}" if task["experiment"] == "width" else ""),
      end="",
      flush=True,
      file=sys.stderr,
    )
    results, arrays = EXPERIMENTS[task["experiment"]].function(study)
    save(task["file"], describe(study, task) | {"results": results}, arrays)
    print(f" ({time.monotonic() - began:.0f} s)", file=sys.stderr)


def tasks(config: ml_collections.ConfigDict, workdir: Path) -> Iterator[dict[str, Any]]:
  """Every experiment on every pair: its names, its width, where its members and its results are.

  Tasks of one pair follow each other, so that they share its moments.
  """
  settings, base = config.stitch, config.model.width_multiplier
  joined, experiments = pairs(config), chosen(settings)

  def task(experiment, source, target, width=base):
    suffix = f"-x{width:g}" if experiment == "width" else ""
    return {
      "experiment": experiment,
      "source": source,
      "target": target,
      "width": width,
      "workdir": workdir if width == base else workdir / f"width_{width:g}",
      "file": workdir / layout.STITCHING / experiment / f"{source}-{target}{suffix}.json",
    }

  for source, target in joined:
    for name in experiments:
      if name != "low_cka":
        yield task(name, source, target)
  if "low_cka" in experiments:  # A network joined to itself.
    for source in dict.fromkeys(source for source, _ in joined):
      yield task("low_cka", source, source)
  if "width" in experiments:
    for width in dict.fromkeys(settings.widths):
      for source, target in joined if width != base else ():
        yield task("width", source, target, width)


def chosen(settings: ml_collections.ConfigDict) -> list[str]:
  """The experiments to do; `all` stands for every one."""
  return expanded(settings.experiments, EXPERIMENTS)


def pairs(config: ml_collections.ConfigDict) -> list[tuple[str, str]]:
  """The (source, target) pairs to stitch: those named, or the first member and every other."""
  names = member_names(config)
  chosen = [tuple(pair.split(":")) for pair in listed(config.stitch.pairs)]
  return chosen or [(names[0], name) for name in names[1:]]


def width_config(config: ml_collections.ConfigDict, width: float) -> ml_collections.ConfigDict:
  """The same experiment at another width, without stitching of its own."""
  other = ml_collections.ConfigDict(config.to_dict())
  other.model.width_multiplier = width
  other.stitch.experiments = ()
  return other


def _folder(config: ml_collections.ConfigDict, workdir: Path, name: str) -> Path:
  plans, _ = make_plan(config, workdir)
  return next(plan.directory for plan in plans if plan.name == name)


def pair_of_run(
  config: ml_collections.ConfigDict,
  settings: ml_collections.ConfigDict,
  dataset: Dataset,
  source: Member,
  target: Member,
  mesh: jax.sharding.Mesh,
  seams: Taps = (),
) -> StitchPair:
  """The study of one pair with the settings of a run, by default at equal taps."""
  taps = tuple(settings.taps) or range(len(target.model.layers))
  return make_stitch_pair(
    source,
    target,
    seams or tuple((tap, tap) for tap in taps),
    dataset,
    settings,
    batch_size=config.evaluate.batch_size,
    seed=config.seed,
    resident_bytes=config.data.resident_gib * 2**30,
    mesh=mesh,
  )


def describe(study: StitchPair, task: dict[str, Any]) -> dict[str, Any]:
  """What a results file says besides the results."""
  data = study.dataset
  return {
    "experiment": task["experiment"],
    "source": task["source"],
    "target": task["target"],
    "width": task["width"],
    "taps": [tap for _, tap in study.seams],
    "tap_names": [study.target.model.tap_names[tap] for _, tap in study.seams],
    "target_accuracy": study.target_accuracy,
    "num_train": len(data.train_labels),
    "num_test": len(data.test_labels),
    "seed": study.seed,
    "settings": _plain(study.settings),
    "environment": environment(),
  }


def save(file: Path, values: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
  """The arrays beside the JSON file, then the file, which marks the experiment as done."""
  file.parent.mkdir(parents=True, exist_ok=True)
  if arrays:
    write_arrays(file.with_suffix(".npz"), arrays)
  write_json(file, values)


def _plain(settings: ml_collections.ConfigDict) -> dict[str, Any]:
  """Settings as JSON gives them back, without the choice of experiments."""
  values = plain(settings)
  return {key: value for key, value in values.items() if key not in _CHOICES}


def _is_done(file: Path, settings: ml_collections.ConfigDict) -> bool:
  """Whether the results are there; results of other settings are never replaced."""
  if not file.exists():
    return False
  try:
    old = dict(read_json(file)["settings"])
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f"{str(file)!r} cannot be read; move it away to make it again") from error
  new = _plain(settings)
  differ = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
  if differ:
    differences = ", ".join(
      f"stitch.{k} ({old.get(k)!r} there, {new.get(k)!r} now)" for k in differ
    )
    raise UserError(
      f"{str(file)!r} was made with other settings: {differences}; move it away to make it again"
    )
  return True
