"""Read what a finished run saved: config, measured numbers, similarity arrays, training curves."""

import dataclasses
import itertools
import json
import os
import zipfile

import numpy as np

from dissim_jax.errors import UserError
from dissim_jax.files import layout
from dissim_jax.files import run as results_lib
from dissim_jax.files.atomic import read_json
from dissim_jax.registry.measures import measure_label
from dissim_jax.registry.objectives import BASELINE, DISTILL, SEQUENTIAL, objective_name

# Objectives without a diversity term.
INDEPENDENT = "independent"
_REQUIRED = ("dataset", "dissim", "members", "sequences", "ensembles", "pairs", "environment")


@dataclasses.dataclass(frozen=True)
class RunFiles:
  """Everything the report shows.

  Attributes:
    workdir: where the files were read.
    config: the exact config of the run, nested dict.
    metrics: content of `evaluation/metrics.json`.
    arrays: {"lincka": {(a, b): float [L_a, L_b]}, "lincka_position": {(a, b): float [L]},
      "r2": {(a, b): float [L]}, "matched": {(a, b): [L_b]}}; r2 of (a, b) is how well a's tap
      linearly predicts b's tap. L are the taps of the member listed later, compared with the
      earlier member's taps that `matched` tells.
    curves: for every member, or group of members trained jointly, with saved curves, its epochs
      in order, one dict each.
    unreadable: for each of these with damaged curve lines, how many were left out.
  """

  workdir: str
  config: dict
  metrics: dict
  arrays: dict
  curves: dict
  unreadable: dict

  @property
  def members(self) -> dict:
    """Members by name, in the order they were listed."""
    return {member["name"]: member for member in self.metrics["members"]}

  @property
  def sequences(self) -> dict:
    """Names of the members of every sequence, the baseline first."""
    sequences = self.metrics["sequences"]
    order = sorted(sequences, key=lambda name: name != BASELINE)
    return {name: sequences[name] for name in order}

  @property
  def regularised_taps(self) -> list:
    """Tap numbers the penalty acted on; empty when no member was regularised."""
    dissim = self.metrics["dissim"]
    active = dissim["weight"] and any(self.teachers(name) for name in self.members)
    return list(dissim["taps"]) if active else []

  def objective(self, name: str) -> str:
    """What a member was trained for: "sequential", or the name of a joint objective."""
    return self.members[name].get("objective") or SEQUENTIAL

  def teachers(self, name: str) -> list:
    """The members that a member was regularised against at taps."""
    return self.members[name]["teachers"] if self.objective(name) == SEQUENTIAL else []

  def enforces_diversity(self, name: str) -> bool:
    """Whether a member's joint objective asks for diversity."""
    return self.objective(name) not in (SEQUENTIAL, INDEPENDENT, DISTILL)

  def sequence_objective(self, sequence: str) -> str:
    """The joint objective that all members of a sequence share, else "sequential"."""
    objectives = {self.objective(name) for name in self.sequences[sequence] if name in self.members}
    return objectives.pop() if len(objectives) == 1 else SEQUENTIAL

  @property
  def pairs(self) -> list:
    """All pairs (a, b) of members, a listed before b."""
    return list(itertools.combinations(self.members, 2))

  def kind(self, a: str, b: str) -> str:
    """Name of the first sequence that holds both members, or "across"."""
    return next(
      (name for name, names in self.sequences.items() if a in names and b in names), "across"
    )

  def relation(self, a: str, b: str) -> str:
    """How the penalty bears on a pair.

    "against": one was regularised against the other; "joint": trained jointly with an objective
    that asks for diversity; "other": at least one was regularised in one of these ways, but not
    against the other; "independent": neither was regularised.
    """
    if self.enforces_diversity(a) and self._group(a) == self._group(b):
      return "joint"
    teachers = {name: self.teachers(name) if self.regularised_taps else [] for name in (a, b)}
    if a in teachers[b] or b in teachers[a]:
      return "against"
    apart = any(teachers[name] or self.enforces_diversity(name) for name in (a, b))
    return "other" if apart else "independent"

  def _group(self, name):
    """What members that were trained jointly have in common."""
    member = self.members[name]
    return member.get("group") or member.get("objective"), member.get("objective")

  def matched(self, a: str, b: str) -> list:
    """For each tap of b, listed after a, the tap of a that it is compared with."""
    taps = self.arrays["matched"].get((a, b), range(len(self.tap_names(b))))
    return [int(tap) for tap in taps]

  def equal_taps(self, a: str, b: str) -> np.ndarray | None:
    """LinCKA of each tap of b, listed after a, with the tap of a that belongs to it."""
    values = self.arrays["lincka"].get((a, b))
    if values is None or ((a, b) not in self.arrays["matched"] and len(set(values.shape)) > 1):
      return None
    return values[self.matched(a, b), np.arange(values.shape[1])]

  def tap_names(self, name: str) -> list:
    """Display names of a member's taps."""
    return list(self.members[name]["taps"])

  def tap_label(self, taps=None) -> str:
    """The regularised taps in words, e.g. "tap 3 (block 3)" or "taps 2, 3, 4"."""
    taps = self.regularised_taps if taps is None else taps
    if len(taps) != 1:
      return "taps " + ", ".join(str(tap) for tap in taps)
    names = self.tap_names(next(iter(self.members)))
    name = f" ({names[taps[0]]})" if 0 <= taps[0] < len(names) else ""
    return f"tap {taps[0]}{name}"


def read_run(workdir: str) -> RunFiles:
  """Reads the files of a run.

  Args:
    workdir: the directory that the training program wrote to.

  Raises:
    UserError: the directory or one of its files is missing or damaged; the sentence names it.
  """
  workdir = os.fspath(workdir)
  if not os.path.isdir(workdir):
    raise UserError(
      f"--workdir={workdir}: there is no such directory; give the workdir of a run "
      "of python -m dissim_jax.main."
    )
  config = _read_json(os.path.join(workdir, layout.CONFIG), workdir)
  metrics_path = os.path.join(workdir, layout.EVALUATION, "metrics.json")
  metrics = _read_json(metrics_path, workdir)
  missing = [key for key in _REQUIRED if key not in metrics]
  if missing:
    raise UserError(f"{metrics_path} lacks the field {missing[0]!r}: {_remedy(workdir)}.")
  arrays = _read_arrays(os.path.join(workdir, layout.EVALUATION, "similarity.npz"), workdir)
  curves, unreadable = {}, {}
  for name in dict.fromkeys(row.get("group") or row["name"] for row in metrics["members"]):
    rows, damaged = read_curves(os.path.join(workdir, name, layout.LOG))
    if rows:
      curves[name] = rows
    if damaged:
      unreadable[name] = damaged
  return RunFiles(workdir, config, metrics, arrays, curves, unreadable)


def read_curves(path: str) -> tuple:
  """Reads a member's training log.

  A torn last line (the program was killed while writing) is ignored; a torn line inside the file
  is left out and counted. Where an epoch was logged twice (a resumed run) the later line counts.

  Args:
    path: a file with one JSON object per epoch; it may be missing.

  Returns:
    (rows in order of epoch, number of damaged lines).
  """
  try:
    with open(path, encoding="utf-8", errors="replace") as file:
      lines = file.read().splitlines()
  except FileNotFoundError:
    return [], 0
  rows, damaged = {}, 0
  for index, line in enumerate(lines):
    try:
      row = json.loads(line)
      rows[row["epoch"]] = row
    except (ValueError, KeyError, TypeError, RecursionError):
      damaged += bool(line.strip()) and index < len(lines) - 1
  return [rows[epoch] for epoch in sorted(rows)], damaged


def _remedy(workdir):
  return f"run python -m dissim_jax.main --config=... --workdir={workdir} to its end first"


def _read_json(path, workdir):
  try:
    return read_json(path)
  except FileNotFoundError:
    raise UserError(f"{path} is missing: {_remedy(workdir)}.") from None
  except (ValueError, OSError) as error:
    raise UserError(f"{path} is not valid JSON ({error}): {_remedy(workdir)}.") from None


def _read_arrays(path, workdir):
  arrays = {"lincka": {}, "lincka_position": {}, "r2": {}, "matched": {}}
  try:
    with np.load(path, allow_pickle=False) as archive:
      for key in archive.files:
        quantity, _, names = key.partition("/")
        if quantity in arrays:
          arrays[quantity][tuple(names.split("/"))] = np.asarray(archive[key], np.float64)
  except FileNotFoundError:
    raise UserError(f"{path} is missing: {_remedy(workdir)}.") from None
  except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
    raise UserError(f"{path} cannot be read ({error}): {_remedy(workdir)}.") from None
  return arrays


RELATION_NAMES = {
  "independent": "independent",
  "against": "dissimilar",
  "joint": "trained jointly",
  "other": "not trained against each other",
}


def metric_name(results) -> str:
  """Display name of the similarity that was minimised."""
  return measure_label(results.metrics["dissim"]["metric"])


def objective_weight(results) -> str:
  """The weight of the diversity term of joint objectives, e.g. "λ = 0.2", or nothing."""
  weight = results.metrics.get("objective", {}).get("weight")
  return "" if weight is None else f"λ = {weight:g}"


def sequence_label(results, sequence) -> str:
  """Name of a sequence with what was done to it, e.g. "dissimilar (ExpVar, tap 3)"."""
  taps, objective = results.regularised_taps, results.sequence_objective(sequence)
  if objective != SEQUENTIAL:
    parts = [objective_name(objective)] if sequence != objective else []
    parts += ["jointly"] * ("jointly" not in "".join(parts))
    weight = objective_weight(results) if objective != results_lib.INDEPENDENT else ""
    return f"{sequence} ({', '.join(filter(None, [*parts, weight]))})"
  regularised = any(
    results.teachers(name) for name in results.sequences[sequence] if name in results.members
  )
  if sequence == BASELINE or not taps or not regularised:
    return sequence
  return (
    f"{sequence} ({metric_name(results)}, tap{'s' if len(taps) > 1 else ''} "
    f"{', '.join(str(tap) for tap in taps)})"
  )
