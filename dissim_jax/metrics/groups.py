"""How diverse the errors and the predicted classes of a whole group of models are.

`predictions` are the class indices of M members, integer `[M, N]`; `labels` integer `[N]`. K&W is
Kuncheva & Whitaker 2003, section 3.2.
"""

import jax
import jax.numpy as jnp

from dissim_jax.metrics import checks
from dissim_jax.metrics.scores import fraction


def _members_right(predictions: jax.Array, labels: jax.Array) -> jax.Array:
  """How many members are right, float32 [N]."""
  checks.check_members(predictions, labels=labels)
  return jnp.sum(predictions == labels, axis=0, dtype=jnp.float32)


def entropy_measure(predictions: jax.Array, labels: jax.Array) -> jax.Array:
  """K&W's entropy measure E: `mean_i min(l_i, M - l_i) / (M - ceil(M / 2))`, l_i members right.

  Not Shannon's entropy: no logarithm is taken, and only right and wrong are told apart.

  Returns:
    in [0, 1]; 0 = on every example all are right or all are wrong, 1 = half of the members are
    right on every example; higher = more diverse. nan for one member (0 / 0).
  """
  right = _members_right(predictions, labels)
  members = len(predictions)
  if members == 1:
    return jnp.full((), jnp.nan, jnp.float32)
  return jnp.mean(jnp.minimum(right, members - right)) / (members // 2)


def kohavi_wolpert_variance(predictions: jax.Array, labels: jax.Array) -> jax.Array:
  """K&W's form of the Kohavi-Wolpert variance: `mean_i l_i (M - l_i) / M^2`, l_i members right.

  It is `(M - 1) / (2 M)` of the mean `error_inconsistency` over all pairs (K&W). Kohavi & Wolpert
  1996.

  Returns:
    in [0, 1/4]; 0 = on every example all are right or all are wrong, as with one member; higher =
    more diverse.
  """
  right, members = _members_right(predictions, labels), len(predictions)
  return jnp.mean(right * (members - right)) / members**2


def coincident_failure_diversity(predictions: jax.Array, labels: jax.Array) -> jax.Array:
  """CFD: `1 / (1 - p_0) sum_{i=1}^M (M - i) / (M - 1) p_i`, p_i the share with i members wrong.

  That is the mean of `(members right) / (M - 1)` over the examples that some member gets wrong.
  Partridge & Krzanowski 1997, as given by K&W.

  Returns:
    in [0, 1]; 1 = every failure is of a single member, 0 = the members fail together or never
    (p_0 = 1); higher = more diverse. One member, for which the formula is 0 / 0, fails with all
    members when it fails: 0 by the same statement.
  """
  right = _members_right(predictions, labels)
  members = len(predictions)
  failing = right < members
  total = jnp.sum(jnp.where(failing, right, 0.0))
  return total / max(members - 1, 1) / jnp.maximum(jnp.sum(failing, dtype=jnp.float32), 1.0)


def all_wrong_fraction(predictions: jax.Array, labels: jax.Array) -> jax.Array:
  """Fraction of examples that every member gets wrong; in [0, 1], lower = better.

  `1 -` this is the accuracy of an oracle that picks a member per example. Gontijo-Lopes et al.
  2022, Figures 8 and 10 ("neither model correct").
  """
  return fraction(_members_right(predictions, labels) == 0)


def shannon_equitability(predictions: jax.Array, where: jax.Array | None = None) -> jax.Array:
  """Shannon's equitability index of the predicted classes: `mean_i - sum_s p_is ln p_is / ln M`.

  p_is is the share of the M members that predict class s for example i. Rosales et al. 2023, Eq. 5;
  with `where` the examples that are classified right or wrong, their H_corr and H_inco (Table 2).

  Differs from the paper: it divides by ln S, S the number of classes. Of M members at most M
  classes can be predicted, so that with 1000 classes and three members no value above 0.16 would be
  possible, but up to 0.77 are reported; hence ln M.

  Args:
    predictions: `[M, N]`.
    where: bool `[N]`, the examples to average over; all if None.

  Returns:
    in [0, 1]; 0 = all members predict one class, 1 = all predict different ones (which needs as
    many classes as members); higher = more diverse. nan for one member and where `where` holds no
    example.
  """
  checks.check_members(predictions)
  if where is not None:
    checks.check_shape("where", where, "N")
    if where.dtype != bool:
      raise ValueError(f"where has dtype {where.dtype}: bool is needed.")
    checks.check_count("where", where, "predictions", predictions, axis=1)
  members = len(predictions)
  if members == 1:
    return jnp.full((), jnp.nan, jnp.float32)
  predictions = jnp.asarray(predictions)
  # The sum over classes of -p ln p is the mean over members of -ln of their class's share.
  share = jax.lax.map(lambda member: fraction(predictions == member, axis=0), predictions)
  evenness = -jnp.mean(jnp.log(share), axis=0) / jnp.log(jnp.float32(members))
  return jnp.mean(evenness, where=where)
