"""What is below the root of a sweep: its runs and comparisons, finished or missing."""

import dataclasses
import math
import os
import zipfile
from pathlib import Path
from typing import Any

from dissim_jax.errors import UserError
from dissim_jax.files import layout
from dissim_jax.files.atomic import read_json
from dissim_jax.files.run import RunFiles, read_run
from dissim_jax.names import listed, shown
from dissim_jax.registry.objectives import BASELINE, SEQUENTIAL
from dissim_jax.studies.similarity import page as similarity_page

PAGES = {"run": layout.REPORT_PAGE, "comparison": layout.COMPARISON_PAGE}  # written last
# Folders that hold no run.
_NOT_RUNS = (layout.CHECKPOINTS, layout.WEIGHTS, layout.TENSORBOARD, layout.EVALUATION)
_DAMAGE = (
  UserError,
  OSError,
  EOFError,
  ValueError,
  KeyError,
  TypeError,
  AttributeError,
  zipfile.BadZipFile,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
  """One run of a sweep.

  Attributes:
    name: of its folder below the root.
    config: every field; of a missing run as planned.
    results: None if it is missing.
  """

  name: str
  config: dict
  results: RunFiles | None

  @property
  def seed(self) -> int:
    return self.config["seed"]

  @property
  def sequences(self) -> list:
    """Names of its sequences of members, also of a run that is missing."""
    if self.results is not None:
      return list(self.results.sequences)
    ensemble, objective = self.config["ensemble"], self.config["objective"]["name"]
    main = objective
    if objective == SEQUENTIAL:
      main = "dissimilar" if self.config["dissim"]["weight"] > 0 else BASELINE
    both = ensemble["baseline"] and ensemble["size"] > 1 and main != BASELINE
    return [BASELINE] * both + [main, *listed(ensemble["compare"])]


@dataclasses.dataclass(frozen=True)
class Collection:
  """What was found.

  Attributes:
    root: as the user gave it.
    sweep: name of the sweep; "" if the folder is a user's own collection.
    runs: in the order of the plan, or of their names.
    comparisons: of finished ones the LinCKA of pairs of members,
      {((run, member), (run, member)): [taps, taps]}.
    planned_comparisons: how many there should be.
    warnings: a sentence for each finished result that cannot be used.
  """

  root: str
  sweep: str
  runs: list
  comparisons: list
  planned_comparisons: int
  warnings: list

  @property
  def finished(self) -> list:
    return [run for run in self.runs if run.results is not None]


def read_collection(root: str | os.PathLike) -> Collection:
  """Reads the finished runs and comparisons below a root, from their files alone.

  With a `sweep.json`, its runs; without, every run below the root that is finished.

  Raises:
    UserError: there is no such root, its `sweep.json` is damaged, or no run is finished.
  """
  given, root = os.fspath(root), Path(root)
  if not root.is_dir():
    raise UserError(f"--root={given!r}: there is no such folder; give the one of a sweep")
  planned = (root / layout.SWEEP).exists()
  sweep, tasks = _planned(root) if planned else ("", _finished(root))
  warnings, runs, compared = [], [], []
  for name, kind, config, needs in tasks:
    folder, result = root / name, None
    if (folder / PAGES[kind]).is_file():
      try:
        result = _read_run(folder) if kind == "run" else _read_comparison(folder)
      except _DAMAGE as error:
        warnings.append(_sentence(kind, name, folder, error))
    if kind == "comparison":
      compared += [] if result is None else [(result, needs)]
    elif result is not None or config:
      runs.append(Run(shown(name), result.config if result else config, result))
  names = [name for name, kind, _, _ in tasks if kind == "run"]
  pairs = [_lincka_pairs(comparison, needs or names) for comparison, needs in compared]
  count = sum(kind == "comparison" for _, kind, _, _ in tasks)
  collection = Collection(given, shown(sweep), runs, pairs, count, warnings)
  if not collection.finished:
    first = f" ({warnings[0].rstrip('.')})" if warnings else ""
    raise UserError(f"--root={given!r}: no run below it is finished{first}")
  return collection


def _sentence(kind: str, name: str, folder: Path, error: Exception) -> str:
  """What is wrong with a finished result; files are named from its folder on."""
  reason = " ".join(str(error).split()) or type(error).__name__
  reason = reason.replace(f"{folder}{os.sep}", "").replace(str(folder), name)
  return shown(f"{kind} {name!r} counts as missing: {reason.rstrip('.')}.")


def _planned(root: Path) -> tuple:
  """(name of the sweep, [(name, kind, config, names of the runs it needs)]) of `sweep.json`."""
  path = root / layout.SWEEP
  try:
    values = read_json(path)
    tasks = [
      (str(task["name"]), task["kind"], task["config"], list(map(str, task["needs"])))
      for task in values["tasks"]
    ]
    for name, kind, config, _ in tasks:
      if kind not in PAGES or os.path.isabs(name) or ".." in Path(name).parts:
        raise ValueError(f"the task {name!r}")
      if kind == "run":
        check_config(config)
    return str(values["sweep"]), tasks
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f"{str(path)!r} cannot be read ({error}); start the sweep again to have it "
      "written anew, or move it away to collect what is finished"
    ) from error


def _finished(root: Path) -> list:
  """As `_planned`, of what is finished below a folder, in the order of the names."""
  tasks = []
  for folder, inner, files in os.walk(root):
    inner[:] = sorted(set(inner) - set(_NOT_RUNS))
    path = Path(folder)
    name = path.relative_to(root).as_posix()
    if layout.CONFIG in files and (path / PAGES["run"]).is_file():
      tasks.append((name, "run", _config(path), []))
    if "comparison.json" in files and PAGES["comparison"] in files:
      tasks.append((name, "comparison", {}, []))
  return sorted(tasks, key=lambda task: task[0])


def _config(folder: Path) -> dict:
  """The config of a run whose results may be damaged; empty if it is damaged itself."""
  try:
    config = read_json(folder / layout.CONFIG)
    check_config(config)
    return config
  except (OSError, ValueError, KeyError, TypeError):
    return {}


def check_config(config: Any) -> None:
  """Raises ValueError, KeyError or TypeError if a field that tables are made of is unusable."""
  dissim, ensemble = config["dissim"], config["ensemble"]
  numbers = [config["seed"], ensemble["size"], *dissim["taps"]]
  texts = [
    dissim["metric"],
    config["objective"]["name"],
    config["data"]["name"],
    config["model"]["name"],
    *listed(ensemble["compare"]),
  ]
  if not all(type(number) is int for number in numbers):
    raise TypeError("seed, ensemble.size and dissim.taps must be whole numbers")
  if not all(isinstance(text, str) for text in texts):
    raise TypeError("names of metric, objective, data and model must be texts")
  for block in (dissim, config["objective"]):
    if not math.isfinite(block["weight"]):
      raise ValueError("weights must be finite")
  if not isinstance(ensemble["baseline"], bool):
    raise TypeError("ensemble.baseline must be true or false")


def _read_run(folder: Path) -> RunFiles:
  """The results of a run, of which everything that tables need is there."""
  results = read_run(folder)
  try:
    check_config(results.config)
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f"{folder / 'config.json'} cannot be used ({error!r})") from error
  try:
    for row in results.metrics["ensembles"]:
      row["sequence"], row["size"]
      for key, value in row.items():
        if key not in ("sequence", "members") and not isinstance(value, int | float | None):
          raise TypeError(f"ensembles: {key}")
    for names in results.sequences.values():
      for name in names:
        results.members[name]["taps"]
    dict(results.metrics["environment"])
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    path = folder / layout.EVALUATION / "metrics.json"
    raise UserError(f"{path} cannot be used ({error!r})") from error
  _check_maps(results.arrays["lincka"], folder / layout.EVALUATION / "similarity.npz")
  return results


def _check_maps(maps: dict, path: Path) -> None:
  if any(values.ndim != 2 for values in maps.values()):
    raise UserError(f"{path} cannot be used: LinCKA must have two axes")


def _read_comparison(folder: Path) -> similarity_page.Comparison:
  """A comparison of which everything that figures need is there."""
  file = "comparison.json"
  try:
    read_json(folder / file)
    file = "comparison.npz"
    comparison = similarity_page.read_comparison(folder)
    _check_maps(comparison.arrays, folder / file)
    file = "comparison.json"
    for member in comparison.facts["members"]:
      Path(member["run"]), member["name"].rpartition(":"), list(member["taps"])
    for measure in comparison.facts["measures"]:
      measure["name"], measure["given"]
    return comparison
  except _DAMAGE as error:
    raise UserError(f"{folder / file} cannot be read ({error})") from error


def _lincka_pairs(comparison: similarity_page.Comparison, runs: list) -> dict:
  """LinCKA by pair of (run, member), if all taps were compared with the options of an evaluation.

  Args:
    comparison: whose members name the folders of their runs, as they were when it was made.
    runs: names of the runs, one of which such a folder ends with.
  """
  measures = comparison.facts["measures"]
  if not any(measure["name"] == "lincka" and not measure["given"] for measure in measures):
    return {}
  owners = {}
  for member in comparison.facts["members"]:
    parts = Path(member["run"]).parts
    ends = [name for name in runs if parts[-len(Path(name).parts) :] == Path(name).parts]
    if ends:
      name = max(ends, key=len)
      owners[member["name"]] = shown(name), member["name"].rpartition(":")[2]
  return {
    (owners[a], owners[b]): values
    for (measure, a, b), values in comparison.arrays.items()
    if measure == "lincka" and a in owners and b in owners
  }
