"""What members that are trained together minimise: pure functions of all members' logits.

`logits` `[M, B, K]` of M members, `labels` integer `[B]`. Every objective is a float32 scalar, the
mean over examples, and lower is better. h^i are a member's logits, f their mean (the ensemble that
averages logits), l the cross-entropy in nats.

References: Rosales et al. 2023, "Exploring resiliency to natural image corruptions in deep learning
using design diversity" (Eq. 1-3 and 8); Buschjäger et al. 2020, "Generalized negative correlation
learning for deep ensembling", from which Eq. 2 and 3 are.
"""

import jax
import jax.numpy as jnp
import optax

from dissim_jax.metrics.checks import check_indices


def _check(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """The logits as float32; raises unless they are floating [M, B, K] for labels [B] in 0..K-1.

  Under `jit` the labels' values are not known, and not checked.
  """
  if logits.ndim != 3 or 0 in logits.shape or not jnp.issubdtype(logits.dtype, jnp.floating):
    raise ValueError(f"logits are {logits.dtype}{logits.shape}: floating [M, B, K] are needed.")
  if labels.shape != logits.shape[1:2] or not jnp.issubdtype(labels.dtype, jnp.integer):
    raise ValueError(
      f"labels are {labels.dtype}{labels.shape}: integer {logits.shape[1:2]} are needed."
    )
  check_indices(num_classes=logits.shape[-1], labels=labels)
  return logits.astype(jnp.float32)


def _losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Cross-entropies `[..., B]` of logits `[..., B, K]`."""
  labels = jnp.broadcast_to(labels, logits.shape[:-1])
  return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)


def mean_member_loss(logits: jax.Array, labels: jax.Array, weight: float = 0.0) -> jax.Array:
  """`1/M sum_i l(h^i, y)`: members that happen to be trained together (Eq. 1); >= 0.

  `weight` has no effect; it is there so that all objectives are called alike.
  """
  del weight
  return jnp.mean(_losses(_check(logits, labels), labels))


def disagreements(logits: jax.Array) -> jax.Array:
  """`d_i' D d_i` `[M, B]`, `d_i = h^i - f`, `D = diag(p) - p p'`, `p = softmax(f)`; >= 0.

  D is the second derivative of the cross-entropy at f, so this is the variance of d_i under p.
  """
  logits = logits.astype(jnp.float32)
  ensemble = jnp.mean(logits, axis=0)
  probs, difference = jax.nn.softmax(ensemble), logits - ensemble
  centred = difference - jnp.sum(probs * difference, axis=-1, keepdims=True)
  return jnp.sum(probs * centred**2, axis=-1)


def diversity(logits: jax.Array) -> jax.Array:
  """`1/(2M) sum_i d_i' D d_i`, mean over examples: what GNCL rewards; 0 = members agree.

  To second order it is the mean loss of the members less the loss of the ensemble f.
  """
  return 0.5 * jnp.mean(disagreements(logits))


def gncl(logits: jax.Array, labels: jax.Array, weight: float) -> jax.Array:
  """Generalised negative correlation learning: `1/M sum_i l(h^i, y) - weight * diversity`.

  Rosales et al. 2023, Eq. 2. Weight 1 is, to second order, the loss of the ensemble f. Differs from
  Eq. 2 as printed by the mean over members in front of the first sum; Eq. 2 with lambda is M times
  this with weight lambda / M.

  Not bounded below for any weight above 0: where members' logits move apart symmetrically the
  reward grows with the square of the distance and the cross-entropies only linearly. A weight
  that is too large therefore diverges.
  """
  logits = _check(logits, labels)
  return jnp.mean(_losses(logits, labels)) - weight * diversity(logits)


def gncl_masked(logits: jax.Array, labels: jax.Array, weight: float) -> jax.Array:
  """As `gncl`, but a member is not rewarded on the examples that it gets wrong.

  Rosales et al. 2023, section 4.3 (f): `h^i != y` makes lambda 0 for that member and example. The
  mean is still over all M members.
  """
  logits = _check(logits, labels)
  right = jnp.argmax(logits, axis=-1) == labels
  rewarded = 0.5 * jnp.mean(jnp.where(right, disagreements(logits), 0.0))
  return jnp.mean(_losses(logits, labels)) - weight * rewarded


def balanced(logits: jax.Array, labels: jax.Array, weight: float) -> jax.Array:
  """`weight * l(f, y) + (1 - weight)/M sum_i l(h^i, y)`; >= 0 for weights in [0, 1].

  Rosales et al. 2023, Eq. 3, in which every summand of the outer mean over i is the same. Weight 0
  trains members, weight 1 the ensemble alone.
  """
  logits = _check(logits, labels)
  ensemble = jnp.mean(_losses(jnp.mean(logits, axis=0), labels))
  return weight * ensemble + (1.0 - weight) * jnp.mean(_losses(logits, labels))
