"""How good one model's scores are."""

import jax
import jax.numpy as jnp
import optax

from dissim_jax.metrics import checks


def fraction(condition: jax.Array, axis: int | None = None) -> jax.Array:
  """Share of true values over `axis` or all, as float32; exactly 1 where all are true."""
  count = condition.size if axis is None else condition.shape[axis]
  true = jnp.sum(condition, axis=axis, dtype=jnp.float32)
  # The compiler multiplies by 1 / count, by which 83 of 83 would be less than 1.
  return jnp.where(true == count, 1.0, true / count)


def accuracy(scores: jax.Array, labels: jax.Array) -> jax.Array:
  """Fraction of examples whose highest score is at the label: `[N, K]`, `[N]` -> [0, 1], 1 = best.

  `scores` are logits or probabilities; of equal highest scores the lowest class counts.
  """
  checks.check_scores(scores=scores, labels=labels)
  return fraction(jnp.argmax(scores, axis=-1) == labels)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Mean negative log-likelihood in nats: `mean_i -log softmax(logits_i)[label_i]`; >= 0, 0 = best.

  `logits` `[N, K]`, `labels` `[N]`.
  """
  checks.check_scores(logits=logits, labels=labels)
  logits = logits.astype(jnp.float32)
  # Beside a logit of 1e4 the logarithm of the sum of exponentials would keep three decimals.
  logits = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels))
