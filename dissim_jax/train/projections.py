"""From the earlier members' taps to a prediction of the new member's taps.

In the min-max game of Wald et al. 2023 the projection maximises the similarity that the new member
minimises. A projection is a pair of pure functions, so that the training step stays one pure
function: `init` makes its state, `fit` improves it on one batch and predicts.

Notation: `sources[l][t]` is tap l of teacher t, `[B, H, W, C_t]`; `targets[l]` is the same tap of
the new member, `[B, H, W, C]`. `fit` returns `predictions[l]`, a list of arrays that are each
compared with `targets[l]`; the similarities are averaged. No gradient flows through `fit`.

A new projection is a function that returns a `Projection`, and an entry in
`registry.objectives.PROJECTIONS`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dissim_jax.similarity import moments, solve_affine

Sources = Sequence[Sequence[jax.Array]]
Targets = Sequence[jax.Array]
Predictions = list[list[jax.Array]]
# Mean similarity over taps: f(targets, predictions) -> scalar of the global batch.
Similarity = Callable[[Targets, Predictions], jax.Array]


class Projection(NamedTuple):
  """A way to predict the new member's taps.

  Attributes:
    init: `(key, sources, targets) -> state`; only shapes and dtypes of the arrays are used.
    fit: `(state, sources, targets, similarity) -> (predictions, state)`.
  """

  init: Callable[[jax.Array, Sources, Targets], Any]
  fit: Callable[[Any, Sources, Targets, Similarity], tuple[Predictions, Any]]


def concatenated(sources: Sequence[jax.Array]) -> jax.Array:
  """All teachers' channels at one tap side by side (Wald et al. 2023, section 2)."""
  return jnp.concatenate(sources, axis=-1)


def _pointwise(params: dict[str, jax.Array], source: jax.Array) -> jax.Array:
  """A 1x1 convolution with bias: the same affine map of the channels at every position."""
  return source @ params["kernel"].astype(source.dtype) + params["bias"].astype(source.dtype)


def learned(optimizer: optax.GradientTransformation, *, inner_steps: int = 1) -> Projection:
  """A 1x1 convolution with bias at each tap, trained by gradient ascent on the similarity (Eq. 6).

  With `inner_steps=1` member and projection move simultaneously, as in the paper: the member sees
  the projection as it was before this step's update. With k > 1 the projection takes k steps on
  every batch and the member sees it after k - 1 of them. One step lags behind the member: the
  training similarity then looks lower than what a fresh least-squares fit finds.
  """

  def init(key, sources, targets):
    kernel_init = jax.nn.initializers.lecun_normal()
    params = []
    for source, target, tap_key in zip(
      sources, targets, jax.random.split(key, len(targets)), strict=True
    ):
      fan_in, fan_out = sum(s.shape[-1] for s in source), target.shape[-1]
      kernel = kernel_init(tap_key, (fan_in, fan_out), jnp.float32)
      params.append({"kernel": kernel, "bias": jnp.zeros(fan_out, jnp.float32)})
    return {"params": params, "opt_state": optimizer.init(params)}

  def fit(state, sources, targets, similarity):
    sources, targets = jax.lax.stop_gradient((sources, targets))
    inputs = [concatenated(source) for source in sources]
    params, opt_state = state["params"], state["opt_state"]

    def loss(params):
      predictions = [[_pointwise(p, x)] for p, x in zip(params, inputs, strict=True)]
      return -similarity(targets, predictions), predictions

    for _ in range(inner_steps):
      grads, predictions = jax.grad(loss, has_aux=True)(params)
      updates, opt_state = optimizer.update(grads, opt_state, params)
      params = optax.apply_updates(params, updates)
    return predictions, {"params": params, "opt_state": opt_state}

  return Projection(init, fit)


def least_squares(*, ridge: float, axis_name: str | None = None) -> Projection:
  """The affine map that fits this batch best, in closed form: no state, no learning rate.

  W = (X'X + ridge * mean_variance(X) I)^-1 X'Y on centred channels, every position a sample, over
  the global batch. It is the inner maximum of the game for ExpVar itself, so the gradient of the
  outer problem is exact with the solution held fixed (envelope theorem).

  Differs from the paper: there the projection is a learned 1x1 convolution.
  """

  def init(key, sources, targets):
    del key, sources, targets
    return {}

  def fit(state, sources, targets, similarity):
    del similarity
    predictions = []
    for source, target in zip(sources, targets, strict=True):
      x = concatenated(source)
      sums = moments(x, target, axis_name=axis_name, exact=False)
      weights, bias = solve_affine(sums, ridge=ridge)
      predictions.append([x @ weights.astype(x.dtype) + bias.astype(x.dtype)])
    return jax.lax.stop_gradient(predictions), state

  return Projection(init, fit)


def identity(*, combine: str) -> Projection:
  """No projection, for measures that need no aligned channels (LinCKA).

  Several teachers are compared as one representation (`combine="concatenate"`, a sum of their
  kernels) or one by one (`combine="mean"`, the mean of the pairwise similarities).
  """

  def init(key, sources, targets):
    del key, sources, targets
    return {}

  def fit(state, sources, targets, similarity):
    del targets, similarity
    if combine == "concatenate":
      sources = [[concatenated(source)] for source in sources]
    return jax.lax.stop_gradient([list(source) for source in sources]), state

  return Projection(init, fit)
