"""Whether confidences are probabilities of being right."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.metrics import checks


class ReliabilityDiagram(NamedTuple):
  """Examples by confidence, in B bins of equal width."""

  edges: jax.Array  # float32 [B + 1], from 0 to 1.
  count: jax.Array  # int32 [B].
  confidence: jax.Array  # float32 [B], mean in the bin; nan without examples.
  accuracy: jax.Array  # float32 [B], as confidence.


def _binned(
  probs: jax.Array, labels: jax.Array, num_bins: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Edges, and for each example its bin, its confidence, and whether it is right."""
  checks.check_probabilities(labels, probs=probs)
  checks.check_bins(num_bins)
  probs = probs.astype(jnp.float32)
  confidence = jnp.max(probs, axis=-1)
  # Constants: under jit a division by a number may be rounded otherwise.
  edges = jnp.asarray(np.arange(num_bins + 1, dtype=np.float32) / np.float32(num_bins))
  bins = jnp.searchsorted(edges[1:-1], confidence, side="left")
  return edges, bins, confidence, jnp.argmax(probs, axis=-1) == labels


def expected_calibration_error(
  probs: jax.Array, labels: jax.Array, *, num_bins: int = 15
) -> jax.Array:
  """Expected calibration error: `sum_b n_b/N |accuracy_b - confidence_b|`.

  The confidence is the highest probability. Bins are of equal width and closed on the right,
  (b/B, (b+1)/B]; the first also holds 0. Guo et al. 2017, "On calibration of modern neural
  networks", Eq. 3.

  Args:
    probs: `[N, K]`, rows summing to 1.
    labels: `[N]`.
    num_bins: B >= 1.

  Returns:
    in [0, 1]; 0 = calibrated.
  """
  _, bins, confidence, right = _binned(probs, labels, num_bins)
  per_bin = jax.ops.segment_sum(right - confidence, bins, num_segments=num_bins)
  return jnp.sum(jnp.abs(per_bin)) / probs.shape[0]


def reliability_diagram(
  probs: jax.Array, labels: jax.Array, *, num_bins: int = 15
) -> ReliabilityDiagram:
  """Mean confidence and accuracy of the examples in each bin of confidence.

  A calibrated model has equal ones; accuracy below confidence is overconfidence. The bins are those
  of `expected_calibration_error`, which is `sum_b count_b / N |accuracy_b - confidence_b|` over the
  bins with examples. Guo et al. 2017, Figure 1 and Eq. 1-2.

  Args:
    probs: `[N, K]`, rows summing to 1.
    labels: `[N]`.
    num_bins: B >= 1.
  """
  edges, bins, confidence, right = _binned(probs, labels, num_bins)
  values = jnp.stack([jnp.ones_like(confidence), confidence, right.astype(jnp.float32)], axis=-1)
  count, confidences, rights = jax.ops.segment_sum(values, bins, num_segments=num_bins).T
  filled, divisor = count > 0, jnp.maximum(count, 1.0)
  means = (jnp.where(filled, total / divisor, jnp.nan) for total in (confidences, rights))
  return ReliabilityDiagram(edges, count.astype(jnp.int32), *means)
