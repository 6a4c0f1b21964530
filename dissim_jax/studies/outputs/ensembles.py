"""Output measures of members, of pairs and of growing ensembles, from saved logits alone."""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax import metrics
from dissim_jax.metrics import checks
from dissim_jax.registry.metrics import Metric, metrics_of

# As one program each: JAX compiles every operation of a function that is not compiled by itself.
accuracy, softmax = jax.jit(metrics.accuracy), jax.jit(jax.nn.softmax)


class Scores(NamedTuple):
  """What is measured of class probabilities."""

  accuracy: float
  cross_entropy: float
  expected_calibration_error: float
  reliability: metrics.ReliabilityDiagram

  def numbers(self) -> dict[str, float]:
    """All but the diagram."""
    return {name: float(value) for name, value in zip(self._fields, self[:-1], strict=False)}


def member_scores(logits: np.ndarray, labels: np.ndarray, bins: int) -> Scores:
  """`Scores` of one member's logits `[N, K]`."""
  checks.check_scores(logits=logits, labels=labels)
  return jax.device_get(_scores(softmax(logits), labels, False, bins))


def rule_scores(probs: jax.Array, labels: np.ndarray, rule: str, bins: int) -> Scores:
  """`Scores` of an ensemble's probabilities `[N, K]`.

  By votes the cross-entropy is inf nats where no member voted for a label: nothing rounds a share
  of votes to 0, as it may round a probability.
  """
  checks.check_scores(probs=probs, labels=labels)
  return jax.device_get(_scores(probs, labels, rule == "vote", bins))


@functools.partial(jax.jit, static_argnames="bins")  # One program, by votes or not.
def _scores(probs: jax.Array, labels: jax.Array, votes: jax.Array, bins: int) -> Scores:
  missing = jnp.any(jnp.take_along_axis(probs, labels[:, None], axis=-1) == 0)
  logs = jnp.log(jnp.maximum(probs, jnp.finfo(probs.dtype).tiny))  # finite
  return Scores(
    metrics.accuracy(probs, labels),
    jnp.where(votes & missing, jnp.inf, metrics.cross_entropy(logs, labels)),
    metrics.expected_calibration_error(probs, labels, num_bins=bins),
    metrics.reliability_diagram(probs, labels, num_bins=bins),
  )


@jax.jit
def _pair_values(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
  """All measures of two members: `[2, N, K]`, `[N]`."""
  members = {"classes": jnp.argmax(logits, -1), "probabilities": jax.nn.softmax(logits)}
  return {name: pair_value(metric, members, labels) for name, metric in metrics_of("pair").items()}


def pair_value(metric: Metric, members: dict[str, jax.Array], labels: jax.Array) -> jax.Array:
  """A metric of two members from their "classes" `[2, N]` and "probabilities" `[2, N, K]`."""

  def value(order):
    parts = ([labels] if name == "labels" else members[name][::order] for name in metric.takes)
    return metric.function(*itertools.chain(*parts))

  return (value(1) + value(-1)) / 2 if metric.both_ways else value(1)


def mean_pair_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
  """Error-diversity measures of logits `[M, N, K]`: the mean over all pairs of the M members.

  A measure that is nan for a pair is nan for all.
  """
  logits = np.asarray(logits)
  pairs = np.array(list(itertools.combinations(range(len(logits)), 2)))
  values = [jax.device_get(_pair_values(logits[pair], labels)) for pair in pairs]
  return {name: float(np.mean([pair[name] for pair in values])) for name in values[0]}


def ensemble_rows(
  sequences: dict[str, Sequence[str]],
  names: Sequence[str],
  logits: np.ndarray,
  labels: np.ndarray,
  rule: str,
  bins: int,
  seed: int = 0,
) -> list[dict]:
  """One row for the first 2, 3, … members of each sequence (Wald et al. 2023, Table 1).

  Args:
    sequences: sequence name -> names of its members in order.
    names: the members' names in the order of `logits`.
    logits: `[M, N, K]`.
    labels: `[N]`.
    rule: how members are combined, one of `metrics.RULES`; see `metrics.ensemble_probabilities`.
    bins: of the calibration error.
    seed: of the draws that break tied votes.
  """
  rows = []
  for sequence, members in sequences.items():
    order = [names.index(member) for member in members]
    for size in range(2, len(order) + 1):
      chosen = logits[np.array(order[:size])]
      probs, _ = metrics.combine(chosen, rule, seed)
      scores = rule_scores(probs, labels, rule, bins).numbers()
      row = {"sequence": sequence, "size": size, "members": list(members[:size])}
      row |= {f"ensemble_{name}": value for name, value in scores.items()}
      row["member_accuracy"] = float(accuracy(chosen[-1], labels))
      rows.append(row | mean_pair_metrics(chosen, labels))
  return rows


def pair_rows(names: Sequence[str], logits: np.ndarray, labels: np.ndarray) -> list[dict]:
  """The error-diversity measures of every pair of members."""
  return [
    {"a": names[i], "b": names[j], **mean_pair_metrics(logits[np.array([i, j])], labels)}
    for j in range(len(names))
    for i in range(j)
  ]
