"""How members differ in what they predict, and what each way of combining them makes of it.

From saved logits alone, before and after every member is calibrated on the validation images.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dissim_jax import metrics
from dissim_jax.registry.metrics import metrics_of
from dissim_jax.studies.outputs import ensembles

# Interpolation at 0, 0.05, ..., 1 (Gontijo-Lopes et al. 2022, Figure 11).
NUM_WEIGHTS = 21
# The largest ensemble that greedy selection builds (their Figure 5).
MAX_GREEDY = 5
# How greedy selection combines members: the mean probability.
GREEDY_RULE = "probs"


class _Split(NamedTuple):
  """Logits `[M, N, K]` of all members on some images, and their labels `[N]`."""

  logits: np.ndarray
  labels: np.ndarray

  def of(self, order: Sequence[int]) -> "_Split":
    return _Split(self.logits[np.array(order)], self.labels)

  def divided(self, temperatures: Sequence[float]) -> "_Split":
    divisor = np.array(temperatures, np.float32)[:, None, None]
    return _Split(self.logits / divisor, self.labels)


def diversity(
  names: Sequence[str],
  sequences: dict[str, Sequence[str]],
  logits: np.ndarray,
  labels: np.ndarray,
  validation_logits: np.ndarray | None,
  validation_labels: np.ndarray | None,
  *,
  bins: int,
  seed: int,
) -> dict[str, Any]:
  """All measures of error and prediction diversity, ensembles, calibration and specialisation.

  "calibrated" results are of each member's logits divided by its own temperature, fitted on the
  validation images (`metrics.fit_temperature`). They are None without validation images, and so
  are "interpolation" and "greedy", which choose on these images.

  Args:
    names: the members' names in the order of `logits`.
    sequences: sequence name -> names of its members in order.
    logits: `[M, N, K]` on the test images.
    labels: `[N]`.
    validation_logits: `[M, V, K]`; None or V = 0 where there are no validation images.
    validation_labels: `[V]`, or None.
    bins: of calibration errors and reliability diagrams.
    seed: of the draws that break tied votes.

  Returns:
    what `evaluation/diversity.json` holds: dicts, lists, strings, numbers and None, which stands
    for what is undefined or infinite.
  """
  names = list(names)
  uncalibrated = _Split(np.asarray(logits, np.float32), np.asarray(labels))
  calibrated, validation, temperatures = None, None, [None] * len(names)
  if validation_logits is not None and validation_logits.shape[1]:
    validation = _Split(np.asarray(validation_logits, np.float32), np.asarray(validation_labels))
    temperatures = [
      float(metrics.fit_temperature(member_logits, validation.labels))
      for member_logits in validation.logits
    ]
    calibrated, validation = (s.divided(temperatures) for s in (uncalibrated, validation))
  states = {"uncalibrated": uncalibrated, "calibrated": calibrated}
  result = {
    "num_test": len(uncalibrated.labels),
    "num_validation": len(validation.labels) if validation else 0,
    "rules": list(metrics.RULES),
    "members": {
      name: {"temperature": temperatures[i]} | _each(states, lambda s, i=i: _member(s, i, bins))
      for i, name in enumerate(names)
    },
    "sequences": {},
    "greedy": _greedy(names, calibrated, validation) if validation else None,
  }
  for sequence, members in sequences.items():
    order = [names.index(member) for member in members]
    pair = {"a": members[0], "b": members[1]} if len(order) > 1 else None
    best, two = calibrated or uncalibrated, order[:2]
    result["sequences"][sequence] = {
      "members": list(members),
      **_each(states, lambda s, order=order: _block(s.of(order), bins, seed)),
      "interpolation": pair and validation and pair | _interpolation(best, validation, two),
      "specialisation": pair and pair | jax.device_get(_specialised(*best.of(two))),
    }
  return _plain(result)


def _each(states: dict[str, _Split | None], function) -> dict[str, Any]:
  return {name: None if split is None else function(split) for name, split in states.items()}


def _member(split: _Split, index: int, bins: int) -> dict[str, Any]:
  """One member by itself."""
  return ensembles.member_scores(split.logits[index], split.labels, bins)._asdict()


@jax.jit
def _group(predictions: jax.Array, right: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
  """The measures of a whole group; `right` bool `[N]`, where its ensemble is."""
  given = {"classes": predictions, "labels": labels, "right": right, "wrong": ~right}
  return _values("group", given)


def _values(kind: str, given: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """All metrics of a kind, of what they take."""
  return {
    name: metric.function(*(given[argument] for argument in metric.takes))
    for name, metric in metrics_of(kind).items()
  }


def _block(split: _Split, bins: int, seed: int) -> dict[str, Any]:
  """All measures of one group of members."""
  predictions, labels = split.logits.argmax(axis=-1), split.labels
  pairs = dict.fromkeys(metrics_of("pair"))
  if len(predictions) > 1:
    pairs = ensembles.mean_pair_metrics(split.logits, labels)
  right = np.asarray(metrics.combine(split.logits, "probs", seed)[1]) == labels
  return {
    "diversity": pairs | jax.device_get(_group(predictions, right, labels)),
    "ensembles": {rule: _ensemble(split, predictions, rule, bins, seed) for rule in metrics.RULES},
  }


@jax.jit
def _gains(predictions: jax.Array, ensemble: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
  return _values("ensemble", {"classes": predictions, "combined": ensemble, "labels": labels})


def _ensemble(
  split: _Split, predictions: np.ndarray, rule: str, bins: int, seed: int
) -> dict[str, Any]:
  """The ensemble of a group's members by one rule."""
  probs, combined = metrics.combine(split.logits, rule, seed)
  scores = ensembles.rule_scores(probs, split.labels, rule, bins)
  return scores._asdict() | jax.device_get(_gains(predictions, combined, split.labels))


@jax.jit
def _interpolated_accuracies(
  logits: jax.Array, labels: jax.Array, weights: jax.Array, favours_b: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Accuracies of both interpolations between two members `[2, N, K]` at each weight `[W]`."""

  def at(weight):
    simple = metrics.interpolate(*logits, weight)
    by_class = metrics.interpolate_by_class(*logits, weight, favours_b)
    return metrics.accuracy(simple, labels), metrics.accuracy(by_class, labels)

  return jax.lax.map(at, weights)


def _interpolation(test: _Split, validation: _Split, order: Sequence[int]) -> dict[str, Any]:
  """Between two members; the classes on which b is the better are found on the validation data."""
  test, validation = test.of(order), validation.of(order)
  right = validation.logits.argmax(axis=-1) == validation.labels
  classes = validation.logits.shape[-1]
  counts = [
    np.bincount(validation.labels[member_right], minlength=classes) for member_right in right
  ]
  favours_b = counts[1] > counts[0]
  weights = np.linspace(0.0, 1.0, NUM_WEIGHTS, dtype=np.float32)
  results = {"favours_b": favours_b, "weights": np.linspace(0.0, 1.0, NUM_WEIGHTS)}
  for name, split in (("validation", validation), ("test", test)):
    simple, by_class = _interpolated_accuracies(*split, weights, favours_b)
    results |= {f"{name}_accuracy": simple, f"by_class_{name}_accuracy": by_class}
  return results


@jax.jit
def _specialised(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
  probs = jax.nn.softmax(logits)
  histogram = metrics.specialisation_histogram(*probs, labels)
  by_class = metrics.specialisation_by_class(*probs, labels)
  return histogram._asdict() | {"by_class": by_class}


@jax.jit
def _sort_key(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Lowest for the best member: the highest accuracy, of equal ones the lowest cross-entropy."""
  return -metrics.accuracy(logits, labels), metrics.cross_entropy(logits, labels)


def _greedy(names: list[str], test: _Split, validation: _Split) -> dict[str, Any]:
  """Greedy selection among all members, from the best of them on the validation images."""
  scores = [
    tuple(map(float, _sort_key(member_logits, validation.labels)))
    for member_logits in validation.logits
  ]
  first, size = scores.index(min(scores)), min(MAX_GREEDY, len(names))
  order, reached = metrics.greedy_selection(*validation, first=first, size=size, rule=GREEDY_RULE)
  tested = [
    ensembles.accuracy(
      metrics.combine(test.of(order[:count]).logits, GREEDY_RULE, 0)[0], test.labels
    )
    for count in range(1, size + 1)
  ]
  return {
    "first": names[first],
    "order": [names[i] for i in order],
    "validation_accuracy": reached,
    "test_accuracy": tested,
  }


def _plain(value: Any) -> Any:
  """Arrays as lists or numbers, and None for what JSON has no number for."""
  if hasattr(value, "_asdict"):
    value = value._asdict()
  if isinstance(value, dict):
    return {name: _plain(part) for name, part in value.items()}
  if isinstance(value, jax.Array | np.ndarray | np.generic):
    value = np.asarray(value).tolist()
  if isinstance(value, list | tuple):
    return [_plain(part) for part in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
