"""The stitch of one pair of members, whatever runs they are of; what `dissim_jax.stitch` does."""

from pathlib import Path

import jax

from dissim_jax import texts
from dissim_jax.config import blocks
from dissim_jax.config.check import check_config
from dissim_jax.config.values import get
from dissim_jax.data import load
from dissim_jax.distributed import devices
from dissim_jax.errors import UserError
from dissim_jax.files.workdir import read_config
from dissim_jax.members.store import load_member
from dissim_jax.registry.stitching import METHODS
from dissim_jax.studies.stitching import measure as stitching_measure
from dissim_jax.studies.stitching import pair
from dissim_jax.studies.stitching.report import print_stitches


def run(
  source: str,
  target: str,
  *,
  taps: str = "all",
  target_tap: int | None = None,
  methods: str = METHODS,
  rank: int = 0,
  l1: float = 0.0,
  resize: bool = False,
  config=None,
  out: str | None = None,
) -> list[dict]:
  """Stitches, prints a table for each tap and returns its rows; see the flags.

  Raises:
    UserError: the members do not fit together or a value is not allowed.
  """
  names = _several("--methods", methods, of_texts=True)
  pair.check_methods(names, rank, l1)
  folders = [Path(path).resolve() for path in (source, target)]
  runs = [
    read_config(folder.parent, field)
    for folder, field in zip(folders, ("--source", "--target"), strict=True)
  ]
  _check_same_data(*runs)
  settings = _settings(config, runs[1])
  settings.resize = resize
  mesh = devices.make_mesh()
  members = [
    load_member(folder.name, folder, run.dtype, mesh, field)
    for folder, run, field in zip(folders, runs, ("--source", "--target"), strict=True)
  ]
  seams = _seams(taps, target_tap, *(len(member.model.layers) for member in members))
  study = stitching_measure.pair_of_run(
    runs[1], settings, load(runs[1].data), *members, mesh, seams
  )
  print(f"{source} to {target}: the target's own accuracy is {100 * study.target_accuracy:.2f} %")
  rows, arrays = [], {}
  for index, (tap, end) in enumerate(seams):
    stitches = [pair.solve(study, index, name, rank, l1) for name in names]
    scores = study.score(index, stitches)
    where = {"source_tap": tap, "target_tap": end}
    rows += [where | {"method": n} | score for n, score in zip(names, scores, strict=True)]
    name = study.source.model.tap_names[tap], study.target.model.tap_names[end]
    print_stitches(f"tap {tap} ({name[0]}) to tap {end} ({name[1]})", rows[-len(names) :])
    for name, stitch in zip(names, stitches, strict=True):
      for part, array in jax.device_get(stitch)._asdict().items():
        arrays[f"{name}/{tap}-{end}/{part}"] = array
  if out:
    facts = {"experiment": "stitch", "source": source, "target": target, "width": None}
    file = Path(out) / "stitch.json"
    stitching_measure.save(file, stitching_measure.describe(study, facts) | {"rows": rows}, arrays)
    print(f"numbers: {file}, kernels: {file.with_suffix('.npz')}")
  return rows


def _settings(config, run):
  """The `stitch` block to use, with every check that a run makes of it."""
  if config is None and "stitch" not in run:
    raise UserError("--config is missing: the target's run has no `stitch` block of its own")
  if config is not None:
    check_config(config)
  return (config or run).copy_and_resolve_references().stitch


def _check_same_data(a, b) -> None:
  """Members must have been trained and tested on the same images."""
  for path, field in blocks.fields().items():
    if field.affects == "images" and get(a, path) != get(b, path):
      raise UserError(
        f"members of different data sets: {path} is {get(a, path)!r} for --source and "
        f"{get(b, path)!r} for --target"
      )


def _several(flag: str, text: str, of_texts: bool = False) -> tuple:
  """The values of a flag, see `texts.SEVERAL`."""
  try:
    return texts.several(text, of_texts)
  except ValueError as error:
    raise UserError(f"{flag}={text}: {error}") from error


def _seams(taps: str, target_tap: int | None, in_source: int, in_target: int):
  """(source tap, target tap) of every seam that the flags name."""
  shared = min(in_source, in_target)
  if taps == "all" and target_tap is not None:
    raise UserError("--target_tap: it needs one --tap, not all")
  chosen = range(shared) if taps == "all" else _several("--tap", taps)
  if not chosen or not all(isinstance(tap, int) and 0 <= tap < in_source for tap in chosen):
    raise UserError(f"--tap={taps}: the source has taps 0..{in_source - 1}; give numbers or all")
  if target_tap is not None and len(chosen) > 1:
    raise UserError(f"--target_tap={target_tap}: it needs one --tap, not {len(chosen)}")
  ends = chosen if target_tap is None else [target_tap]
  if not all(0 <= tap < in_target for tap in ends):
    flag = f"--tap={taps}" if target_tap is None else f"--target_tap={target_tap}"
    raise UserError(f"{flag}: the target has taps 0..{in_target - 1}")
  return tuple(zip(chosen, ends, strict=True))
