"""Between two models: weights that are the same for all classes, or not."""

import jax
import jax.numpy as jnp

from dissim_jax.metrics import checks


def _check_pair(logits_a: jax.Array, logits_b: jax.Array, weight: jax.Array | float) -> None:
  checks.check_scores(logits_a=logits_a, logits_b=logits_b)
  if jnp.ndim(weight) != 0:
    raise ValueError(f"weight has shape {jnp.shape(weight)}: a scalar is needed.")
  value = checks.known(weight)
  if value is not None and not 0 <= value <= 1:
    raise ValueError(f"weight={value}: 0 to 1 is allowed.")


def interpolate(logits_a: jax.Array, logits_b: jax.Array, weight: jax.Array | float) -> jax.Array:
  """Logits between two models: `(1 - weight) logits_a + weight logits_b`, float32 `[N, K]`.

  Gontijo-Lopes et al. 2022, Figure 11, left (of calibrated models).

  Args:
    logits_a: `[N, K]`.
    logits_b: `[N, K]`.
    weight: scalar in [0, 1], the share of b: 0 = a alone, 1 = b alone.
  """
  _check_pair(logits_a, logits_b, weight)
  a, b = logits_a.astype(jnp.float32), logits_b.astype(jnp.float32)
  return (1.0 - weight) * a + weight * b


def interpolate_by_class(
  logits_a: jax.Array, logits_b: jax.Array, weight: jax.Array | float, favours_b: jax.Array
) -> jax.Array:
  """Logits between two models, weighted in opposite ways for two groups of classes.

  `z_k = (1 - w_k) log p_a,k + w_k log p_b,k` with `w_k = weight` for the classes in `favours_b` and
  `w_k = 1 - weight` for the others: at weight 1 the classes in `favours_b` get their logits from b
  and the others from a, at 0 the reverse, at 1/2 all get the mean. Gontijo-Lopes et al. 2022,
  Figure 11, right.

  Differs from the paper: it speaks of logits. A constant added to all logits of an example changes
  nothing in one model, but would change which group of classes wins here; log-probabilities are the
  logits without it.

  Args:
    logits_a: `[N, K]`.
    logits_b: `[N, K]`.
    weight: scalar in [0, 1].
    favours_b: bool `[K]`.

  Returns:
    float32 `[N, K]`.
  """
  _check_pair(logits_a, logits_b, weight)
  checks.check_shape("favours_b", favours_b, "K")
  if favours_b.dtype != bool or len(favours_b) != logits_a.shape[-1]:
    raise ValueError(
      f"favours_b is {favours_b.dtype}{favours_b.shape}: bool ({logits_a.shape[-1]},) is needed."
    )
  weights = jnp.where(favours_b, weight, 1.0 - weight)
  a, b = (jax.nn.log_softmax(z.astype(jnp.float32), axis=-1) for z in (logits_a, logits_b))
  return (1.0 - weights) * a + weights * b
