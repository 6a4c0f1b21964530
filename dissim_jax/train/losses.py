"""What a member minimises: cross-entropy plus lambda times its similarity to a prediction of it.

Wald et al. 2023, Eq. 5 and 6. The two players are split by what is held fixed: the member's
gradient sees the projection's prediction as a constant (here), the projection's gradient sees the
member's taps as a constant (`projections`).
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from dissim_jax.models import Layered
from dissim_jax.similarity import MEASURES
from dissim_jax.train.projections import Similarity


def mean_similarity(metric: str, options: dict, axis_name: str | None = None) -> Similarity:
  """The similarity of the objective: the mean over taps, and over the predictions of each tap.

  Args:
    metric: a name in `dissim_jax.similarity.MEASURES`.
    options: keyword arguments of that measure.
    axis_name: statistics are of the global batch over this mapped axis.

  Returns:
    f(targets, predictions) -> float32 scalar, 1 = identical.
  """
  measure = functools.partial(MEASURES[metric].function, axis_name=axis_name, **options)

  def similarity(targets: Sequence[jax.Array], predictions: Sequence[Sequence[jax.Array]]):
    per_tap = [
      jnp.mean(jnp.stack([measure(target, prediction) for prediction in tap_predictions]))
      for target, tap_predictions in zip(targets, predictions, strict=True)
    ]
    return jnp.mean(jnp.stack(per_tap))

  return similarity


def mean_cross_entropy(logits: jax.Array, labels: jax.Array, axis_name: str) -> jax.Array:
  """Mean cross-entropy in nats over the global batch; logits `[B, K]`, integer labels `[B]`."""
  losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
  return jax.lax.pmean(jnp.mean(losses), axis_name)


@dataclasses.dataclass(frozen=True)
class Distillation:
  """Hard-label distillation: the member also learns the class that a frozen teacher predicts.

  `(1 - share) * CE(logits, y) + share * CE(logits, argmax teacher(x))`, on the same augmented
  images. Touvron et al. 2021, "Training data-efficient image transformers & distillation through
  attention", Eq. 3, with a share of 1/2; Hwang et al., section 4.2.

  Attributes:
    model: the teacher's architecture.
    share: of the loss, 0..1, that is for the teacher's labels.
  """

  model: Layered
  share: float

  def labels(self, variables, images: jax.Array) -> jax.Array:
    """The classes that the teacher predicts, int `[B]`; no gradient flows through them."""
    return jnp.argmax(self.model.apply(variables, images)[0], axis=-1)


def penalty_weight(weight: float, start_step: int, warmup_steps: int) -> optax.Schedule:
  """Lambda as a function of the step: a cosine ramp from 0 to `weight`, or constant.

  weight * (1 - cos(pi * clip((step - start_step) / warmup_steps, 0, 1))) / 2, and simply `weight`
  from `start_step` on when `warmup_steps` is 0. The ramp is the authors' code's, not the paper's.
  """

  def schedule(step):
    progress = (step - start_step) / max(warmup_steps, 1)
    if warmup_steps == 0:
      return jnp.where(progress >= 0, weight, 0.0)
    return weight * 0.5 * (1.0 - jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))

  return schedule
