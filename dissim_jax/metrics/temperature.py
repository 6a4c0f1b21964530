"""Temperature scaling: one number that calibrates a model."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.metrics import checks

# Where the best temperature is 0 or infinite, one of these is returned.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-3, 1e5
# Of the logarithm of the temperature: a few units in the last place at the bounds.
_TOLERANCE = 2e-6
# Halving the bracket alone takes 24 steps to the tolerance.
_MAX_STEPS = 64


class _Search(NamedTuple):
  """The state of the search for the log of the inverse temperature."""

  low: jax.Array
  high: jax.Array
  point: jax.Array
  step: jax.Array
  steps: jax.Array


def _slope(excess: jax.Array, point: jax.Array) -> tuple[jax.Array, jax.Array]:
  """d NLL / d b at the inverse temperature b = exp(point), and its derivative by `point`.

  With `excess` the logits minus the label's logit, `mean_i E_i` and `b mean_i V_i`: mean and
  variance of the excess under softmax(b excess). The NLL is convex in b: the slope never falls.
  """
  inverse = jnp.exp(point)
  probs = jax.nn.softmax(inverse * excess, axis=-1)
  mean = jnp.sum(probs * excess, axis=-1, keepdims=True)
  variance = jnp.sum(probs * (excess - mean) ** 2, axis=-1)
  return jnp.mean(mean), inverse * jnp.mean(variance)


def _advance(excess: jax.Array, search: _Search) -> _Search:
  """One step of Newton's method, or halves the bracket where that leaves it or is too slow."""
  slope, curvature = _slope(excess, search.point)
  low = jnp.where(slope < 0, search.point, search.low)
  high = jnp.where(slope < 0, search.high, search.point)
  newton = search.point - slope / curvature
  # NaN, from a slope and curvature of 0, is not inside.
  inside = (newton >= low) & (newton <= high)
  fast = jnp.abs(newton - search.point) <= search.step / 2
  point = jnp.where(inside & fast, newton, (low + high) / 2)
  return _Search(low, high, point, jnp.abs(point - search.point), search.steps + 1)


@jax.jit
def _fit(logits: jax.Array, labels: jax.Array) -> jax.Array:
  logits = logits.astype(jnp.float32)
  excess = logits - jnp.take_along_axis(logits, labels[:, None], axis=-1)
  low, high = (-jnp.log(jnp.float32(t)) for t in (HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE))
  start = _Search(low, high, jnp.zeros(()), high - low, jnp.zeros((), jnp.int32))
  end = jax.lax.while_loop(
    lambda search: (search.step > _TOLERANCE) & (search.steps < _MAX_STEPS),
    lambda search: _advance(excess, search),
    start,
  )
  temperature = jnp.exp(-end.point)
  temperature = jnp.where(_slope(excess, high)[0] <= 0, LOWEST_TEMPERATURE, temperature)
  temperature = jnp.where(_slope(excess, low)[0] >= 0, HIGHEST_TEMPERATURE, temperature)
  return jnp.where(jnp.all(excess == 0), 1.0, temperature)


def fit_temperature(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """The T that minimises the cross-entropy of `softmax(logits / T)` with the labels, float32.

  Guo et al. 2017, "On calibration of modern neural networks", section 4.2; fit it on validation
  data. Dividing logits by T > 0 leaves the predicted classes as they are. Newton's method in log T
  on the derivative by 1/T, which is monotone, so that its zero stays bracketed and steps that leave
  the bracket or do not halve are replaced by bisection; T is exact to a few float32 roundings.

  Args:
    logits: `[N, K]`, finite.
    labels: `[N]`.

  Returns:
    in [1e-3, 1e5]; above 1 = the model is overconfident, below 1 = underconfident. 1e-3 where every
    example's highest logit is at its label (the best T is 0), 1e5 where the logits say nothing of
    the labels or the contrary (the best T is infinite), 1 where every example's logits are equal
    among themselves (any T is as good).
  """
  checks.check_scores(logits=logits, labels=labels)
  values = checks.known(logits)
  if values is not None and values.min() == -np.inf:
    raise ValueError("logits holds -inf: finite logits are needed.")
  return _fit(logits, labels)
