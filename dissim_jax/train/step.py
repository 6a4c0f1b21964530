"""Training one member: the state, the step, and what the step minimises."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax.sharding import Mesh

from dissim_jax.data import Dataset
from dissim_jax.data.augment import augment, normalise
from dissim_jax.distributed import devices
from dissim_jax.models import Layered, init_variables
from dissim_jax.train import losses
from dissim_jax.train.loop import fit
from dissim_jax.train.monitor import Monitor
from dissim_jax.train.optimizer import make_optimizer
from dissim_jax.train.penalty import Penalty, teacher_taps


@flax.struct.dataclass
class TrainState:
  """Everything a training step reads and writes, and all that a resumed run needs.

  Attributes:
    step: number of steps taken, int32.
    seed: the training's seed, int32; step n draws from `fold_in(key(seed), n)`.
    params: the member's parameters, float32; of members trained jointly: a tuple.
    batch_stats: its batch-norm statistics, float32; likewise.
    opt_state: the optimiser's state.
    projection: the state of the projection (parameters and their optimiser, or nothing).
  """

  step: jax.Array
  seed: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  projection: Any


def make_step(
  config: ml_collections.ConfigDict,
  optimizer: optax.GradientTransformation,
  loss_fn: Callable,
) -> Callable:
  """One training step for one replica, whatever it is that is minimised.

  Args:
    config: its `augment` and `data` blocks are used.
    optimizer: of `state.params`.
    loss_fn: `(params, state, images, labels, teachers) -> (loss, (batch_stats, projection,
      metrics))` with normalised images `[B, H, W, C]` and all values of the global batch.

  Returns:
    `(state, batch, teachers) -> (state, metrics)`: `batch` holds `image` uint8 `[B, H, W, C]` and
    `label` int32 `[B]`, this replica's share; `teachers` is a tuple of frozen variables. Gradients,
    batch-norm and similarity statistics are of the global batch over `devices.BATCH_AXIS`.
    `metrics` are float32 scalars of the global batch to be summed over steps: `loss`, `steps`,
    `finite` (1 where the loss is finite), and those of `loss_fn`.
  """

  def step(state, batch, teachers):
    keys = devices.example_keys(
      jax.random.fold_in(jax.random.key(state.seed), state.step), batch["label"].shape[0]
    )
    images = augment(keys, batch["image"], config.augment)
    images = normalise(images, config.data.mean, config.data.std)
    (loss, (batch_stats, projection, metrics)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      state.params, state, images, batch["label"], teachers
    )
    metrics = {"loss": loss, "finite": jnp.isfinite(loss), "steps": jnp.ones(())} | metrics
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    state = state.replace(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      batch_stats=batch_stats,
      opt_state=opt_state,
      projection=projection,
    )
    return state, jax.tree.map(lambda x: x.astype(jnp.float32), metrics)

  return step


def make_train_step(
  config: ml_collections.ConfigDict,
  model: Layered,
  optimizer: optax.GradientTransformation,
  penalty: Penalty | None,
  distillation: losses.Distillation | None = None,
) -> Callable:
  """The step of one member: cross-entropy, plus lambda times the similarity with a penalty.

  With a distillation it is in part that with the teacher's labels.

  Returns:
    See `make_step`; its metrics are those of `shown_metrics`.
  """
  axis = devices.BATCH_AXIS

  def loss_fn(params, state, images, labels, teachers):
    variables = variables_of(state.replace(params=params))
    (logits, taps), updates = model.apply(variables, images, True, mutable=["batch_stats"])
    cross_entropy = losses.mean_cross_entropy(logits, labels, axis)
    accuracy = jax.lax.pmean(jnp.mean(jnp.argmax(logits, -1) == labels), axis)
    metrics = {"cross_entropy": cross_entropy, "accuracy": accuracy}
    loss, projection = cross_entropy, state.projection
    if distillation is not None:
      taught = distillation.labels(teachers[0], images)
      metrics["agreement"] = jax.lax.pmean(jnp.mean(jnp.argmax(logits, -1) == taught), axis)
      with_teacher = losses.mean_cross_entropy(logits, taught, axis)
      loss = (1 - distillation.share) * cross_entropy + distillation.share * with_teacher
    if penalty is not None:
      targets = [taps[tap] for tap in penalty.taps]
      sources = teacher_taps(penalty, teachers, images, targets)
      predictions, projection = penalty.projection.fit(
        projection, sources, jax.lax.stop_gradient(targets), penalty.similarity
      )
      metrics["similarity"] = penalty.similarity(targets, jax.lax.stop_gradient(predictions))
      loss = cross_entropy + penalty.weight(state.step) * metrics["similarity"]
    return loss, (updates.get("batch_stats", {}), projection, metrics)

  return make_step(config, optimizer, loss_fn)


def shown_metrics(
  penalty: Penalty | None, distillation: losses.Distillation | None = None
) -> tuple[str, ...]:
  """The means that are logged for every epoch.

  `similarity` to what the projection predicts, with a penalty; `agreement` with the teacher's
  labels, with a distillation.
  """
  names = ["loss", "cross_entropy", "accuracy"]
  return (
    *names,
    *["similarity"] * (penalty is not None),
    *["agreement"] * (distillation is not None),
  )


def metric_names(penalty: Penalty | None) -> tuple[str, ...]:
  """The sums that a step returns."""
  return ("steps", "finite", *shown_metrics(penalty))


def variables_of(state: TrainState) -> dict:
  """The member in a training state, as linen variables."""
  return {"params": state.params, "batch_stats": state.batch_stats}


def init_state(
  model: Layered,
  optimizer: optax.GradientTransformation,
  penalty: Penalty | None,
  image_shape: tuple[int, ...],
  seed: int,
) -> TrainState:
  """Fresh parameters, statistics, optimiser and projection, all determined by the seed."""
  model_key, projection_key = jax.random.split(jax.random.key(seed))
  variables = init_variables(model, model_key, image_shape)
  projection = {}
  if penalty is not None:
    image = jnp.zeros((1, *image_shape))
    shapes = [
      jax.eval_shape(lambda m=m: m.init_with_output(model_key, image)[0][1])
      for m in (*penalty.teachers, model)
    ]
    chosen = (*penalty.teacher_taps, penalty.taps)
    *sources, targets = [
      [taps[tap] for tap in indices] for taps, indices in zip(shapes, chosen, strict=True)
    ]
    by_tap = [list(tap_sources) for tap_sources in zip(*sources, strict=True)]
    projection = penalty.projection.init(projection_key, by_tap, targets)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    seed=jnp.asarray(seed, jnp.int32),
    params=variables["params"],
    batch_stats=variables["batch_stats"],
    opt_state=jax.jit(optimizer.init)(variables["params"]),
    projection=projection,
  )


def train_member(
  config: ml_collections.ConfigDict,
  model: Layered,
  penalty: Penalty | None,
  teachers: tuple[Any, ...],
  dataset: Dataset,
  monitor: Monitor,
  mesh: Mesh,
  directory: Path,
  seed: int,
  distillation: losses.Distillation | None = None,
) -> tuple[dict, float]:
  """Trains one member, or goes on where a killed run stopped.

  Args:
    config: the experiment, see `config/blocks.py`.
    model: the architecture, with batch norm over `devices.BATCH_AXIS`.
    penalty: the regularisation; None trains with cross-entropy alone.
    teachers: the frozen variables of `penalty.teachers`, or of the one that is distilled,
      replicated over the mesh.
    dataset: its training images and labels are used.
    monitor: what is measured after an epoch besides the training sums.
    mesh: the devices.
    directory: where checkpoints, `metrics.jsonl` and TensorBoard events go.
    seed: determines initial weights, the order of the data and the augmentation.
    distillation: from a teacher; then without a penalty.

  Returns:
    The final variables and the seconds spent in epochs, those before a resume included.

  Raises:
    TrainingDivergedError: the loss is not finite; the last checkpoint is from before that.
  """
  steps = len(dataset.train_labels) // config.train.batch_size
  optimizer = make_optimizer(config.optimizer, config.train.epochs * steps, steps)
  own_teachers = devices.local(teachers)
  state, seconds = fit(
    config,
    make_train_step(config, model, optimizer, penalty, distillation),
    init_state(model, optimizer, penalty, dataset.image_shape, seed),
    shown_metrics(penalty, distillation),
    teachers,
    dataset,
    lambda state: monitor(variables_of(state), own_teachers),
    mesh,
    directory,
    seed,
  )
  return variables_of(state), seconds
