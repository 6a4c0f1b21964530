"""The optimiser of members and of learned projections."""

import ml_collections
import optax


def sgd(settings: ml_collections.ConfigDict, total_steps: int) -> optax.GradientTransformation:
  """SGD with momentum and a cosine to zero; weight decay is added to every gradient."""
  return optax.chain(
    optax.add_decayed_weights(settings.weight_decay),
    optax.sgd(
      learning_rate(settings, total_steps), momentum=settings.momentum, nesterov=settings.nesterov
    ),
  )


def learning_rate(settings: ml_collections.ConfigDict, total_steps: int) -> optax.Schedule:
  """The learning rate by step: a cosine from `settings.learning_rate` to zero."""
  return optax.cosine_decay_schedule(settings.learning_rate, max(total_steps, 1))
