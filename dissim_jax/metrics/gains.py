"""What an ensemble makes of its members.

`predictions` are the class indices of M members, integer `[M, N]`; `ensemble` those of their
ensemble, and `labels` the true ones, integer `[N]`.
"""

import jax
import jax.numpy as jnp

from dissim_jax.metrics import checks


def _rights(
  predictions: jax.Array, ensemble: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Where members `[M, N]` and ensemble `[N]` are right."""
  checks.check_members(predictions, ensemble=ensemble, labels=labels)
  return predictions == labels, ensemble == labels


def _count(condition: jax.Array, axis: int | None = None) -> jax.Array:
  """Number of true values; differences of numbers are exact, those of rounded shares are not."""
  return jnp.sum(condition, axis=axis, dtype=jnp.float32)


def conversion_rate(predictions: jax.Array, ensemble: jax.Array, labels: jax.Array) -> jax.Array:
  """Share that the ensemble gets right of the examples that some but not all members get right.

  For two members: the rate at which inconsistent errors become right predictions. Gontijo-Lopes et
  al. 2022, section 4.2 and Figure 2, right.

  Returns:
    in [0, 1], 1 = best; nan where there is no such example.
  """
  members, right = _rights(predictions, ensemble, labels)
  contested = jnp.any(members, axis=0) & ~jnp.all(members, axis=0)
  count = _count(contested)
  converted = _count(contested & right)
  return jnp.where(count > 0, converted / jnp.maximum(count, 1.0), jnp.nan)


def gain_over_best(predictions: jax.Array, ensemble: jax.Array, labels: jax.Array) -> jax.Array:
  """Accuracy of the ensemble minus that of its most accurate member; in [-1, 1], higher = better.

  Rosales et al. 2023, section 4.2 (`A_ens - A_top`).
  """
  members, right = _rights(predictions, ensemble, labels)
  return (_count(right) - jnp.max(_count(members, axis=1))) / len(labels)


def gain_over_mean(predictions: jax.Array, ensemble: jax.Array, labels: jax.Array) -> jax.Array:
  """Accuracy of the ensemble minus its members' mean accuracy; in [-1, 1], higher = better.

  Gontijo-Lopes et al. 2022, Figure 2, left.
  """
  members, right = _rights(predictions, ensemble, labels)
  return (len(members) * _count(right) - _count(members)) / members.size


def error_reduction_rate(
  predictions: jax.Array, ensemble: jax.Array, labels: jax.Array
) -> jax.Array:
  """`1 - e / mean_m e_m`, e the error rate of the ensemble and e_m that of a member.

  Returns:
    at most 1; 1 = no error is left, 0 = as many as a member makes on average, negative = more. nan
    where no member errs.
  """
  members, right = _rights(predictions, ensemble, labels)
  errors = _count(~members)
  avoided = errors - len(members) * _count(~right)
  return jnp.where(errors > 0, avoided / jnp.maximum(errors, 1.0), jnp.nan)
