"""One iteration of an attack in an L-infinity ball, and where attacks start.

The loss of image n is `log sum_{k != y} exp z_k - z_y`. Its gradient is that of the cross-entropy
divided by `1 - p_y`, so that signs and normalised gradients are those of the cross-entropy. But it
stays where the cross-entropy of a confident network underflows: there the gradient is exactly zero
in float32, and an attack would not move ("gradient masking").
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Logits = Callable[[jax.Array], jax.Array]
Bounds = tuple[float, float]
UNIT: Bounds = (0.0, 1.0)


class Iterate(NamedTuple):
  """Where an attack is: images and, with momentum, velocity; float32 `[N, H, W, C]`."""

  images: jax.Array
  velocity: jax.Array | None = None


def margin_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """`log sum_{k != y} exp z_k - z_y` of each image: floating `[N, K]`, integer `[N]` to `[N]`.

  float32 of any sign, above 0 wherever the label is not the prediction; the cross-entropy is
  `log(1 + exp(loss))`.
  """
  check_logits(logits.shape, labels.shape)
  logits = logits.astype(jnp.float32)
  label_mask = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
  others = jax.nn.logsumexp(jnp.where(label_mask, -jnp.inf, logits), axis=-1)
  return others - jnp.sum(jnp.where(label_mask, logits, 0.0), axis=-1)


def check_logits(logits: tuple[int, ...], labels: tuple[int, ...]) -> None:
  """Raises ValueError unless these are shapes of logits and labels that fit each other."""
  if len(logits) != 2 or logits[-1] < 2 or logits[:1] != labels:
    raise ValueError(
      f"logits have shape {logits}, labels {labels}: [N, K] with K of at least 2 and [N] are needed"
    )


def loss_gradient(logits: Logits, images: jax.Array, labels: jax.Array) -> jax.Array:
  """d `margin_loss` / d image, float32 `[N, H, W, C]`; 0 where it is not a number."""
  total = lambda images: jnp.sum(margin_loss(logits(images), labels))  # noqa: E731
  gradient = jax.grad(total)(images.astype(jnp.float32))
  return jnp.where(jnp.isnan(gradient), 0.0, gradient)


def attack_step(
  logits: Logits,
  at: Iterate,
  images: jax.Array,
  labels: jax.Array,
  *,
  epsilon: float,
  step_size: float,
  momentum: float = 0.0,
  bounds: Bounds = UNIT,
) -> Iterate:
  """One iteration: `clip(clip(x + step_size * sign(g), x_0 - epsilon, x_0 + epsilon), *bounds)`.

  g is the gradient of the loss; where `at` has a velocity, `g <- momentum * g + gradient / mean
  |gradient|` of each image (Dong et al. 2018, Eq. 6; their L1 norm is that mean times a constant).

  Args:
    logits: the classifier.
    at: where the attack is.
    images: the clean images x_0, float32 `[N, H, W, C]` within the bounds, which is not checked.
    labels: integer `[N]`.
    epsilon, step_size, momentum: numbers or scalars.
    bounds: the lowest and the highest value of images.

  Returns:
    The next iterate, in the ball around x_0 (up to the rounding of x_0 - epsilon) and the bounds.
  """
  direction, velocity = loss_gradient(logits, at.images, labels), None
  if at.velocity is not None:
    direction = velocity = momentum * at.velocity + _scaled(direction)
  moved = at.images + step_size * jnp.sign(direction)
  return Iterate(_into_ball(moved, images, epsilon, bounds), velocity)


def _scaled(gradient: jax.Array) -> jax.Array:
  """Each image's gradient by its mean absolute value; one of zeros stays."""
  axes = tuple(range(1, gradient.ndim))
  mean = jnp.mean(jnp.abs(gradient), axis=axes, keepdims=True)
  return gradient / jnp.where(mean > 0, mean, 1.0)


def _into_ball(moved: jax.Array, images: jax.Array, epsilon: float, bounds: Bounds) -> jax.Array:
  """The nearest images in the ball and the bounds; the clean image itself where epsilon is 0."""
  return jnp.clip(jnp.clip(moved, images - epsilon, images + epsilon), *bounds)


@jax.jit
def random_images(
  images: jax.Array, epsilon: float, seed: int, indices: jax.Array, bounds: Bounds = UNIT
) -> jax.Array:
  """Uniform in the ball around float32 `images`, clipped to the bounds.

  That of an image follows from the seed and its own index alone, whatever else is in the batch.
  """
  root = jax.random.key(seed)
  draw = (  # noqa: E731
    lambda index: jax.random.uniform(
      jax.random.fold_in(root, index), images.shape[1:], minval=-1.0, maxval=1.0
    )
  )
  return _into_ball(images + epsilon * jax.vmap(draw)(indices), images, epsilon, bounds)
