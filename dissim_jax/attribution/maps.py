"""Which input pixels a score depends on, and how much members differ in that: pure functions.

`N` images `[H, W, C]`, `M` members. A map holds one value a pixel and channel. All functions work
under `jit`, `vmap` and `grad`, compute in float32, and raise a ValueError at trace time where
shapes or dtypes do not fit. `score` takes images `[N, H, W, C]` to `[N]`, each value of its own
image alone (networks in eval mode): the gradient of the sum of scores is then every image's own.

References: Simonyan et al. 2014, "Deep inside convolutional networks"; Sundararajan et al. 2017,
"Axiomatic attribution for deep networks"; Rosales et al. 2023, "Exploring resiliency to natural
image corruptions in deep learning using design diversity".
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Score = Callable[[jax.Array], jax.Array]
_MAP = (-3, -2, -1)  # The axes of one map.


def _check_maps(name: str, array: jax.Array, axes: str) -> None:
  """Raises unless the array is floating, not empty, and has as many axes as `axes` has letters."""
  if array.ndim != len(axes) or 0 in array.shape:
    raise ValueError(f"{name} has shape {array.shape}: non-empty [{','.join(axes)}] is needed")
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise ValueError(f"{name} has dtype {array.dtype}: a floating-point dtype is needed")


def _gradient(score: Score, images: jax.Array) -> jax.Array:
  """d score / d image of every image: `[N, H, W, C]`."""

  def total(images):
    scores = score(images)
    if scores.shape != images.shape[:1]:
      raise ValueError(
        f"score returned shape {scores.shape}: one number for each of {len(images)} images"
      )
    return jnp.sum(scores, dtype=jnp.float32)

  return jax.grad(total)(images)


def saliency(score: Score, images: jax.Array) -> jax.Array:
  """Saliency maps: `|d score / d image|` (Simonyan et al. 2014, section 3).

  Differs from the paper: channels are kept, the paper takes their maximum.

  Args:
    score: images to `[N]`, such as the logit of one class of each image.
    images: floating `[N, H, W, C]`.

  Returns:
    `[N, H, W, C]` of the images' dtype, not negative, in units of the score a unit of the input.
  """
  _check_maps("images", images, "NHWC")
  return jnp.abs(_gradient(score, images))


def normalise_maps(maps: jax.Array) -> jax.Array:
  """Every map divided by its own L2 norm: floating `[..., H, W, C]` to float32 of the same shape.

  A map of zeros (of nothing above the smallest normal float32) becomes zeros, with zero gradient.
  """
  if maps.ndim < 3 or not jnp.issubdtype(maps.dtype, jnp.floating):
    raise ValueError(f"maps have shape {maps.shape}, dtype {maps.dtype}: floating [..., H, W, C]")
  maps = maps.astype(jnp.float32)
  peak = jax.lax.stop_gradient(jnp.max(jnp.abs(maps), axis=_MAP, keepdims=True))
  some = ~(peak < jnp.finfo(jnp.float32).tiny)  # NaN stays NaN.
  # Scaled first, for squares of small gradients underflow. The result does not depend on the
  # scale, so leaving the peak out of the derivative changes nothing.
  scaled = jnp.where(some, maps, 0.0) / jnp.where(some, peak, 1.0)
  square = jnp.sum(scaled**2, axis=_MAP, keepdims=True)
  return scaled * jax.lax.rsqrt(jnp.where(some, square, 1.0))


def attribution_variance(maps: jax.Array) -> jax.Array:
  """Eq. 7 of Rosales et al. 2023 as it stands: `A = sum_{c,p} Var_m(a_{m,c,p})`.

  The population variance over members; grows with the square of the maps' scale.

  Args:
    maps: floating `[M, N, H, W, C]`.

  Returns:
    float32 `[N]`, not negative, 0 = same maps.
  """
  _check_maps("maps", maps, "MNHWC")
  return jnp.sum(jnp.var(maps.astype(jnp.float32), axis=0), axis=_MAP)


def attribution_diversity(maps: jax.Array) -> jax.Array:
  """How much members' attribution maps differ: Eq. 7 of Rosales et al. 2023 on maps of unit norm.

  `A = sum_{c,p} Var_m(u_{m,c,p})` with `u_m = a_m / ||a_m||` and the population variance, which is
  `1 - ||mean_m u_m||^2` where no map is all zeros. Differs from the paper, which does not say how
  maps of different members are scaled: without a norm of one, the scale of a member's logits
  decides. A map of zeros stays zeros and counts as such.

  Args:
    maps: floating `[M, N, H, W, C]`: of every member, for the same images.

  Returns:
    float32 `[N]`: 0 = same maps, also for one member; at most `1 - 1/M` where maps are not negative
    (maps that share no pixel), at most 1 always. Finite gradients, also at maps of zeros.
  """
  _check_maps("maps", maps, "MNHWC")
  return attribution_variance(normalise_maps(maps))


def path_gradients(
  score: Score, images: jax.Array, baseline: jax.Array, positions: jax.Array
) -> jax.Array:
  """Sum over k of `grad score(x' + t_k (x - x'))`, the steps of `integrated_gradients`.

  One after another on the device, so that memory does not grow with their number.

  Args:
    score, images, baseline: as in `integrated_gradients`.
    positions: t, floating `[S]`, 0 = baseline, 1 = image.

  Returns:
    float32 `[N, H, W, C]`.
  """
  _check_maps("images", images, "NHWC")
  start = jnp.broadcast_to(baseline, images.shape).astype(images.dtype)

  def add(total, position):
    point = start + position.astype(images.dtype) * (images - start)
    return total + _gradient(score, point).astype(jnp.float32), None

  zeros = jnp.zeros(images.shape, jnp.float32)
  return jax.lax.scan(add, zeros, jnp.asarray(positions))[0]


def midpoints(steps: int) -> jax.Array:
  """The middles of `steps` equal parts of 0..1: float32 `[steps]`."""
  if steps < 1:
    raise ValueError(f"steps={steps}: at least 1 is needed")
  return (jnp.arange(steps, dtype=jnp.float32) + 0.5) / steps


def integrated_gradients(
  score: Score, images: jax.Array, baseline: jax.Array, steps: int
) -> jax.Array:
  """Integrated gradients (Sundararajan et al. 2017, Eq. 1), by the midpoint rule.

  `(x - x') * mean_k grad score(x' + (k + 1/2) / steps * (x - x'))`, k = 0 … steps - 1. Networks of
  ReLUs are linear in pieces: their gradient along the line jumps at places that no rule knows, so
  that Gauss-Legendre nodes lose their order and equal spacing is best. Measured as
  `completeness_error` of two ResNet14s trained on digits, 128 images: mean 0.6 and 0.9 % with 64
  steps (Gauss-Legendre 0.8 and 1.2 %), 0.1 % with 512, where no image is off by more than 0.8 %; it
  falls as 1 / steps. Differs from the paper, which takes the end of each step: with it the mean
  error is 1.3 to 2.2 times as large.

  Args:
    score: images to `[N]`, such as the logit of one class of each image.
    images: floating `[N, H, W, C]`.
    baseline: where the line starts; broadcast to the images, such as 0 for black.
    steps: gradients a line, at least 1; static.

  Returns:
    float32 `[N, H, W, C]`, signed; the sum over a map nears score(images) - score(baseline), see
    `completeness_error`. Exact for scores that are linear or quadratic in the image.
  """
  line = (images - baseline).astype(jnp.float32)
  return line * path_gradients(score, images, baseline, midpoints(steps)) / steps


def completeness_error(
  score: Score, images: jax.Array, baseline: jax.Array, attributions: jax.Array, eps: float = 1e-6
) -> jax.Array:
  """How far attributions are from adding up to the score (Sundararajan et al. 2017, section 3).

  `|sum(attributions) - d| / max(|d|, eps)`, `d = score(images) - score(baseline)`.

  Args:
    score, images, baseline: as in `integrated_gradients`.
    attributions: its result `[N, H, W, C]`.
    eps: least denominator, in units of the score.

  Returns:
    float32 `[N]`, not negative, 0 = complete.
  """
  _check_maps("images", images, "NHWC")
  if attributions.shape != images.shape:
    raise ValueError(f"attributions: shape {attributions.shape}, the images' is {images.shape}")
  start = jnp.broadcast_to(baseline, images.shape).astype(images.dtype)
  change = score(images).astype(jnp.float32) - score(start).astype(jnp.float32)
  error = jnp.abs(jnp.sum(attributions, axis=_MAP, dtype=jnp.float32) - change)
  return error / jnp.maximum(jnp.abs(change), eps)
