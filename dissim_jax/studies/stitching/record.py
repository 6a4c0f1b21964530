"""Read the stitching experiments of a run and average them over pairs of one kind."""

import dataclasses
import json
import os
import zipfile
from typing import NamedTuple

import numpy as np

from dissim_jax.files import layout, run
from dissim_jax.files.atomic import read_json
from dissim_jax.registry.stitching import EXPERIMENTS

# How a pair of networks is related, in the order of the page; a network can be its own target.
KINDS = {**run.RELATION_NAMES, "itself": "stitched to itself"}


@dataclasses.dataclass(frozen=True)
class Stitched:
  """One experiment on one pair of networks.

  Attributes:
    source, target: names of the members.
    kind: a key of `KINDS`.
    width: width multiplier of both.
    taps: {tap: its name} in the order of the file.
    target_accuracy: the target's own, 0 to 1.
    num_train, num_test: images that stitches were fitted on and measured on.
    settings: how stitches were made.
    results: the numbers, by tap; their form depends on the experiment, see the readers below.
    arrays: where the stitching matrices are, if they were saved.
  """

  source: str
  target: str
  kind: str
  width: float
  taps: dict
  target_accuracy: float
  num_train: int
  num_test: int
  settings: dict
  results: dict
  arrays: str


class Stitching(NamedTuple):
  """`pairs`: {experiment: [Stitched]}; `left_out`: a sentence for each file that was not used."""

  pairs: dict
  left_out: list


class Band(NamedTuple):
  """Averages over `count` pairs: float [n] each, `x` ascending; `std` is that of the pairs."""

  x: np.ndarray
  mean: np.ndarray
  std: np.ndarray
  count: int


def read(results) -> Stitching:
  """Reads `stitching/<experiment>/*.json` of a run; a missing folder is no experiment.

  Args:
    results: a `RunFiles`, whose members and penalty tell the kind of a pair.

  Returns:
    The experiments that have a readable file. Damaged files are named, not raised.
  """
  pairs, left_out = {}, []
  for experiment in EXPERIMENTS:
    folder = os.path.join(results.workdir, layout.STITCHING, experiment)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
      if not name.endswith(".json"):
        continue
      try:
        new_pair = _read(os.path.join(folder, name), experiment, results)
      except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        left_out.append(f"stitching/{experiment}/{name} was left out: {_reason(error)}.")
      else:
        pairs.setdefault(experiment, []).append(new_pair)
        if experiment == "sparsity" and matrices(new_pair) is None:
          left_out.append(
            f"stitching/{experiment}/{name[:-5]}.npz was left out: it is missing or damaged."
          )
  order = list(results.members)
  for group in pairs.values():
    group.sort(key=lambda pair: (order.index(pair.source), order.index(pair.target), pair.width))
  return Stitching(pairs, left_out)


def by_kind(pairs) -> dict:
  """{kind: its pairs}, in the order of `KINDS`."""
  groups = {kind: [pair for pair in pairs if pair.kind == kind] for kind in KINDS}
  return {kind: group for kind, group in groups.items() if group}


def heading(kind, pairs) -> str:
  """Who was stitched, e.g. "member_0 → member_1 (dissimilar)" or "independent, 4 pairs"."""
  names = list(dict.fromkeys((pair.source, pair.target) for pair in pairs))
  if len(names) > 1:
    return f"{KINDS[kind]}, {len(names)} {'members' if kind == 'itself' else 'pairs'}"
  ((source, target),) = names
  return f"{source} {KINDS[kind]}" if kind == "itself" else f"{source} → {target} ({KINDS[kind]})"


def all_taps(pairs) -> dict:
  """{tap: name} of every tap of any pair, ascending."""
  names = {tap: name for pair in reversed(pairs) for tap, name in pair.taps.items()}
  return dict(sorted(names.items()))


def band(curves) -> Band:
  """Mean and standard deviation over pairs, point by point.

  Args:
    curves: {x: value} of each pair; values that are missing or not finite do not count.
  """
  curves = [curve for curve in curves if curve]
  x = sorted(set().union(*curves))
  values = np.array([[curve.get(at, np.nan) for at in x] for curve in curves], np.float64)
  known = np.ma.masked_invalid(values.reshape(len(curves), len(x)))
  mean, std = (
    np.ma.filled(np.ma.asarray(part, np.float64), np.nan)
    for part in (known.mean(axis=0), known.std(axis=0))
  )
  return Band(np.array(x, np.float64), mean, std, len(curves))


def method_band(pairs, method, quantity="relative_accuracy") -> Band:
  """A quantity of one method of `matching`, over taps."""
  return band([pair.results.get(method, {}).get(quantity, {}) for pair in pairs])


def mean_over(pairs, method, taps, quantity="relative_accuracy") -> float:
  """The same averaged over pairs and these taps; NaN where no pair has a value."""
  values = [
    pair.results.get(method, {}).get(quantity, {}).get(tap, np.nan)
    for pair in pairs
    for tap in taps
  ]
  known = [value for value in values if np.isfinite(value)]
  return float(np.mean(known)) if known else float("nan")


def methods_of(pairs) -> list:
  """Methods that any pair has, in the order of the files."""
  return list(dict.fromkeys(method for pair in pairs for method in pair.results))


def matrices(pair, keys=()) -> list | None:
  """The arrays of these keys, float [strengths, C_source, C_target]; None if one is unreadable."""
  try:
    with np.load(pair.arrays, allow_pickle=False) as archive:
      return [np.asarray(archive[key], np.float64) for key in keys]
  except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile):
    return None


def _read(path, experiment, results):
  content = read_json(path)
  source, target = content["source"], content["target"]
  for name in (source, target):
    if name not in results.members:
      raise _UnknownMemberError(f"the run has no member {name!r}")
  taps = [int(tap) for tap in content["taps"]]
  return Stitched(
    source,
    target,
    "itself" if source == target else results.relation(source, target),
    float(content["width"]),
    dict(zip(taps, map(str, content["tap_names"]), strict=True)),
    _number(content["target_accuracy"]),
    int(content["num_train"]),
    int(content["num_test"]),
    {key: content["settings"][key] for key in ("epochs", "labels", "start")},
    _READERS[experiment](content["results"], taps),
    os.path.splitext(path)[0] + ".npz",
  )


def _reason(error):
  if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
    return "it is not valid JSON"
  if isinstance(error, KeyError):
    return f"it lacks the field {error}"
  if isinstance(error, _UnknownMemberError | OSError):
    return str(error)
  return "it does not have the form of this experiment's results"


class _UnknownMemberError(ValueError):
  """A file that names a member which the run does not have."""


def _number(value):
  return float("nan") if value is None else float(value)


def _numbers(keys, values):
  return {key: _number(value) for key, value in zip(keys, values, strict=True)}


def _methods(content, taps):
  """{method: {quantity: {tap: value}}}."""
  for columns in content["methods"].values():
    if "relative_accuracy" not in columns:
      raise KeyError("relative_accuracy")
  return {
    method: {key: _numbers(taps, values) for key, values in columns.items()}
    for method, columns in content["methods"].items()
  }


def _epochs(content, taps):
  """{tap: {quantity: {epoch: value}}}; epoch 0 is the start."""
  return {
    tap: {key: _numbers(range(len(values)), values) for key, values in columns.items()}
    for tap, columns in zip(taps, content["taps_by_epoch"], strict=True)
  }


def _starts(content, taps):
  """{tap: {start: relative accuracy of each solution}}."""
  return {
    tap: {
      start: [_number(row["relative_accuracy"]) for row in rows] for start, rows in starts.items()
    }
    for tap, starts in zip(taps, content["starts_by_tap"], strict=True)
  }


def _paths(content, taps):
  """{tap: {"kept": int, "tried": int, "curves": [{share: relative accuracy}]}}."""
  return {
    tap: {
      "kept": int(row["kept"]),
      "tried": int(row["tried"]),
      "curves": [_numbers(content["shares"], curve) for curve in row["curves"]],
    }
    for tap, row in zip(taps, content["paths_by_tap"], strict=True)
  }


def _sparse(content, taps):
  """{tap: {method: {quantity: {strength's index: value}}}}."""
  return {
    tap: {
      method: {
        key: {i: _number(row[key]) for i, row in enumerate(rows)}
        for key in ("sparsity", "relative_accuracy")
      }
      for method, rows in methods.items()
    }
    for tap, methods in zip(taps, content["by_tap"], strict=True)
  }


def _ranks(content, taps):
  """{tap: {method: {rank: relative accuracy}}}."""
  return {
    tap: {
      method: _numbers(ranks, [row["relative_accuracy"] for row in rows])
      for method, rows in methods.items()
    }
    for tap, ranks, methods in zip(taps, content["ranks_by_tap"], content["by_tap"], strict=True)
  }


_READERS = {
  "matching": _methods,
  "width": _methods,
  "indices": _epochs,
  "low_cka": _epochs,
  "initialisation": _starts,
  "connectivity": _paths,
  "sparsity": _sparse,
  "low_rank": _ranks,
}
