"""Joins the lower half of one trained member to the upper half of another and tests the hybrid.

  python -m dissim_jax.stitch --source=runs/a/member_0 --target=runs/a/member_1 --tap=3
  python -m dissim_jax.stitch --source=… --target=… --tap=all --methods=least_squares,task_loss

The stitch is fitted on the training images of the target's run and measured on its test images.
How it is trained (epochs, learning rate, …) is the `stitch` block of the target's run, or of
--config=FILE, whose fields can be set: --config=configs/stitch_digits.py --config.stitch.epochs=60
"""

from pathlib import Path

from absl import app, flags, logging

from dissim_jax import command_line, texts
from dissim_jax.config import blocks
from dissim_jax.config.values import get
from dissim_jax.errors import UserError

METHODS = "least_squares,orthogonal,task_loss"


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
  import jax  # Slow to import: not before the flags are right.

  from dissim_jax import report, studies
  from dissim_jax.data import load
  from dissim_jax.distributed import devices
  from dissim_jax.evaluate import stitch_study
  from dissim_jax.files.workdir import read_config
  from dissim_jax.members.store import load_member

  names = _several("--methods", methods, of_texts=True)
  stitch_study.check_methods(names, rank, l1)
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
  study = studies.run_study(runs[1], settings, load(runs[1].data), *members, mesh, seams)
  print(f"{source} to {target}: the target's own accuracy is {100 * study.target_accuracy:.2f} %")
  rows, arrays = [], {}
  for index, (tap, end) in enumerate(seams):
    stitches = [stitch_study.solve(study, index, name, rank, l1) for name in names]
    scores = study.score(index, stitches)
    where = {"source_tap": tap, "target_tap": end}
    rows += [where | {"method": n} | score for n, score in zip(names, scores, strict=True)]
    name = study.source.model.tap_names[tap], study.target.model.tap_names[end]
    report.print_stitches(f"tap {tap} ({name[0]}) to tap {end} ({name[1]})", rows[-len(names) :])
    for name, stitch in zip(names, stitches, strict=True):
      for part, array in jax.device_get(stitch)._asdict().items():
        arrays[f"{name}/{tap}-{end}/{part}"] = array
  if out:
    facts = {"experiment": "stitch", "source": source, "target": target, "width": None}
    file = Path(out) / "stitch.json"
    studies.save(file, studies.describe(study, facts) | {"rows": rows}, arrays)
    print(f"numbers: {file}, kernels: {file.with_suffix('.npz')}")
  return rows


def _settings(config, run):
  """The `stitch` block to use, with every check that a run makes of it."""
  from dissim_jax.config.check import check_config

  if config is None and "stitch" not in run:
    raise UserError("--config is missing: the target's run has no `stitch` block of its own")
  if config is not None:
    check_config(config)
  return (config or run).copy_and_resolve_references().stitch


def _check_same_data(a, b) -> None:
  """Members must have been trained and tested on the same images."""
  for field, own in blocks.fields().items():
    if own.affects == "images" and get(a, field) != get(b, field):
      raise UserError(
        f"members of different data sets: {field} is {get(a, field)!r} for --source and "
        f"{get(b, field)!r} for --target"
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
    told = f"--tap={taps}" if target_tap is None else f"--target_tap={target_tap}"
    raise UserError(f"{told}: the target has taps 0..{in_target - 1}")
  return tuple(zip(chosen, ends, strict=True))


if __name__ == "__main__":
  command_line.define_plugins()
  _SOURCE = flags.DEFINE_string("source", None, "Member folder: represents the images.")
  _TARGET = flags.DEFINE_string("target", None, "Member folder: classifies the representations.")
  _TAP = flags.DEFINE_string("tap", "all", "Where to join: a tap, several as 2,3, or all.")
  _TARGET_TAP = command_line.define_whole("target_tap", None, "The target's tap, if it is another.")
  _METHODS = flags.DEFINE_string(
    "methods",
    METHODS,
    "Of identity, least_squares, linear, orthogonal, reduced_rank, sparse, task_loss.",
  )
  _RANK = command_line.define_whole("rank", 0, "Rank of reduced_rank and task_loss; 0 = full.")
  _L1 = command_line.define_number(
    "l1", 0.0, "sparse: share of what makes all zero; task_loss: weight of the sum of |entries|."
  )
  _RESIZE = flags.DEFINE_boolean("resize", False, "Resize a source tap of another size.")
  _OUT = flags.DEFINE_string("out", None, "Folder for stitch.json and stitch.npz.")
  _CONFIG = command_line.define_config(told="Whose `stitch` block counts: a file, or a run.")

  def main(argv: list[str]) -> None:
    """Stitches the members that the flags name."""
    command_line.no_arguments(argv)
    command_line.require(_SOURCE, _TARGET)
    logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a restore.
    command_line.loading()  # Slow to import: not before the flags are right.
    from dissim_jax.distributed import compilation

    with compilation.cache():
      run(
        _SOURCE.value,
        _TARGET.value,
        taps=_TAP.value,
        target_tap=_TARGET_TAP.value,
        methods=_METHODS.value,
        rank=_RANK.value,
        l1=_L1.value,
        resize=_RESIZE.value,
        config=_CONFIG.value,
        out=_OUT.value,
      )

  app.run(command_line.guarded(main), flags_parser=command_line.parse)
