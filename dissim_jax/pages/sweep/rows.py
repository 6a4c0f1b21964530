"""Runs of a sweep sorted into groups that may be compared, and rows that may be averaged."""

import dataclasses
import json
import math
from typing import Any, NamedTuple

import numpy as np

from dissim_jax.config.blocks import complete
from dissim_jax.config.values import flat
from dissim_jax.files.run import RunFiles
from dissim_jax.names import listed, shown
from dissim_jax.pages.sweep.read import Collection, Run
from dissim_jax.registry import measures, objectives
from dissim_jax.registry.measures import MEASURES
from dissim_jax.registry.objectives import BASELINE

# What a table varies, or what changes no result: all other fields must agree.
PROJECTION = ("dissim.projection.name", "dissim.projection.inner_steps")
VARIED = (
  "seed",
  "command",
  "dissim.metric",
  "dissim.taps",
  "dissim.weight",
  "ensemble.teachers",
  *PROJECTION,
)
_CLOSED = "closed form"
_PROJECTED = ("expvar", "l2corr", "l2corr_squared")  # metrics of a member and what predicts it
_TITLE_FIELDS = 3  # fields that differ between groups and are named in a title


class Key(NamedTuple):
  """What was done to the members of a row; `projection` where a group has several."""

  metric: str
  taps: tuple
  weight: float
  projection: str = ""

  @property
  def name(self) -> str:
    """Display name of the metric, or of a joint objective."""
    if self.metric == BASELINE:
      return "Baseline"
    name = (measures.measure_label if self.metric in MEASURES else objectives.objective_name)(
      self.metric
    )
    return shown(name)

  @property
  def layer(self) -> str:
    return ", ".join(map(str, self.taps)) or "–"

  @property
  def label(self) -> str:
    """In a few words, e.g. "ExpVar, tap 8"."""
    plural = "s" if len(self.taps) > 1 else ""
    label = self.name + (f", tap{plural} {self.layer}" if self.taps else "")
    return label + (f", {self.projection}" if self.projection else "")


BASELINE_KEY = Key(BASELINE, (), 0.0)


@dataclasses.dataclass(frozen=True)
class Row:
  """Runs that differ in their seed alone.

  Attributes:
    key: what was done to the members.
    sources: {seed: [(Run, name of the sequence)]}, any one of which will do for the seed.
  """

  key: Key
  sources: dict

  @property
  def finished(self) -> dict:
    """{seed: (Run, name of the sequence)} of the seeds that are finished."""
    finished = {}
    for seed, sources in self.sources.items():
      there = [(run, sequence) for run, sequence in sources if run.results is not None]
      if there:
        finished[seed] = there[0]
    return finished

  @property
  def missing(self) -> int:
    """How many seeds are missing."""
    return len(self.sources) - len(self.finished)

  def by_seed(self, measure: str, size: int) -> dict:
    """{seed: a measure of the ensemble of the first `size` members}; NaN where undefined."""
    return {
      seed: _value(run.results, sequence, size, measure)
      for seed, (run, sequence) in self.finished.items()
    }

  def values(self, measure: str, size: int) -> list:
    """The same of the seeds in order."""
    return list(self.by_seed(measure, size).values())

  def members(self) -> dict:
    """{seed: names of the members of its sequence} of the seeds that are finished."""
    return {
      seed: run.results.sequences[sequence] for seed, (run, sequence) in self.finished.items()
    }

  def lincka(self, i: int, j: int) -> dict:
    """{seed: LinCKA [taps of member i, taps of member j]} of members i and j of the sequence."""
    maps = {
      seed: lincka(self.finished[seed][0].results, names[i], names[j])
      for seed, names in self.members().items()
      if max(i, j) < len(names)
    }
    return {seed: values for seed, values in maps.items() if values is not None}


def _value(results: RunFiles, sequence: str, size: int, measure: str) -> float:
  for row in results.metrics["ensembles"]:
    if (row["sequence"], row["size"]) == (sequence, size):
      value = row.get(measure)
      return math.nan if value is None else float(value)
  return math.nan


def lincka(results: RunFiles, a: str, b: str) -> np.ndarray | None:
  """LinCKA [taps of a, taps of b] of two members of a run, if it was measured."""
  maps = results.arrays["lincka"]
  if (a, b) in maps:
    return maps[a, b]
  return maps[b, a].T if (b, a) in maps else None


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs whose configs agree but for what a table varies.

  Attributes:
    title: of the group, told apart from those of the others.
    config: {dotted field: value} that all runs share, that of projections where they have one.
    runs: in the order of the collection.
    rows: the baseline first, then by metric, number of taps, taps, weight.
    differing: the fields of `config` that differ between groups.
  """

  title: str
  config: dict
  runs: list
  rows: list
  differing: list = dataclasses.field(default_factory=list)

  @property
  def sizes(self) -> list:
    """Numbers of models of the ensembles."""
    return list(range(2, self.config["ensemble.size"] + 1))

  @property
  def baseline(self) -> Row | None:
    return next((row for row in self.rows if row.key == BASELINE_KEY), None)

  @property
  def regularised(self) -> list:
    return [row for row in self.rows if row.key != BASELINE_KEY]

  @property
  def has_projections(self) -> bool:
    """Whether rows differ in their projection."""
    return any(row.key.projection for row in self.rows)

  @property
  def missing(self) -> list:
    """Names of the runs that are not finished."""
    return [run.name for run in self.runs if run.results is None]

  @property
  def finished(self) -> list:
    return [run for run in self.runs if run.results is not None]


def group_runs(collection: Collection) -> tuple:
  """The groups of a collection, in the order of their first runs.

  Returns:
    (groups, sentences on runs that are left out because another has the same config and seed).
  """
  gathered: dict[str, list[Run]] = {}
  for run in collection.runs:
    gathered.setdefault(json.dumps(shared(run.config), sort_keys=True), []).append(run)
  warnings: list[str] = []
  groups = [
    Group("", shared(runs[0].config) | _shared_projection(runs), runs, _rows(runs, warnings))
    for runs in gathered.values()
  ]
  configs = [group.config for group in groups]
  names = dict.fromkeys(name for config in configs for name in config)
  differing = [
    name for name in names if any(config.get(name) != configs[0].get(name) for config in configs)
  ]
  titled = [
    dataclasses.replace(group, title=_title(group, differing), differing=differing)
    for group in groups
  ]
  return titled, list(dict.fromkeys(warnings))


def shared(config: dict) -> dict:
  """{dotted field: value} without what a table varies; what an older config lacks is default."""
  return {name: value for name, value in flat(complete(config)) if name not in VARIED}


def _projection(config: dict) -> tuple:
  """Name and steps of the projection that made members dissimilar; empty where none did."""
  dissim = config["dissim"]
  if not dissim["weight"] or dissim["metric"] not in _PROJECTED:
    return ()
  settings = dissim["projection"]
  return settings["name"], settings["inner_steps"] if settings["name"] == "learned" else 1


def _shared_projection(runs: list) -> dict:
  """The fields of the projection, if no two runs differ in it."""
  if len({_projection(run.config) for run in runs} - {()}) > 1:
    return {}
  chosen = next((run for run in runs if _projection(run.config)), runs[0])
  fields = dict(flat(chosen.config))
  return {name: fields[name] for name in PROJECTION if name in fields}


def _projection_words(run: Run) -> str:
  """E.g. "learned, 5 steps"."""
  projection = _projection(run.config)
  if not projection:
    return ""
  name, steps = projection
  words = {"least_squares": _CLOSED}.get(name, shown(name))
  return f"{words}, {steps} steps" if steps > 1 else words


def _title(group: Group, differing: list) -> str:
  """E.g. "resnet34 on cifar10", and the first of the other fields that differ."""
  config = group.config
  models = listed(config.get("ensemble.models") or [config["model.name"]])
  title = f"{' + '.join(dict.fromkeys(models))} on {config['data.name']}"
  named = ("model.name", "ensemble.models", "data.name")
  rest = [name for name in differing if name not in named]
  parts = [f"{name}={_text(config.get(name))}" for name in rest[:_TITLE_FIELDS]]
  more = [f"{len(rest) - _TITLE_FIELDS} more"] if len(rest) > _TITLE_FIELDS else []
  return shown(", ".join([title, *parts, *more]))


def _text(value: Any) -> str:
  return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _rows(runs: list, warnings: list) -> list:
  """The rows of one group's runs; a second run of the same row and seed is told and left out."""
  sources: dict[Key, dict[int, list]] = {}
  several = not _shared_projection(runs)
  for run in runs:
    for sequence in run.sequences:
      key = _key(run, sequence, several)
      same_seed = sources.setdefault(key, {}).setdefault(run.seed, [])
      rival = next(
        (other for other, name in same_seed if _same(run, other) and name == sequence), None
      )
      if rival is not None and None not in (run.results, rival.results):
        warnings.append(
          f"run {run.name!r} is left out of the means: {rival.name!r} has the same config and seed."
        )
      same_seed.append((run, sequence))
  metrics = list(dict.fromkeys(key.metric for key in sources))
  order = sorted(
    sources,
    key=lambda key: (
      key != BASELINE_KEY,
      metrics.index(key.metric),
      len(key.taps),
      key.taps,
      key.projection == _CLOSED,
      key.projection,
      key.weight,
    ),
  )
  return [Row(key, dict(sorted(sources[key].items()))) for key in order]


def _key(run: Run, sequence: str, with_projection: bool) -> Key:
  if sequence == BASELINE:
    return BASELINE_KEY
  dissim, objective = run.config["dissim"], run.config["objective"]
  if sequence == "dissimilar":
    words = _projection_words(run) if with_projection else ""
    return Key(dissim["metric"], tuple(dissim["taps"]), float(dissim["weight"]), words)
  return Key(sequence, (), float(objective["weight"]))


def _same(one: Run, other: Run) -> bool:
  """Whether two runs of a group and seed train the same members."""

  def kept(run):
    dissim = run.config["dissim"]
    weight = float(dissim["weight"])
    alike = (weight, dissim["metric"], tuple(dissim["taps"]), _projection(run.config))
    return alike if weight else weight

  return kept(one) == kept(other)
