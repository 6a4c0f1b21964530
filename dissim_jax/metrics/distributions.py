"""How alike the probabilities of two models are."""

import jax
import jax.numpy as jnp

from dissim_jax.metrics import checks


def _divergence_from_middle(p: jax.Array, q: jax.Array) -> jax.Array:
  """Elementwise `p log2(p / m)`, m = (p + q) / 2; 0 with a zero gradient where p is 0."""
  positive = p > 0
  # 2p / (p + q) and not p / m: half of the smallest number is 0.
  ratio = jnp.where(positive, 2 * p, 1.0) / jnp.where(positive, p + q, 1.0)
  return jnp.where(positive, p * jnp.log2(ratio), 0.0)


def jensen_shannon_divergence(probs_a: jax.Array, probs_b: jax.Array) -> jax.Array:
  """Mean Jensen-Shannon divergence in bits: `mean_i (D(p_i || m_i) + D(q_i || m_i)) / 2`.

  `m = (p + q) / 2`, D with the logarithm to base 2, 0 log 0 = 0, no square root. Wald et al. 2023,
  Eq. 15-16, which leave the base open; base 2 bounds it by 1.

  Args:
    probs_a: `[N, K]`, rows summing to 1.
    probs_b: `[N, K]`, rows summing to 1.

  Returns:
    in [0, 1]; 0 = the same distributions, 1 = disjoint ones. Gradients are finite: a probability of
    exactly 0 gets none.
  """
  checks.check_probabilities(probs_a=probs_a, probs_b=probs_b)
  p, q = probs_a.astype(jnp.float32), probs_b.astype(jnp.float32)
  bits = _divergence_from_middle(p, q) + _divergence_from_middle(q, p)
  divergence = jnp.mean(jnp.sum(bits, axis=-1)) / 2
  # Rounding can step out of [0, 1]; bring the value back, leave the gradient.
  return divergence + jax.lax.stop_gradient(jnp.clip(divergence, 0.0, 1.0) - divergence)


def kullback_leibler_divergence(probs_a: jax.Array, probs_b: jax.Array) -> jax.Array:
  """Mean Kullback-Leibler divergence of b from a in bits: `mean_i sum_k p_ik log2(p_ik / q_ik)`.

  p are the probabilities of a, q those of b; 0 log 0 = 0. Not symmetric. Named as a measure of
  diversity in Rosales et al. 2023, section 2.2 (Kullback & Leibler 1951); base 2 as in
  `jensen_shannon_divergence`.

  Args:
    probs_a: `[N, K]`, rows summing to 1.
    probs_b: `[N, K]`, rows summing to 1.

  Returns:
    >= 0; 0 = the same distributions, higher = less alike. inf where any q is 0 and its p is not,
    which softmax yields in float32 from differences of logits of about 90 on. A subnormal
    probability may count as 0.
  """
  checks.check_probabilities(probs_a=probs_a, probs_b=probs_b)
  p, q = probs_a.astype(jnp.float32), probs_b.astype(jnp.float32)
  both = (p > 0) & (q > 0)
  bits = p * jnp.log2(jnp.where(both, p, 1.0) / jnp.where(both, q, 1.0))
  bits = jnp.where((p > 0) & (q <= 0), jnp.inf, bits)
  divergence = jnp.mean(jnp.sum(bits, axis=-1))
  # Rounding can step below 0; bring the value back, leave the gradient.
  below = jax.lax.stop_gradient(jnp.minimum(divergence, 0.0))
  return divergence - below


def cosine_similarity(probs_a: jax.Array, probs_b: jax.Array) -> jax.Array:
  """Mean cosine of the angle between two models' probabilities: `mean_i p_i.q_i / (|p_i| |q_i|)`.

  Named as a measure of diversity in Rosales et al. 2023, section 2.2.

  Args:
    probs_a: `[N, K]`, rows summing to 1.
    probs_b: `[N, K]`, rows summing to 1.

  Returns:
    in [0, 1]; 1 = the same distributions, 0 = disjoint ones; lower = more diverse.
  """
  checks.check_probabilities(probs_a=probs_a, probs_b=probs_b)
  p, q = probs_a.astype(jnp.float32), probs_b.astype(jnp.float32)
  product = jnp.linalg.norm(p, axis=-1) * jnp.linalg.norm(q, axis=-1)
  cosine = jnp.mean(jnp.sum(p * q, axis=-1) / product)
  # Rounding can step above 1; bring the value back, leave the gradient.
  return cosine - jax.lax.stop_gradient(jnp.maximum(cosine - 1.0, 0.0))
