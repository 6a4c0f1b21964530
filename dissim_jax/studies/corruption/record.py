"""How ensembles hold under corruptions: what was measured, and its means by corruption."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from dissim_jax.files import typed
from dissim_jax.registry.metrics import (
  ENSEMBLE_ACCURACY,
  MEMBER_ACCURACY,
  METRICS,
  quantities,
)

FILE, ARRAYS = "robustness.json", "corruptions.npz"
CLEAN, MEAN = "clean", "mean of corruptions"  # rows beside those of the corruptions
_SHORT = {"jensen_shannon_divergence": "JSD"}  # for a column
# Columns of the comparison of ensembles.
COMPARED = (
  dataclasses.replace(MEMBER_ACCURACY, label="Member accuracy", decimals=2),
  dataclasses.replace(ENSEMBLE_ACCURACY, decimals=2),
  *(
    dataclasses.replace(each, label=_SHORT.get(each.key, each.label))
    for each in quantities("corruption", 2)
  ),
)
GAIN = "gain_over_best"
# Columns of the table of every severity.
DETAILED = (*COMPARED[1:3], METRICS[GAIN].quantity())


class Mean(NamedTuple):
  """A mean, NaN of nothing; `complete` unless some of its conditions have no value."""

  value: float
  complete: bool


@dataclasses.dataclass(frozen=True)
class Robustness:
  """What `evaluation/robustness.json` holds.

  Attributes:
    severities: ascending.
    corruptions: {name: title} in the order of tables.
    sequences: names of the ensembles, the baseline first.
    values: {(corruption, severity): {sequence: {measure: value or NaN}}}; the key `CLEAN` has the
      values without corruption.
    rule: how members were combined.
    original, images: uint8 [H, W, C] and [n_corruptions, n_severities, H, W, C], or None.
  """

  severities: tuple
  corruptions: dict
  sequences: list
  values: dict
  rule: str
  original: np.ndarray | None = None
  images: np.ndarray | None = None

  @property
  def rows(self) -> dict:
    """{row of the comparison: its title}."""
    return {CLEAN: CLEAN, **self.corruptions, MEAN: MEAN}

  def at(self, condition, sequence: str, key: str) -> float:
    """One measured value: `condition` is `CLEAN` or (corruption, severity)."""
    return self.values[condition][sequence][key]

  def mean(self, row: str, sequence: str, key: str) -> Mean:
    """Mean over the severities of a corruption, or over corruptions.

    Conditions without a value do not count; a corruption with no value at all does not either.
    """
    if row == CLEAN:
      return Mean(self.at(CLEAN, sequence, key), True)
    if row == MEAN:
      parts = [self.mean(name, sequence, key) for name in self.corruptions]
    else:
      values = [self.at((row, severity), sequence, key) for severity in self.severities]
      parts = [Mean(value, not math.isnan(value)) for value in values]
    known = [part.value for part in parts if not math.isnan(part.value)]
    return Mean(
      sum(known) / len(known) if known else math.nan, all(part.complete for part in parts)
    )

  def by_severity(self, corruption: str, sequence: str, key: str) -> list:
    """(severity, value) from the clean images, severity 0, on; of `MEAN` over corruptions."""
    points = [(0.0, self.at(CLEAN, sequence, key))]
    names = self.corruptions if corruption == MEAN else [corruption]
    for severity in self.severities:
      values = [self.at((name, severity), sequence, key) for name in names]
      known = [value for value in values if not math.isnan(value)]
      points.append((severity, sum(known) / len(known) if known else math.nan))
    return points


def read(results) -> Robustness | None:
  """Reads the files of a run; None where robustness was not measured.

  Raises:
    UserError: a file is damaged; the sentence names it.
  """
  content = typed.read_json(results.workdir, FILE)
  if content is None:
    return None
  with typed.form(results.workdir, FILE):
    robustness = _parse(content, results)
  arrays = typed.read_arrays(results.workdir, ARRAYS)
  if arrays is None:
    return robustness
  with typed.form(results.workdir, ARRAYS):
    original, images = arrays["original"], arrays["images"]
    wanted = (len(robustness.corruptions), len(robustness.severities), *original.shape)
    if original.ndim != 3 or original.shape[-1] not in (1, 3) or images.shape != wanted:
      raise ValueError(f"original {original.shape}, images {images.shape}")
    if {original.dtype, images.dtype} != {np.dtype(np.uint8)}:
      raise TypeError("images are uint8")
    order = np.argsort([typed.number(value) for value in content["severities"]])
    return dataclasses.replace(robustness, original=original, images=images[:, order])


def _parse(content, results):
  severities = tuple(sorted(typed.number(value) for value in content["severities"]))
  corruptions = {str(row["name"]): str(row["title"]) for row in content["corruptions"]}
  sequences = typed.in_order(results, content["clean"]["sequences"])
  values = {CLEAN: _rows(content["clean"], sequences)}
  for row in content["conditions"]:
    key = str(row["corruption"]), typed.number(row["severity"])
    values[key] = _rows(row, sequences)
  for name in corruptions:
    for severity in severities:
      if (name, severity) not in values:
        raise ValueError(f"no condition {name}, severity {severity:g}")
  if not severities or not corruptions or not sequences:
    raise ValueError("nothing was measured")
  return Robustness(severities, corruptions, sequences, values, str(content["rule"]))


def _rows(content, sequences):
  keys = [measure.key for measure in COMPARED] + [GAIN]
  return {
    name: {key: typed.number(content["sequences"][name][key]) for key in keys} for name in sequences
  }
