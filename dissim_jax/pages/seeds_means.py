"""Several runs of one experiment: read, checked to differ in the seed alone, and averaged."""

import dataclasses
import math
import os
from typing import NamedTuple

import numpy as np

from dissim_jax.config.blocks import complete
from dissim_jax.config.values import flat
from dissim_jax.errors import UserError
from dissim_jax.files.run import RunFiles, read_run
from dissim_jax.registry.entry import Quantity
from dissim_jax.registry.objectives import BASELINE
from dissim_jax.render import table
from dissim_jax.studies.corruption import record as corruption_record

_IGNORED = ("seed", "command")  # fields of a config that may differ


class Spread(NamedTuple):
  """Mean and standard deviation (n - 1) over runs; `complete` unless a run has no value."""

  mean: float
  std: float
  complete: bool


@dataclasses.dataclass(frozen=True)
class Runs:
  """Runs of one experiment in the order of their seeds; `robust` is None if one has none."""

  runs: list
  robust: list | None

  @property
  def first(self) -> RunFiles:
    return self.runs[0]

  @property
  def seeds(self) -> list:
    return [run.metrics["seed"] for run in self.runs]

  @property
  def sizes(self) -> list:
    """Sizes of ensembles."""
    return sorted({row["size"] for row in self.first.metrics["ensembles"]})

  @property
  def sequences(self) -> list:
    """Sequences that have ensembles, the baseline first."""
    known = {row["sequence"] for row in self.first.metrics["ensembles"]}
    return [name for name in self.first.sequences if name in known]

  def clean(self, sequence: str, size: int, key: str) -> list:
    """A measure of an ensemble in every run; NaN where it has no value."""
    values = []
    for run in self.runs:
      rows = [
        row.get(key)
        for row in run.metrics["ensembles"]
        if (row["sequence"], row["size"]) == (sequence, size)
      ]
      values.append(math.nan if not rows or rows[0] is None else float(rows[0]))
    return values

  def corrupted(self, row: str, sequence: str, key: str) -> list:
    """A measure of a row of the comparison in every run, as `studies.corruption.record.Mean`."""
    return [robustness.mean(row, sequence, key) for robustness in self.robust]


def read_runs(workdirs: list) -> Runs:
  """Reads runs that differ in the seed alone.

  Raises:
    UserError: a file is missing or damaged; a directory is given twice; two runs have one seed; or
      their configs differ in another field, which is named.
  """
  paths = [os.path.realpath(workdir) for workdir in workdirs]
  for index, path in enumerate(paths):
    if path in paths[:index]:
      raise UserError(f"--workdir={workdirs[index]}: the same run is given twice.")
  runs = sorted((read_run(workdir) for workdir in workdirs), key=lambda run: run.metrics["seed"])
  for run in runs[1:]:
    _check_config(runs[0], run)
  for one, other in zip(runs, runs[1:], strict=False):
    if one.metrics["seed"] == other.metrics["seed"]:
      raise UserError(
        f"seed={one.metrics['seed']} in {one.workdir} and in {other.workdir}: every "
        "run must have a seed of its own."
      )
  robust = [corruption_record.read(run) for run in runs]
  if any(one is None for one in robust):
    return Runs(runs, None)
  for run, one in zip(runs, robust, strict=True):
    for key in ("severities", "corruptions", "sequences"):
      if getattr(one, key) != getattr(robust[0], key):
        raise UserError(
          f"{key} of evaluation/{corruption_record.FILE} differ between {runs[0].workdir} "
          f"and {run.workdir}: corrupt the images of all runs in one way."
        )
  return Runs(runs, robust)


def _check_config(one, other):
  configs = [dict(flat(complete(run.config))) for run in (one, other)]
  for field in dict.fromkeys([*configs[0], *configs[1]]):
    values = [config.get(field, "(no such field)") for config in configs]
    if field not in _IGNORED and values[0] != values[1]:
      raise UserError(
        f"{field}={values[0]!r} in {one.workdir} but {values[1]!r} in "
        f"{other.workdir}: the runs must differ in the seed alone."
      )


def spread(values: list, complete: bool = True) -> Spread:
  """Mean and standard deviation of the values that are not NaN."""
  known = [value for value in values if not math.isnan(value)]
  complete = complete and len(known) == len(values)
  if not known or any(math.isinf(value) for value in known):
    return Spread(sum(known) if known else math.nan, math.nan, complete)
  std = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
  return Spread(float(np.mean(known)), std, complete)


def clean_spread(runs: Runs, sequence: str, size: int, key: str) -> Spread:
  """Over runs, of a measure of an ensemble."""
  return spread(runs.clean(sequence, size, key))


def corrupted_spread(runs: Runs, row: str, sequence: str, key: str) -> Spread:
  """Over runs, of a measure in a row of the comparison."""
  means = runs.corrupted(row, sequence, key)
  return spread([mean.value for mean in means], all(mean.complete for mean in means))


def difference(values: list, baseline: list, complete: bool = True) -> Spread:
  """Over runs, of a value minus the baseline's of the same seed."""
  return spread([value - other for value, other in zip(values, baseline, strict=True)], complete)


def differences(runs: Runs) -> list:
  """Ensemble accuracy minus the baseline's, paired by seed.

  Returns:
    bodies of [(condition, {sequence: Spread})]: the clean images by size, then, where all runs have
    them, each corruption and their mean, at full size.
  """
  others = [name for name in runs.sequences if name != BASELINE]
  if BASELINE not in runs.sequences or not others:
    return []
  key = "ensemble_accuracy"
  bodies = [
    [
      (
        f"clean, ensemble of {size}",
        {
          name: difference(runs.clean(name, size, key), runs.clean(BASELINE, size, key))
          for name in others
        },
      )
      for size in runs.sizes
    ]
  ]
  robust = [] if runs.robust is None else runs.robust[0].sequences
  if BASELINE in robust:
    rows = runs.robust[0].rows
    bodies += [
      [
        (
          rows[row],
          {name: _corrupted_difference(runs, row, name, key) for name in others if name in robust},
        )
        for row in part
      ]
      for part in (runs.robust[0].corruptions, [corruption_record.MEAN])
    ]
  return bodies


def _corrupted_difference(runs, row, name, key):
  ours, theirs = (runs.corrupted(row, which, key) for which in (name, BASELINE))
  return difference(
    [mean.value for mean in ours],
    [mean.value for mean in theirs],
    all(mean.complete for mean in ours + theirs),
  )


def cells(measure: Quantity, spreads: dict) -> dict:
  """{name: Spread} as cells "mean ± std", marked by their means as one column."""
  marked = table.marked(measure, {name: value.mean for name, value in spreads.items()})
  return {name: with_spread(cell, measure, spreads[name]) for name, cell in marked.items()}


def with_spread(cell: table.Cell, measure: Quantity, value: Spread) -> table.Cell:
  """The cell with its standard deviation, where there is one."""
  text = measure.text(value.std)
  return dataclasses.replace(cell, spread="" if math.isnan(value.std) else text)
