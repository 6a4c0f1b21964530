"""Output measures of members, of pairs and of growing ensembles, from saved logits alone."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax import metrics

PAIR_METRICS = {
  "error_consistency": metrics.error_consistency,
  "cohens_kappa_label": metrics.cohens_kappa_label,
  "error_inconsistency": metrics.error_inconsistency,
  "error_disagreement_ratio": metrics.error_disagreement_ratio,
}


def member_metrics(logits: np.ndarray, labels: np.ndarray, bins: int) -> dict[str, float]:
  """Accuracy, cross-entropy and calibration error of one member's logits `[N, K]`."""
  return probability_metrics(jax.nn.softmax(logits), labels, bins)


def probability_metrics(probs: jax.Array, labels: np.ndarray, bins: int) -> dict[str, float]:
  """Accuracy, cross-entropy and calibration error of class probabilities `[N, K]`."""
  probs = jnp.maximum(probs, jnp.finfo(probs.dtype).tiny)  # A finite logarithm.
  return {
    "accuracy": float(metrics.accuracy(probs, labels)),
    "cross_entropy": float(metrics.cross_entropy(jnp.log(probs), labels)),
    "expected_calibration_error": float(
      metrics.expected_calibration_error(probs, labels, num_bins=bins)
    ),
  }


def mean_pair_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
  """Error-diversity measures of logits `[M, N, K]`: the mean over all pairs of the M members."""
  predictions, probs = jnp.argmax(logits, -1), jax.nn.softmax(logits)
  values = {
    name: float(metrics.pairwise_mean(metric, predictions, labels))
    for name, metric in PAIR_METRICS.items()
  }
  values["label_disagreement"] = float(
    metrics.pairwise_mean(metrics.label_disagreement, predictions)
  )
  values["jensen_shannon_divergence"] = float(
    metrics.pairwise_mean(metrics.jensen_shannon_divergence, probs)
  )
  return values


def ensemble_rows(
  sequences: dict[str, Sequence[str]],
  names: Sequence[str],
  logits: np.ndarray,
  labels: np.ndarray,
  rule: str,
  bins: int,
) -> list[dict]:
  """One row for the first 2, 3, … members of each sequence (Wald et al. 2023, Table 1).

  Args:
    sequences: sequence name -> names of its members in order.
    names: the members' names in the order of `logits`.
    logits: `[M, N, K]`.
    labels: `[N]`.
    rule: how members are combined, see `metrics.ensemble_probabilities`.
    bins: of the calibration error.
  """
  rows = []
  for sequence, members in sequences.items():
    order = [names.index(member) for member in members]
    for size in range(2, len(order) + 1):
      chosen = logits[np.array(order[:size])]
      combined = probability_metrics(metrics.ensemble_probabilities(chosen, rule), labels, bins)
      row = {"sequence": sequence, "size": size, "members": list(members[:size])}
      row |= {f"ensemble_{name}": value for name, value in combined.items()}
      row["member_accuracy"] = float(metrics.accuracy(chosen[-1], labels))
      rows.append(row | mean_pair_metrics(chosen, labels))
  return rows


def pair_rows(names: Sequence[str], logits: np.ndarray, labels: np.ndarray) -> list[dict]:
  """The error-diversity measures of every pair of members."""
  return [
    {"a": names[i], "b": names[j], **mean_pair_metrics(logits[np.array([i, j])], labels)}
    for j in range(len(names))
    for i in range(j)
  ]
