"""One prediction out of several models'."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.metrics import checks
from dissim_jax.names import nearest
from dissim_jax.registry.metrics import RULES
from dissim_jax.seeds import folded

# Shares of the votes that differ by less are equal: weights are rounded.
_TIE = 1e-6


def check_rule(rule: str) -> None:
  """Raises unless `rule` is one of RULES."""
  if rule not in RULES:
    raise ValueError(f"rule={rule!r}: choose one of {', '.join(RULES)}{nearest(rule, RULES)}")


def contributions(logits: jax.Array, rule: str) -> jax.Array:
  """What each member adds to the mean over members: `[..., K]` -> `[..., K]`; not for "median"."""
  if rule == "probs":
    return jax.nn.softmax(logits, axis=-1)
  if rule == "geometric":
    return jax.nn.log_softmax(logits, axis=-1)
  if rule == "vote":
    return jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=jnp.float32)
  return logits


def from_mean(mean: jax.Array, rule: str) -> jax.Array:
  """Probabilities from the mean of the members' contributions; not for "median"."""
  return mean if rule in ("probs", "vote") else jax.nn.softmax(mean, axis=-1)


def _weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
  weights = weights.reshape(-1, *[1] * (values.ndim - 1))
  # A sum, not a matrix product, whose factors some devices round. Nothing of a member of weight 0.
  total = jnp.sum(jnp.where(weights > 0, weights * values, 0.0), axis=0)
  return total / jnp.sum(weights)


def _median(values: jax.Array, weights: jax.Array | None) -> jax.Array:
  """Log of the mean of the two middle exponentials over axis 0, weighted; `[M, N, K]` logs."""
  count = len(values)
  if weights is None:
    ordered = jnp.sort(values, axis=0)
    lower, upper = ordered[(count - 1) // 2], ordered[count // 2]
  else:
    order = jnp.argsort(values, axis=0)
    ordered = jnp.take_along_axis(values, order, axis=0)
    cumulative = jnp.cumsum((weights / jnp.sum(weights))[order], axis=0)
    ends = (cumulative >= 0.5 - _TIE, cumulative > 0.5 + _TIE)
    places = [jnp.argmax(end, axis=0, keepdims=True) for end in ends]
    lower, upper = (jnp.take_along_axis(ordered, place, axis=0)[0] for place in places)
  return jnp.logaddexp(lower, upper) - jnp.log(2.0)


def _check_weights(weights: jax.Array, logits: jax.Array) -> None:
  checks.check_shape("weights", weights, "M")
  if len(weights) != len(logits):
    raise ValueError(
      f"weights has shape {weights.shape} and logits {logits.shape}: M must be equal."
    )
  values = checks.known(weights)
  if values is not None and not (values.min() >= 0 and 0 < values.sum() < np.inf):
    raise ValueError(
      f"weights holds {values.tolist()}: finite numbers of 0 or more are needed, not all 0."
    )


def ensemble_probabilities(
  logits: jax.Array, rule: str = "probs", weights: jax.Array | None = None
) -> jax.Array:
  """Class probabilities of an ensemble: `[M, N, K]` logits of its members -> `[N, K]` float32.

  Args:
    logits: `[M, N, K]`, floating point.
    rule: one of RULES.
      "probs": the mean of the members' softmax (Wald et al. 2023).
      "logits": the softmax of their mean logits (Rosales et al. 2023, "averaging").
      "median": the median over members of each class's probability, the mean of the two middle ones
        for even M, divided by the sum over classes (Rosales et al. 2023, section 4.3, which does
        not say of what the median is taken).
      "geometric": the geometric mean over members of each class's probability, divided by the sum
        over classes. Up to rounding the same as "logits", since softmax forgets the constant by
        which a member's logits and log-probabilities differ; it has both its names in the
        literature.
      "vote": the share of members whose highest logit is at the class (of equal ones, the lowest).
    weights: `[M]` numbers >= 0, not all 0; equal ones if None. They need not sum to 1. The weighted
      median is the probability at which the ordered weights reach one half.

  Returns:
    rows that sum to 1 up to rounding.
  """
  checks.check_scores(logits=logits, axes="M, N, K")
  check_rule(rule)
  logits = logits.astype(jnp.float32)
  if weights is not None:
    _check_weights(weights, logits)
    weights = jnp.asarray(weights, jnp.float32)
  if rule == "median":
    # In logs, where the medians of all classes cannot all be 0.
    return jax.nn.softmax(_median(jax.nn.log_softmax(logits, axis=-1), weights), axis=-1)
  values = contributions(logits, rule)
  mean = jnp.mean(values, axis=0) if weights is None else _weighted_mean(values, weights)
  return from_mean(mean, rule)


def ensemble_predictions(
  logits: jax.Array,
  rule: str = "probs",
  *,
  key: jax.Array | None = None,
  weights: jax.Array | None = None,
) -> jax.Array:
  """Predicted classes of an ensemble: `[M, N, K]` logits of its members -> int32 `[N]`.

  The class of the highest of `ensemble_probabilities`, of equal ones the lowest class. "vote" draws
  among the classes with equally many votes ("draws are randomly resolved", Rosales et al. 2023,
  section 4.2), each equally likely, independently for each example.

  Args:
    logits: `[M, N, K]`, floating point.
    rule: one of RULES.
    key: PRNG key, needed by "vote" and used by no other rule.
    weights: as in `ensemble_probabilities`.
  """
  probs = ensemble_probabilities(logits, rule, weights)
  if rule != "vote":
    return jnp.argmax(probs, axis=-1)
  if key is None:
    raise ValueError("key=None: rule 'vote' needs a PRNG key to break ties.")
  tied = probs >= jnp.max(probs, axis=-1, keepdims=True) - _TIE
  return jnp.argmax(jnp.where(tied, jax.random.uniform(key, probs.shape), -1.0), axis=-1)


def combine(logits: jax.Array, rule: str, seed: int) -> tuple[jax.Array, jax.Array]:
  """Probabilities `[N, K]` and predictions `[N]` of the ensemble of logits `[M, N, K]`.

  A prediction is always where its probability is highest: of tied votes, the ones that were not
  drawn are a millionth smaller. `seed` is of the draws, any whole number from 0.
  """
  return _combine(logits, rule, folded(seed))


@functools.partial(jax.jit, static_argnames="rule")
def _combine(logits, rule, seed):
  probs = ensemble_probabilities(logits, rule)
  predictions = ensemble_predictions(logits, rule, key=jax.random.key(seed))
  if rule == "vote":
    drawn = jax.nn.one_hot(predictions, probs.shape[-1], dtype=bool)
    probs = jnp.where(drawn, probs, probs * (1.0 - 1e-6))
  return probs, predictions
