"""Diversity of errors and predictions, calibration, specialisation: what was measured."""

import dataclasses
from typing import NamedTuple

import numpy as np

from dissim_jax.files import typed
from dissim_jax.registry.metrics import SCORES, quantities

FILE, ARRAYS = "diversity.json", ""
GROUPS = ("both_right", "only_a", "only_b", "neither")
_CURVES = (
  "validation_accuracy",
  "test_accuracy",
  "by_class_validation_accuracy",
  "by_class_test_accuracy",
)


class Reliability(NamedTuple):
  """A reliability diagram: float64 [bins]; `edges` [bins + 1]."""

  edges: np.ndarray
  count: np.ndarray
  confidence: np.ndarray
  accuracy: np.ndarray


class Scores(NamedTuple):
  """How good and how sure predictions are: {measure: value} and a reliability diagram."""

  values: dict
  reliability: Reliability


class Block(NamedTuple):
  """An ensemble before or after calibration: {measure: value}, {rule: Scores}."""

  diversity: dict
  ensembles: dict


class Sequence(NamedTuple):
  """An ensemble; what is None was not measured."""

  before: Block
  after: Block | None
  interpolation: dict | None
  specialisation: dict | None


class Member(NamedTuple):
  """A member; `after` is None and the temperature NaN without validation images."""

  temperature: float
  before: Scores
  after: Scores | None


@dataclasses.dataclass(frozen=True)
class Diversity:
  """What `evaluation/diversity.json` holds.

  Attributes:
    num_validation: images that temperatures were fitted on; 0: nothing is calibrated.
    rules: how members are combined, in the order of tables.
    members: {name: Member}.
    sequences: {name: Sequence}, the baseline first.
    names: {sequence: its members}.
    greedy: {"first", "order", "validation_accuracy", "test_accuracy"} or None.
  """

  num_validation: int
  rules: list
  members: dict
  sequences: dict
  names: dict
  greedy: dict | None

  @property
  def calibrated(self) -> bool:
    return any(sequence.after is not None for sequence in self.sequences.values())

  @property
  def rule(self) -> str:
    """The rule whose ensembles are drawn."""
    return "probs" if "probs" in self.rules else self.rules[0]


def read(results) -> Diversity | None:
  """Reads the file of a run; None where diversity was not measured.

  Raises:
    UserError: it is damaged; the sentence names it.
  """
  content = typed.read_json(results.workdir, FILE)
  if content is None:
    return None
  with typed.form(results.workdir, FILE):
    rules = [str(rule) for rule in content["rules"]]
    order = typed.in_order(results, content["sequences"])
    sequences = {name: _sequence(content["sequences"][name], rules) for name in order}
    if not rules or not sequences:
      raise ValueError("nothing was measured")
    return Diversity(
      int(content["num_validation"]),
      rules,
      {name: _member(row) for name, row in content["members"].items()},
      sequences,
      {name: list(content["sequences"][name]["members"]) for name in order},
      _greedy(content["greedy"]),
    )


def _member(row):
  after = row["calibrated"]
  return Member(
    typed.number(row["temperature"]),
    _scores(row["uncalibrated"]),
    None if after is None else _scores(after),
  )


def _scores(row, gains=()):
  diagram = row["reliability"]
  reliability = Reliability(
    typed.places(diagram["edges"]),
    *(typed.numbers(diagram[key]) for key in Reliability._fields[1:]),
  )
  typed.same_length(
    edges=reliability.edges[1:],
    count=reliability.count,
    confidence=reliability.confidence,
    accuracy=reliability.accuracy,
  )
  values = {score.key: typed.number(row[score.key]) for score in SCORES}
  # A file of an earlier version lacks what is measured since.
  values |= {gain.key: typed.number(row.get(gain.key)) for gain in gains}
  return Scores(values, reliability)


def _sequence(row, rules):
  blocks = [
    None if row[key] is None else _block(row[key], rules) for key in ("uncalibrated", "calibrated")
  ]
  if blocks[0] is None:
    raise ValueError("uncalibrated is null")
  return Sequence(
    *blocks, _interpolation(row["interpolation"]), _specialisation(row["specialisation"])
  )


def _block(row, rules):
  return Block(
    {key: typed.number(value) for key, value in row["diversity"].items()},
    {rule: _scores(row["ensembles"][rule], quantities("gains")) for rule in rules},
  )


def _interpolation(row):
  if row is None:
    return None
  interpolation = {
    "a": str(row["a"]),
    "b": str(row["b"]),
    "weights": typed.places(row["weights"]),
    **{key: typed.numbers(row[key]) for key in _CURVES},
  }
  typed.same_length(**{key: interpolation[key] for key in ("weights", *_CURVES)})
  return interpolation


def _specialisation(row):
  if row is None:
    return None
  specialisation = {
    "a": str(row["a"]),
    "b": str(row["b"]),
    "edges": typed.places(row["edges"]),
    **{key: typed.numbers(row[key]) for key in (*GROUPS, "by_class")},
  }
  typed.same_length(
    edges=specialisation["edges"][1:], **{key: specialisation[key] for key in GROUPS}
  )
  return specialisation


def _greedy(row):
  if row is None:
    return None
  selection = {
    "order": [str(name) for name in row["order"]],
    **{key: typed.numbers(row[key]) for key in ("validation_accuracy", "test_accuracy")},
  }
  typed.same_length(**selection)
  return selection
