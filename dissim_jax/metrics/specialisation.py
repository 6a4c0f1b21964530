"""Which of two models is the more confident, and where."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.metrics import checks


class SpecialisationHistogram(NamedTuple):
  """Numbers of examples by `confidence_angle` and by who is right."""

  edges: jax.Array  # float32 [B + 1], from -pi/4 to pi/4.
  both_right: jax.Array  # int32 [B], as the three below.
  only_a: jax.Array
  only_b: jax.Array
  neither: jax.Array


def _angle(probs_a: jax.Array, probs_b: jax.Array) -> jax.Array:
  confidence_a, confidence_b = (jnp.max(p, axis=-1).astype(jnp.float32) for p in (probs_a, probs_b))
  return jnp.pi / 4 - jnp.arctan2(confidence_b, confidence_a)


def confidence_angle(probs_a: jax.Array, probs_b: jax.Array) -> jax.Array:
  """Relative confidence of two models on each example: `pi/4 - atan2(conf_b, conf_a)`.

  The confidence is the highest probability. Gontijo-Lopes et al. 2022, section 4.3 and Figures 3
  and 9 (theta, a being their Model 1).

  Args:
    probs_a: `[N, K]`, rows summing to 1.
    probs_b: `[N, K]`, rows summing to 1.

  Returns:
    float32 `[N]` in (-pi/4, pi/4); positive = a is the more confident, 0 = both are equally so.
  """
  checks.check_probabilities(probs_a=probs_a, probs_b=probs_b)
  return _angle(probs_a, probs_b)


def specialisation_histogram(
  probs_a: jax.Array, probs_b: jax.Array, labels: jax.Array, *, num_bins: int = 31
) -> SpecialisationHistogram:
  """Histograms of `confidence_angle` for the examples right in both, one, and no model.

  Gontijo-Lopes et al. 2022, Figure 3: specialised models are confident where they alone are right,
  `only_a` to the right of 0 and `only_b` to its left.

  Differs from the paper: all examples are counted, not only those on which some ensemble has
  inconsistent errors.

  Args:
    probs_a: `[N, K]`, rows summing to 1.
    probs_b: `[N, K]`, rows summing to 1.
    labels: `[N]`.
    num_bins: B >= 1, of equal width and closed on the left. An odd number puts equal confidence,
      the angle of two certain models, in the middle of a bin.
  """
  checks.check_probabilities(labels, probs_a=probs_a, probs_b=probs_b)
  checks.check_bins(num_bins)
  right_a, right_b = (jnp.argmax(probs, axis=-1) == labels for probs in (probs_a, probs_b))
  edges = jnp.asarray(np.linspace(-np.pi / 4, np.pi / 4, num_bins + 1), jnp.float32)
  bins = jnp.searchsorted(edges[1:-1], _angle(probs_a, probs_b), side="right")
  groups = (right_a & right_b, right_a & ~right_b, ~right_a & right_b, ~right_a & ~right_b)
  members = jnp.stack(groups, axis=-1).astype(jnp.int32)
  counts = jax.ops.segment_sum(members, bins, num_segments=num_bins)
  return SpecialisationHistogram(edges, *counts.T)


def specialisation_by_class(probs_a: jax.Array, probs_b: jax.Array, labels: jax.Array) -> jax.Array:
  """Mean `confidence_angle` over the examples of each true class: float32 `[K]`.

  Positive = a is the more confident on the class; nan for classes without an example. Gontijo-Lopes
  et al. 2022, section 4.4 and Figure 4.

  Args:
    probs_a: `[N, K]`, rows summing to 1.
    probs_b: `[N, K]`, rows summing to 1.
    labels: `[N]`.
  """
  checks.check_probabilities(labels, probs_a=probs_a, probs_b=probs_b)
  angle, classes = _angle(probs_a, probs_b), probs_a.shape[-1]
  count = jax.ops.segment_sum(jnp.ones_like(angle), labels, num_segments=classes)
  total = jax.ops.segment_sum(angle, labels, num_segments=classes)
  return jnp.where(count > 0, total / jnp.maximum(count, 1.0), jnp.nan)
