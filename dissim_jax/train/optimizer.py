"""The optimiser of members and of learned projections."""

import ml_collections
import optax

from dissim_jax.registry.objectives import OPTIMIZERS


def make_optimizer(
  settings: ml_collections.ConfigDict, total_steps: int, steps_per_epoch: int
) -> optax.GradientTransformation:
  """The optimiser that `config.optimizer` names.

  `sgd`: momentum; weight decay is added to every gradient. `adamw` (Loshchilov & Hutter 2019):
  weight decay is apart from the gradient, times the learning rate.
  """
  rate = learning_rate(settings, total_steps, steps_per_epoch)
  return OPTIMIZERS[settings.name].function(settings, rate)


def sgd(settings: ml_collections.ConfigDict, rate: optax.Schedule) -> optax.GradientTransformation:
  """SGD with momentum."""
  return optax.chain(
    optax.add_decayed_weights(settings.weight_decay),
    optax.sgd(rate, momentum=settings.momentum, nesterov=settings.nesterov),
  )


def adamw(
  settings: ml_collections.ConfigDict, rate: optax.Schedule
) -> optax.GradientTransformation:
  """AdamW; `momentum` is b1."""
  return optax.adamw(
    rate,
    b1=settings.momentum,
    b2=settings.b2,
    weight_decay=settings.weight_decay,
    nesterov=settings.nesterov,
  )


def learning_rate(
  settings: ml_collections.ConfigDict, total_steps: int, steps_per_epoch: int
) -> optax.Schedule:
  """The learning rate by step: a line from 0 in the warm-up, then a cosine to zero."""
  total_steps = max(total_steps, 1)
  warmup = round(settings.warmup_epochs * steps_per_epoch)
  if not warmup:
    return optax.cosine_decay_schedule(settings.learning_rate, total_steps)
  return optax.warmup_cosine_decay_schedule(
    0.0, settings.learning_rate, warmup, max(total_steps, warmup + 1)
  )
