"""Which models of a pool to put into an ensemble."""

import functools

import jax
import jax.numpy as jnp

from dissim_jax.metrics import checks
from dissim_jax.metrics.combination import (
  check_rule,
  contributions,
  ensemble_probabilities,
  from_mean,
)


def _score(probs: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Number of right predictions and cross-entropy; a probability of 0 counts as the smallest."""
  label_probs = jnp.take_along_axis(probs, labels[:, None], axis=-1)
  right = jnp.sum(jnp.argmax(probs, axis=-1) == labels)
  return right, -jnp.mean(jnp.log(jnp.maximum(label_probs, jnp.finfo(jnp.float32).tiny)))


@functools.partial(jax.jit, static_argnames="rule")
def _score_sum(
  total: jax.Array, logits: jax.Array, count: jax.Array, labels: jax.Array, rule: str
) -> tuple[jax.Array, jax.Array]:
  """`_score` of the ensemble of `count` members in the sum and the one of these logits."""
  return _score(from_mean((total + contributions(logits, rule)) / (count + 1), rule), labels)


@functools.partial(jax.jit, static_argnames="rule")
def _score_members(logits: jax.Array, labels: jax.Array, rule: str) -> tuple[jax.Array, jax.Array]:
  return _score(ensemble_probabilities(logits, rule), labels)


def greedy_selection(
  logits: jax.Array, labels: jax.Array, *, first: int, size: int, rule: str
) -> tuple[list[int], list[float]]:
  """Grows an ensemble from one member by the best further member of a pool at each size.

  Best is the highest accuracy of the ensemble on these data, of equal ones the lowest
  cross-entropy, of equal ones the lowest index. The next member joins even where it lowers the
  accuracy. Gontijo-Lopes et al. 2022, section 4.5 and Figure 5. A host function: not for `jit`.

  Differs from the paper: it selects and reports on the same data; select on validation data and
  report the order on others.

  Args:
    logits: `[P, N, K]` of the pool, floating point.
    labels: `[N]`.
    first: index of the member to start from, 0..P-1.
    size: of the final ensemble, the first member included, 1..P.
    rule: one of RULES, see `ensemble_probabilities`. Tied votes count as the lowest class.

  Returns:
    The indices of the members in the order of joining, and the accuracy with each number of them:
    two lists of length `size`.
  """
  checks.check_scores(labels, axes="P, N, K", logits=logits)
  check_rule(rule)
  pool = len(logits)
  if not 0 <= first < pool:
    raise ValueError(f"first={first}: 0..{pool - 1} is allowed for {pool} members.")
  if not 1 <= size <= pool:
    raise ValueError(f"size={size}: 1..{pool} is allowed for {pool} members.")
  logits, labels = jnp.asarray(logits, jnp.float32), jnp.asarray(labels)
  order, accuracies = [], []
  total = jnp.zeros_like(logits[0])
  while len(order) < size:
    scores = {}
    for member in [first] if not order else [i for i in range(pool) if i not in order]:
      if rule == "median":
        chosen = logits[jnp.array([*order, member])]
        right, loss = _score_members(chosen, labels, rule)
      else:
        right, loss = _score_sum(total, logits[member], len(order), labels, rule)
      scores[member] = (-int(right), float(loss), member)
    best = min(scores, key=lambda member: scores[member])
    total += contributions(logits[best], rule) if rule != "median" else 0.0
    order.append(best)
    accuracies.append(-scores[best][0] / len(labels))
  return order, accuracies
