"""A comparison of trained members from their folders to the files of its results."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dissim_jax.data import Dataset, load
from dissim_jax.data.examples import balanced_part
from dissim_jax.distributed import devices
from dissim_jax.distributed.environment import environment
from dissim_jax.errors import UserError
from dissim_jax.files import layout
from dissim_jax.files.atomic import write_arrays, write_bytes, write_json
from dissim_jax.files.progress import ProgressLine
from dissim_jax.members.find import SavedMember, find_members
from dissim_jax.members.member import Subject
from dissim_jax.members.store import load_member
from dissim_jax.registry.checks import check_int
from dissim_jax.render import csv
from dissim_jax.studies.similarity import choice, page
from dissim_jax.studies.similarity.all_pairs import Arrays, compare
from dissim_jax.studies.similarity.choice import ChosenMeasure

SAMPLES = ("position", "pooled")


def run(
  workdir: Sequence[str],
  measures: Sequence[str],
  *,
  members: Sequence[str] = (),
  taps: Sequence[str] = ("all",),
  option: Sequence[str] = (),
  samples: str = "position",
  resize: bool = False,
  batch_size: int = 128,
  images: int | None = None,
  out: str | None = None,
  command: str = "",
) -> Path:
  """Compares members of one or two runs and writes tables, heat maps and a page.

  Args:
    workdir: folders of runs or members, one or two.
    measures: names in `similarity.MEASURES` that need no aligned channels.
    members: names to keep; all if empty.
    taps: numbers of the taps, or "all".
    option: `measure.option=value` each.
    samples: "position", or "pooled": measures of positions see means over space.
    resize: whether taps of different sizes are compared by measures of positions.
    batch_size: images at a time, within which measures of examples compare.
    images: only so many test images, as many of every class.
    out: folder of the results; `<first workdir>/comparison` if None.
    command: how the user started it.

  Returns:
    The folder that holds `comparison.npz`, `.json`, `.csv`, `.html` and `heatmap_<measure>.png`.

  Raises:
    UserError: something that the user can mend; nothing was written.
  """
  began = time.monotonic()
  chosen = choice.choose(measures, option)
  _check_flags(chosen, samples, resize, batch_size)
  saved_members = find_members(workdir, members)
  folder = _result_folder(Path(out) if out else Path(workdir[0]) / layout.COMPARISON, out)
  dataset = load_data(saved_members)
  test_images = _test_images(dataset, images)
  subjects = load_subjects(saved_members, taps)
  batches = choice.split(test_images, batch_size, chosen)
  pooled = samples == "pooled"
  shapes = [subject.shapes(test_images.shape[1:], pooled) for subject in subjects]
  choice.check_positions(
    chosen, [s.name for s in subjects], [s.taps for s in subjects], shapes, len(test_images), resize
  )
  arrays = compare(subjects, chosen, batches, pooled=pooled, resize=resize, progress=ProgressLine())
  facts = {
    "measures": [_measure_facts(c, samples) for c in chosen],
    "members": [_member_facts(m, s) for m, s in zip(saved_members, subjects, strict=True)],
    "data": saved_members[0].config.data.to_dict(),
    "split": "test",
    "images": len(test_images),
    "batch_size": batch_size,
    "samples": samples,
    "resize": resize,
    "command": command,
    "seconds": time.monotonic() - began,
    "environment": environment(),
  }
  _write(folder, arrays, facts, subjects)
  return folder


def _check_flags(
  chosen: Sequence[ChosenMeasure], samples: str, resize: bool, batch_size: int
) -> None:
  """Flags that need nothing but themselves."""
  check_int("--batch_size", batch_size, 1, None)
  if samples not in SAMPLES:
    raise UserError(f"--samples={samples!r}: choose one of {', '.join(SAMPLES)}")
  if resize and samples == "pooled":
    raise UserError("--resize: means over space, by --samples=pooled, have no size to change")
  if all(c.measure.samples == "example" for c in chosen):
    flag = "--resize" if resize else f"--samples={samples}"
    if resize or samples != SAMPLES[0]:
      names = ", ".join(c.measure.name for c in chosen)
      raise UserError(f"{flag}: has no effect on {names}, which compare examples of any size")


def _result_folder(folder: Path, out: str | None) -> Path:
  """The folder, which need not exist yet."""
  nearest = next(path for path in (folder, *folder.resolve().parents) if path.exists())
  if not nearest.is_dir():
    raise UserError(f"--out={out or folder}: {str(nearest)!r} is a file, a folder is needed")
  return folder


def load_data(saved_members: Sequence[SavedMember]) -> Dataset:
  """The data set of the first member's run, if it is the one that the members know."""
  first = saved_members[0]
  dataset = load(first.config.data)
  known = list(first.facts["image_shape"]), first.facts["num_classes"]
  if (list(dataset.image_shape), dataset.num_classes) != known:
    raise UserError(
      f"--workdir={first.run}: its data set has images {list(dataset.image_shape)} of "
      f"{dataset.num_classes} classes, {first.name} was trained on {known[0]} of {known[1]}"
    )
  return dataset


def _test_images(dataset: Dataset, images: int | None) -> np.ndarray:
  """`images` of the test images, as many of every class, or all."""
  there = len(dataset.test_images)
  if images is None:
    return dataset.test_images
  check_int("--images", images, 1, there, f"there are {there} test images")
  return dataset.test_images[balanced_part(dataset.test_labels, images)]


def load_subjects(saved_members: Sequence[SavedMember], taps: Sequence[str]) -> list[Subject]:
  """The members, loaded onto one device, with the taps that the flag names."""
  mesh = devices.make_mesh(jax.devices()[:1])
  subjects = []
  for each in saved_members:
    member = load_member(each.name, each.folder, each.config.dtype, mesh, "--workdir")
    owner = f"{each.name} ({each.facts['model']})"
    subjects.append(Subject(member, parse_taps(taps, len(member.model.layers), owner)))
  return subjects


def parse_taps(taps: Sequence[str], count: int, owner: str) -> tuple[int, ...]:
  """Tap numbers from their texts; "all" are 0 … count - 1."""
  texts = [str(tap).strip() for tap in taps]
  if texts == ["all"]:
    return tuple(range(count))
  if not all(text.isdecimal() for text in texts):
    raise UserError(f"--taps={','.join(texts)}: must be numbers such as 1,3 or the word all")
  numbers = tuple(int(text) for text in texts)
  if len(set(numbers)) < len(numbers):
    raise UserError(f"--taps={','.join(texts)}: a tap is given twice")
  for tap in numbers:
    if tap >= count:
      raise UserError(f"--taps={tap}: {owner} has taps 0..{count - 1}")
  return numbers


def _measure_facts(chosen: ChosenMeasure, samples: str) -> dict[str, Any]:
  """What the results say of a measure: all its options, and the names of those that were given."""
  measure = chosen.measure
  return {
    "name": measure.name,
    "describe": measure.describe,
    "options": choice.default_options(measure) | dict(chosen.options),
    "given": [name for name, _ in chosen.options],
    "samples": "example" if measure.samples == "example" else samples,
    "symmetric": measure.symmetric,
    "low": measure.low,
    "high": measure.high,
  }


def _member_facts(saved_member: SavedMember, subject: Subject) -> dict[str, Any]:
  """What the results say of a member."""
  names = subject.member.model.tap_names
  return {
    "name": saved_member.name,
    "folder": str(saved_member.folder),
    "run": str(saved_member.run),
    "model": saved_member.facts["model"],
    "width_multiplier": saved_member.facts["width_multiplier"],
    "mean": saved_member.facts["mean"],
    "std": saved_member.facts["std"],
    "taps": list(subject.taps),
    "tap_names": [names[tap] for tap in subject.taps],
    "tap_shapes": [
      [*size, c] for size, c in subject.shapes(saved_member.facts["image_shape"], False)
    ],
  }


def _write(folder: Path, arrays: Arrays, facts: dict, subjects: Sequence[Subject]) -> None:
  """Writes all files, each whole or not at all."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / "comparison.npz", arrays)
    taps = {subject.name: subject.taps for subject in subjects}
    write_bytes(folder / "comparison.csv", csv.text(_lines(arrays, taps)).encode())
    write_json(folder / "comparison.json", facts)
    page.write_page(folder)
  except OSError as error:
    raise UserError(f"--out={folder}: cannot be written ({error.strerror or error})") from error


def _lines(arrays: Arrays, taps: dict[str, tuple[int, ...]]) -> Iterator[tuple]:
  """One line for every value; no value where taps of different sizes are not compared."""
  yield "measure", "a", "tap_a", "b", "tap_b", "value"
  for key, values in arrays.items():
    measure, a, b = key.split("/")
    for (i, j), value in np.ndenumerate(values):
      yield measure, a, taps[a][i], b, taps[b][j], "" if np.isnan(value) else f"{value:.8g}"
