"""Training one member: the state, the step, and the only training loop."""

import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh

from dissim_jax import objective, parallel
from dissim_jax.checkpoint import Checkpoints
from dissim_jax.data import Dataset
from dissim_jax.data.augment import augment, normalise
from dissim_jax.data.batches import make_feed
from dissim_jax.errors import UserError
from dissim_jax.game import Game, teacher_taps
from dissim_jax.models import Layered, init_variables
from dissim_jax.monitor import Monitor
from dissim_jax.optimizer import learning_rate, sgd
from dissim_jax.records import MetricsLog, Progress


@flax.struct.dataclass
class TrainState:
  """Everything a training step reads and writes, and all that a resumed run needs.

  Attributes:
    step: number of steps taken, int32.
    seed: the member's seed, int32; step n draws from `fold_in(key(seed), n)`.
    params: the member's parameters, float32.
    batch_stats: its batch-norm statistics, float32.
    opt_state: the optimiser's state.
    projection: the state of the projection (parameters and their optimiser, or nothing).
  """

  step: jax.Array
  seed: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  projection: Any


def make_train_step(
  config: ml_collections.ConfigDict,
  model: Layered,
  optimizer: optax.GradientTransformation,
  game: Game | None,
) -> Callable:
  """One training step for one replica.

  Returns:
    `(state, batch, teachers) -> (state, metrics)`: `batch` holds `image` uint8 `[B, H, W, C]` and
    `label` int32 `[B]`, this replica's share; `teachers` is a tuple of frozen variables. Gradients,
    batch-norm and similarity statistics are of the global batch over `parallel.BATCH_AXIS`.
    `metrics` are float32 scalars of the global batch to be summed over steps: `steps`, `finite`
    (1 where the loss is finite), `loss`, `cross_entropy`, `accuracy`, and `similarity`.
  """
  axis = parallel.BATCH_AXIS

  def loss_fn(params, state, images, labels, sources):
    variables = variables_of(state.replace(params=params))
    (logits, taps), updates = model.apply(variables, images, True, mutable=["batch_stats"])
    cross_entropy = objective.mean_cross_entropy(logits, labels, axis)
    accuracy = jax.lax.pmean(jnp.mean(jnp.argmax(logits, -1) == labels), axis)
    metrics = {"cross_entropy": cross_entropy, "accuracy": accuracy}
    loss, projection = cross_entropy, state.projection
    if game is not None:
      targets = [taps[tap] for tap in game.taps]
      predictions, projection = game.projection.fit(
        projection, sources, jax.lax.stop_gradient(targets), game.similarity
      )
      metrics["similarity"] = game.similarity(targets, jax.lax.stop_gradient(predictions))
      loss = cross_entropy + game.weight(state.step) * metrics["similarity"]
    metrics |= {"loss": loss, "finite": jnp.isfinite(loss), "steps": jnp.ones(())}
    return loss, (updates["batch_stats"], projection, metrics)

  def train_step(state, batch, teachers):
    keys = parallel.example_keys(
      jax.random.fold_in(jax.random.key(state.seed), state.step), batch["label"].shape[0]
    )
    images = augment(keys, batch["image"], config.augment)
    images = normalise(images, config.data.mean, config.data.std)
    sources = teacher_taps(game, teachers, images) if game is not None else []
    grads, (batch_stats, projection, metrics) = jax.grad(loss_fn, has_aux=True)(
      state.params, state, images, batch["label"], sources
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    state = state.replace(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      batch_stats=batch_stats,
      opt_state=opt_state,
      projection=projection,
    )
    return state, jax.tree.map(lambda x: x.astype(jnp.float32), metrics)

  return train_step


def shown_metrics(game: Game | None) -> tuple[str, ...]:
  """The means that are logged for every epoch."""
  names = ("loss", "cross_entropy", "accuracy")
  return names if game is None else (*names, "similarity")


def metric_names(game: Game | None) -> tuple[str, ...]:
  """The sums that a step returns."""
  return ("steps", "finite", *shown_metrics(game))


def variables_of(state: TrainState) -> dict:
  """The member in a training state, as linen variables."""
  return {"params": state.params, "batch_stats": state.batch_stats}


def init_state(
  model: Layered,
  optimizer: optax.GradientTransformation,
  game: Game | None,
  image_shape: tuple[int, ...],
  seed: int,
) -> TrainState:
  """Fresh parameters, statistics, optimiser and projection, all determined by the seed."""
  model_key, projection_key = jax.random.split(jax.random.key(seed))
  variables = init_variables(model, model_key, image_shape)
  projection = {}
  if game is not None:
    image = jnp.zeros((1, *image_shape))
    shapes = [
      jax.eval_shape(lambda m=m: m.init_with_output(model_key, image)[0][1])
      for m in (*game.teachers, model)
    ]
    *sources, targets = [[taps[tap] for tap in game.taps] for taps in shapes]
    by_tap = [list(tap_sources) for tap_sources in zip(*sources, strict=True)]
    projection = game.projection.init(projection_key, by_tap, targets)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    seed=jnp.asarray(seed, jnp.int32),
    params=variables["params"],
    batch_stats=variables["batch_stats"],
    opt_state=optimizer.init(variables["params"]),
    projection=projection,
  )


def epoch_order(seed: int, epoch: int, num_examples: int, batch_size: int) -> np.ndarray:
  """The examples of one epoch, `[steps, batch]` int32: a seeded permutation.

  The examples left over at the end of the permutation are dropped, as a batch of another size
  would be compiled again.
  """
  order = np.random.default_rng([seed, epoch]).permutation(num_examples)
  steps = num_examples // batch_size
  return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def steps_per_dispatch(setting: int, steps_per_epoch: int, platform: str) -> int:
  """How many steps are sent to the device at once.

  A positive setting is used as it is. 0 chooses by platform: one on CPU, where a loop over steps
  is slow; elsewhere at most 100, and the largest divisor of the epoch where that is not much
  less, because what is left over is compiled as a second program.
  """
  if setting > 0:
    return min(setting, steps_per_epoch)
  if platform == "cpu":
    return 1
  most = min(100, steps_per_epoch)
  divisor = max(n for n in range(1, most + 1) if steps_per_epoch % n == 0)
  return divisor if 2 * divisor >= most else most


class TrainingDivergedError(UserError):
  """The loss of a member is no longer finite."""


def train_member(
  config: ml_collections.ConfigDict,
  model: Layered,
  game: Game | None,
  teachers: tuple[Any, ...],
  dataset: Dataset,
  monitor: Monitor,
  mesh: Mesh,
  directory: Path,
  seed: int,
) -> tuple[dict, float]:
  """Trains one member, or goes on where a killed run stopped.

  Args:
    config: the experiment, see `configs/default.py`.
    model: the architecture, with batch norm over `parallel.BATCH_AXIS`.
    game: the regularisation; None trains with cross-entropy alone.
    teachers: the frozen variables of `game.teachers`, replicated over the mesh.
    dataset: its training images and labels are used.
    monitor: what is measured after an epoch besides the training sums.
    mesh: the devices.
    directory: where checkpoints, `metrics.jsonl` and TensorBoard events go.
    seed: determines initial weights, the order of the data and the augmentation.

  Returns:
    The final variables and the seconds spent in epochs, those before a resume included.

  Raises:
    TrainingDivergedError: the loss is not finite; the last checkpoint is from before that.
  """
  settings = config.train
  num_examples = len(dataset.train_labels)
  steps = num_examples // settings.batch_size
  optimizer = sgd(config.optimizer, settings.epochs * steps)
  schedule = learning_rate(config.optimizer, settings.epochs * steps)
  state = parallel.replicate(
    init_state(model, optimizer, game, dataset.image_shape, seed), mesh
  )
  checkpoints = Checkpoints(directory / "checkpoints", settings.keep_checkpoints)
  state = checkpoints.restore(state) or state
  start = int(state.step) // steps
  run = parallel.pmapped(make_train_step(config, model, optimizer, game), mesh)
  block = steps_per_dispatch(settings.steps_per_dispatch, steps, mesh.devices.flat[0].platform)
  feed = make_feed(
    dataset.train_images,
    dataset.train_labels,
    functools.partial(parallel.replicate, mesh=mesh),
    config.data.resident_gib * 2**30,
  )
  metrics_log = MetricsLog(directory, start, start * steps)
  progress = Progress(directory.name, settings.epochs, start)
  try:
    for epoch in range(start + 1, settings.epochs + 1):
      began = time.monotonic()
      order = epoch_order(seed, epoch, num_examples, settings.batch_size)
      totals = parallel.replicate({name: np.float32(0) for name in metric_names(game)}, mesh)
      state, sums, rate = _run_epoch(run, state, totals, feed, order, block, teachers, progress)
      _check_finite(directory, (epoch - 1) * steps, sums, checkpoints.latest_step())
      if epoch % settings.checkpoint_every_epochs == 0 or epoch == settings.epochs:
        checkpoints.save(epoch * steps, state)
      values = {"epoch": epoch, "step": epoch * steps}
      values |= {f"train_{name}": sums[name] / sums["steps"] for name in shown_metrics(game)}
      values |= monitor(variables_of(state), teachers)
      values["learning_rate"] = float(schedule(epoch * steps - 1))
      values["images_per_second"] = rate * settings.batch_size
      metrics_log.write(values, time.monotonic() - began)
      progress.epoch(values)
  finally:
    progress.close()
    metrics_log.close()
    checkpoints.close()
  return variables_of(state), metrics_log.seconds


def _run_epoch(run, state, totals, feed, order, block, teachers, progress):
  """All steps of one epoch; returns the state, the summed metrics and the steps per second.

  The first dispatch does not count for the speed: it may compile, and it starts an idle device.
  """
  began, timed = time.monotonic(), 0
  for first in range(0, order.shape[0], block):
    data, rows = feed(order[first : first + block])
    state, totals = run(state, totals, data, rows, teachers)
    if first == 0:
      jax.block_until_ready(totals)
      began = time.monotonic()
    else:
      timed += rows.shape[0]
    progress.advance(rows.shape[0] / order.shape[0])
  sums = {name: float(total) for name, total in jax.device_get(totals).items()}
  return state, sums, timed / (time.monotonic() - began) if timed else math.nan


def _check_finite(directory: Path, step: int, sums: dict, saved: int | None) -> None:
  """Stops a training whose loss was not finite in the epoch that began after `step`."""
  if sums["finite"] < sums["steps"]:
    where = f"step {saved} in {directory / 'checkpoints'}" if saved else "none was saved"
    raise TrainingDivergedError(
      f"{directory.name}: the loss is not finite at step {step + int(sums['finite']) + 1} "
      f"(last good checkpoint: {where}); a lower optimizer.learning_rate or dissim.weight may help"
    )
