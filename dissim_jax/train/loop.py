"""The only training loop: epochs of a mapped step, with checkpoints, logs and resume."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from dissim_jax.data import Dataset
from dissim_jax.distributed import devices, preemption, processes
from dissim_jax.distributed.checkpoint import Checkpoints
from dissim_jax.errors import Stopped, UserError
from dissim_jax.files import layout
from dissim_jax.files.progress import NoProgress, Progress
from dissim_jax.files.training_log import MetricsLog, NoLog
from dissim_jax.seeds import folded
from dissim_jax.train.optimizer import learning_rate


def epoch_order(seed: int, epoch: int, num_examples: int, batch_size: int) -> np.ndarray:
  """The examples of one epoch, `[steps, batch]` int32: a seeded permutation.

  The examples left over at the end of the permutation are dropped, as a batch of another size
  would be compiled again.
  """
  order = np.random.default_rng([folded(seed), epoch]).permutation(num_examples)
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


def fit(
  config: ml_collections.ConfigDict,
  step: Callable,
  state: Any,
  shown: Sequence[str],
  teachers: tuple[Any, ...],
  dataset: Dataset,
  monitor: Callable[[Any], dict[str, float]],
  mesh: Mesh,
  directory: Path,
  seed: int,
) -> tuple[Any, float]:
  """Takes all steps of a training, or goes on where a killed run stopped.

  Args:
    config: the experiment, see `config/blocks.py`.
    step: `(state, batch, teachers) -> (state, metrics)` for one replica, see `devices.pmapped`.
    state: the first state; its field `step` counts the steps.
    shown: the metrics whose mean over an epoch is logged. The step returns these, `steps` (1) and
      `finite` (1 where the loss is finite).
    teachers: frozen variables, replicated over the mesh, handed to every step.
    dataset: its training images and labels are used.
    monitor: what is measured after an epoch besides the training sums, from the state.
    mesh: the devices.
    directory: where checkpoints, `metrics.jsonl` and TensorBoard events go.
    seed: determines the order of the data.

  Returns:
    The last state and the seconds spent in epochs, those before a resume included.

  Raises:
    TrainingDivergedError: the loss is not finite; the last checkpoint is from before that.
    Stopped: the process was told to stop; everything is saved.
  """
  settings, images = config.train, dataset.train_images
  steps = len(dataset.train_labels) // settings.batch_size
  schedule = learning_rate(config.optimizer, settings.epochs * steps, steps)
  zeros = {name: np.float32(0) for name in ("steps", "finite", *shown)}
  checkpoints = Checkpoints(directory / layout.CHECKPOINTS, settings.keep_checkpoints)
  state, totals = devices.replicate((state, zeros), mesh)
  state, totals = checkpoints.restore((state, totals)) or (state, totals)
  done = int(devices.local(state.step))
  # Several processes gather and send only what their own devices work on.
  resident = images.nbytes <= config.data.resident_gib * 2**30 and jax.process_count() == 1
  feed = devices.make_feed(images, dataset.train_labels, mesh, resident=resident)
  run = devices.pmapped(step, mesh, resident=resident)
  block = steps_per_dispatch(settings.steps_per_dispatch, steps, mesh.devices.flat[0].platform)
  with contextlib.ExitStack() as closing:  # Each is closed, even if another cannot be.
    closing.callback(checkpoints.close)
    metrics_log, progress = _records(directory, settings.epochs, done // steps, done)
    closing.callback(metrics_log.close)
    closing.callback(progress.close)
    for epoch in range(done // steps + 1, settings.epochs + 1):
      began, start = time.monotonic(), (epoch - 1) * steps
      order = epoch_order(seed, epoch, len(dataset.train_labels), settings.batch_size)
      with preemption.held():
        state, totals, rate, reached, stopped = _run_epoch(
          run, state, totals, feed, order, max(0, done - start), block, teachers, progress
        )
        sums = {name: float(x) for name, x in jax.device_get(devices.local(totals)).items()}
        _check_finite(directory, start, sums, checkpoints.latest_step())
        if reached == steps:
          values = {"epoch": epoch, "step": epoch * steps}
          values |= {f"train_{name}": sums[name] / sums["steps"] for name in shown}
          values |= monitor(devices.local(state))
          values["learning_rate"] = float(schedule(epoch * steps - 1))
          values["images_per_second"] = rate * settings.batch_size
          metrics_log.write(values, time.monotonic() - began)
          progress.epoch(values)
          totals = devices.replicate(zeros, mesh)
        # After the line in the log: a run that is killed in between does the epoch again.
        due = epoch % settings.checkpoint_every_epochs == 0 or epoch == settings.epochs
        if stopped or due:
          checkpoints.save(start + reached, (state, totals))
        if stopped:
          raise Stopped(f"{directory.name}: told to stop, saved after step {start + reached}")
  return state, metrics_log.seconds


def _records(directory: Path, epochs: int, epoch: int, step: int):
  """The log and the progress line, of the first process alone."""
  if not processes.is_first():
    return NoLog(), NoProgress()
  return MetricsLog(directory, epoch, step), Progress(directory.name, epochs, epoch)


def _run_epoch(run, state, totals, feed, order, start, block, teachers, progress):
  """The steps of one epoch from `start` on, to its end or until the process is told to stop.

  The first dispatch does not count for the speed: it may compile, and it starts an idle device.

  Returns:
    The state, the summed metrics, the steps per second, the steps of the epoch that are done, and
    whether the process was told to stop.
  """
  began, timed, stopped = time.monotonic(), 0, False
  for first in range(start, order.shape[0], block):
    data, rows = feed(order[first : first + block])
    state, totals = run(state, totals, data, rows, teachers)
    if first == start:
      jax.block_until_ready(totals)
      began = time.monotonic()
    else:
      timed += rows.shape[0]
    progress.advance(rows.shape[0] / order.shape[0])
    reached = first + rows.shape[0]
    stopped = preemption.asked()
    if stopped:
      break
  jax.block_until_ready(totals)
  rate = timed / (time.monotonic() - began) if timed else math.nan
  return state, totals, rate, reached, stopped


def _check_finite(directory: Path, step: int, sums: dict, saved: int | None) -> None:
  """Stops a training whose loss was not finite in the epoch that began after `step`."""
  if sums["finite"] < sums["steps"]:
    where = f"step {saved} in {directory / 'checkpoints'}" if saved else "none was saved"
    raise TrainingDivergedError(
      f"{directory.name}: the loss is not finite at step {step + int(sums['finite']) + 1} "
      f"(last good checkpoint: {where}); a lower optimizer.learning_rate or dissim.weight may help"
    )
