"""Training members together: one step for all of them, with an objective of all their outputs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh

from dissim_jax.attribution import attribution_diversity
from dissim_jax.data import Dataset
from dissim_jax.distributed import devices
from dissim_jax.models import Layered, init_variables
from dissim_jax.registry.objectives import ATTRIBUTION, JOINT
from dissim_jax.train.joint_losses import diversity, mean_member_loss
from dissim_jax.train.loop import fit
from dissim_jax.train.optimizer import make_optimizer
from dissim_jax.train.step import TrainState, make_step

SHOWN = ("loss", "cross_entropy", "accuracy", "ensemble_accuracy", "diversity")


def make_joint_step(
  config: ml_collections.ConfigDict,
  name: str,
  models: Sequence[Layered],
  optimizer: optax.GradientTransformation,
) -> Callable:
  """One step of all members for one replica; `state.params` is a tuple, one entry a member.

  What is minimised is M times the objective, so that a member's gradient is of the size it has
  when the member is trained alone, and weight 0 is independent training at the same learning rate
  and weight decay.

  Args:
    config: its `augment`, `data` and `objective.weight` are used.
    name: in `registry.objectives.JOINT`.
    models: the members' architectures, which may differ.
    optimizer: of all parameters.

  Returns:
    See `train.make_step`. `loss` is the objective, `cross_entropy` and `accuracy` are means over
    members, `ensemble_accuracy` is that of the mean of probabilities, and `diversity` is what the
    objective rewards: that of the attribution maps for `attribution`, else of the logits.
  """
  axis, weight = devices.BATCH_AXIS, config.objective.weight

  def mean(values):
    return jax.lax.pmean(jnp.mean(values), axis)

  def loss_fn(params, state, images, labels, teachers):
    del teachers
    results = [
      _outputs(model, member_params, stats, images, labels, name == ATTRIBUTION)
      for model, member_params, stats in zip(models, params, state.batch_stats, strict=True)
    ]
    logits, batch_stats, maps = zip(*results, strict=True)
    logits = jnp.stack(logits)
    loss = mean(JOINT[name].function(logits, labels, weight))
    if name == ATTRIBUTION:
      rewarded = mean(attribution_diversity(jnp.stack(maps)))
      loss -= weight * rewarded
    else:
      rewarded = mean(diversity(logits))
    probs = jnp.mean(jax.nn.softmax(logits.astype(jnp.float32)), axis=0)
    metrics = {
      "loss": loss,
      "cross_entropy": mean(mean_member_loss(logits, labels)),
      "accuracy": mean(jnp.argmax(logits, -1) == labels),
      "ensemble_accuracy": mean(jnp.argmax(probs, -1) == labels),
      "diversity": rewarded,
    }
    return len(models) * loss, (batch_stats, state.projection, metrics)

  return make_step(config, optimizer, loss_fn)


def _outputs(
  model: Layered, params: Any, stats: Any, images: jax.Array, labels: jax.Array, with_map: bool
) -> tuple[jax.Array, Any, jax.Array | None]:
  """Logits, new batch statistics and, if asked for, saliency maps of one member in training mode.

  The maps are of the true class, with the batch's own statistics, so that an image has a small
  part in the maps of the others.
  """

  def score(images):
    variables = {"params": params, "batch_stats": stats}
    (logits, _), updates = model.apply(variables, images, True, mutable=["batch_stats"])
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    return jnp.sum(chosen), (logits, updates.get("batch_stats", {}))

  if not with_map:
    return *score(images)[1], None
  gradient, (logits, updated) = jax.grad(score, has_aux=True)(images)
  return logits, updated, jnp.abs(gradient)


def init_joint_state(
  models: Sequence[Layered],
  optimizer: optax.GradientTransformation,
  image_shape: tuple[int, ...],
  seeds: Sequence[int],
) -> TrainState:
  """Fresh members; each starts from the weights it has when it is trained alone with its seed."""
  variables = [
    init_variables(model, jax.random.split(jax.random.key(seed))[0], image_shape)
    for model, seed in zip(models, seeds, strict=True)
  ]
  params = tuple(member["params"] for member in variables)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    seed=jnp.asarray(seeds[0], jnp.int32),
    params=params,
    batch_stats=tuple(member["batch_stats"] for member in variables),
    opt_state=optimizer.init(params),
    projection={},
  )


def members_of(state: TrainState) -> tuple[dict, ...]:
  """The members in a training state, as linen variables."""
  return tuple(
    {"params": params, "batch_stats": stats}
    for params, stats in zip(state.params, state.batch_stats, strict=True)
  )


def make_joint_monitor(
  models: Sequence[Layered],
  preprocess: Callable[[jax.Array], jax.Array],
  images: np.ndarray,
  labels: np.ndarray,
  batch_size: int,
) -> Callable[[TrainState], dict[str, float]]:
  """Accuracy of the members (mean) and of the ensemble on held-out images, after an epoch.

  Without images it measures nothing. It chooses nothing: the numbers are only shown.
  """
  if not len(labels):
    return lambda state: {}
  parts = -(-len(labels) // batch_size)
  batches = list(zip(np.array_split(images, parts), np.array_split(labels, parts), strict=True))

  @jax.jit
  def count(members, images, labels):
    images = preprocess(images)
    logits = [m.apply(v, images)[0] for m, v in zip(models, members, strict=True)]
    probs = jax.nn.softmax(jnp.stack(logits).astype(jnp.float32))
    right = jnp.mean(jnp.sum(jnp.argmax(probs, -1) == labels, axis=-1))
    return right, jnp.sum(jnp.argmax(jnp.mean(probs, 0), -1) == labels)

  def monitor(state):
    counts = np.sum([count(members_of(state), *batch) for batch in batches], axis=0)
    members, ensemble = counts / len(labels)
    return {
      "validation_accuracy": float(members),
      "validation_ensemble_accuracy": float(ensemble),
    }

  return monitor


def train_jointly(
  config: ml_collections.ConfigDict,
  name: str,
  models: Sequence[Layered],
  dataset: Dataset,
  monitor: Callable[[TrainState], dict[str, float]],
  mesh: Mesh,
  directory: Path,
  seeds: Sequence[int],
) -> tuple[tuple[Any, ...], float]:
  """Trains all members of an ensemble together, or goes on where a killed run stopped.

  Args:
    config: the experiment, see `config/blocks.py`.
    name: of the objective, in `registry.objectives.JOINT`.
    models: the members' architectures, with batch norm over `devices.BATCH_AXIS`.
    dataset: its training images and labels are used.
    monitor: what is measured after an epoch besides the training sums.
    mesh: the devices.
    directory: where checkpoints, `metrics.jsonl` and TensorBoard events of all members go.
    seeds: one a member, for its initial weights; the first also determines the order of the data
      and the augmentation, which all members share.

  Returns:
    The final variables of every member, and the seconds spent in epochs.

  Raises:
    TrainingDivergedError: the loss is not finite; the last checkpoint is from before that.
  """
  steps = len(dataset.train_labels) // config.train.batch_size
  optimizer = make_optimizer(config.optimizer, config.train.epochs * steps, steps)
  state, seconds = fit(
    config,
    make_joint_step(config, name, models, optimizer),
    init_joint_state(models, optimizer, dataset.image_shape, seeds),
    SHOWN,
    (),
    dataset,
    monitor,
    mesh,
    directory,
    seeds[0],
  )
  return members_of(state), seconds
