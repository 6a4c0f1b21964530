"""Stitching layers trained through the frozen target (task-loss matching).

Csiszárik et al. 2021, section 4.1: source and target stay as they are, the 1x1 convolution between
them learns to give the target's answers (soft labels) or the right ones.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from dissim_jax.distributed import devices
from dissim_jax.similarity import lincka
from dissim_jax.studies.stitching.maps import Stitch, apply_stitch
from dissim_jax.studies.stitching.passes import Pair
from dissim_jax.train.loop import epoch_order, steps_per_dispatch

Params = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class TaskLoss:
  """How stitches are trained; the paper's values are the defaults of `config/blocks.py`.

  Attributes:
    epochs: passes over the training images.
    batch_size: images a step, over all devices; at most the number of training images.
    learning_rate: of Adam, at the first step.
    decay_epochs: after each of them the rate is divided by ten.
    cka: whether the CKA penalty is a part of the program; its weight is in the state.
    steps_per_dispatch: as in `loop.steps_per_dispatch`.
    resident_bytes: a larger training set stays on the host.
  """

  epochs: int
  batch_size: int
  learning_rate: float
  decay_epochs: tuple[int, ...]
  cka: bool
  steps_per_dispatch: int
  resident_bytes: float

  def optimizer(self, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam with the rate divided by ten at `decay_epochs`."""
    drops = {epoch * steps_per_epoch: 0.1 for epoch in self.decay_epochs}
    return optax.adam(optax.piecewise_constant_schedule(self.learning_rate, drops))


@flax.struct.dataclass
class StitchState:
  """What a step reads and writes.

  Attributes:
    params: `kernel` `[C_s, C_t]` or its factors `down` `[C_s, k]` and `up` `[k, C_t]`; `bias`.
    opt_state: Adam's.
    l1: weight of the sum of the kernel's absolute entries.
    cka_weight: weight of the CKA at the seam.
  """

  params: Params
  opt_state: Any
  l1: jax.Array
  cka_weight: jax.Array


def as_stitch(params: Params) -> Stitch:
  """The map that the parameters stand for."""
  if "kernel" in params:
    return Stitch(params["kernel"], params["bias"])
  return Stitch(jnp.matmul(params["down"], params["up"], precision="highest"), params["bias"])


def from_stitch(stitch: Stitch, rank: int = 0) -> Params:
  """Parameters that start at a map; `rank` > 0 factors it, keeping its largest singular values."""
  if rank == 0:
    return {"kernel": stitch.kernel, "bias": stitch.bias}
  u, s, vt = jnp.linalg.svd(stitch.kernel, full_matrices=False)
  root = jnp.sqrt(s[:rank])
  return {"down": u[:, :rank] * root, "up": root[:, None] * vt[:rank], "bias": stitch.bias}


def random_stitch(key: jax.Array, channels: tuple[int, int]) -> Stitch:
  """A fresh 1x1 convolution: LeCun normal kernel, bias zero."""
  kernel = jax.nn.initializers.lecun_normal()(key, channels, jnp.float32)
  return Stitch(kernel, jnp.zeros(channels[1]))


def make_step(pair: Pair, tap: tuple[int, int], task: TaskLoss, steps_per_epoch: int) -> Callable:
  """One step of one replica, in the form `devices.pmapped` takes.

  `(state, batch, variables) -> (state, metrics)`; `batch` holds `image` and `label`, the wanted
  probabilities `[B, K]`.
  """
  axis, optimizer = devices.BATCH_AXIS, task.optimizer(steps_per_epoch)

  def loss_fn(params, state, z, batch, variables, target):
    stitch = as_stitch(params)
    moved = apply_stitch(stitch, z)
    logits = pair.classify(variables, moved, tap[1]).astype(jnp.float32)
    losses = optax.softmax_cross_entropy(logits, batch["label"])
    cross_entropy = jax.lax.pmean(jnp.mean(losses), axis)
    loss = cross_entropy + state.l1 * jnp.sum(jnp.abs(stitch.kernel))
    if task.cka:
      cka = lincka(moved, target, unbiased=False, samples="position", axis_name=axis)
      loss += state.cka_weight * cka
    return loss, {"steps": jnp.ones(()), "cross_entropy": cross_entropy}

  def step(state, batch, variables):
    images = batch["image"]
    target = pair.target_taps(variables, images, tap[1])[
      -1
    ]  # Dead code where only its shape counts.
    z = pair.fit_size(pair.source_taps(variables, images, tap[0])[-1], target.shape)
    grads, metrics = jax.grad(loss_fn, has_aux=True)(
      state.params, state, z, batch, variables, target
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(params=params, opt_state=opt_state), metrics

  return step


@functools.lru_cache(maxsize=64)
def _program(
  pair: Pair, tap: tuple[int, int], task: TaskLoss, steps_per_epoch: int, mesh: Mesh, resident: bool
):
  """The compiled step, shared by all stitches of one seam."""
  return devices.pmapped(make_step(pair, tap, task, steps_per_epoch), mesh, resident=resident)


def train_stitch(
  pair: Pair,
  variables,
  tap: tuple[int, int],
  start: Params,
  images: np.ndarray,
  wanted: np.ndarray,
  task: TaskLoss,
  *,
  seed: int,
  mesh: Mesh,
  l1: float = 0.0,
  cka_weight: float = 0.0,
  after_epoch: Callable[[int, Stitch], None] | None = None,
) -> tuple[Stitch, list[float]]:
  """Minimises the cross-entropy to `wanted` over the stitching layer.

  Args:
    pair, variables: source and target; both stay frozen.
    tap: (source tap, target tap) of the seam.
    start: from `from_stitch`; its factors set the rank.
    images: uint8 `[N, H, W, C]`, not augmented.
    wanted: float32 `[N, K]`, the probabilities to give: the target's, or one-hot labels.
    task: epochs, batches, learning rate.
    seed: determines the order of the images.
    mesh: the devices.
    l1, cka_weight: weights of the penalties, see `StitchState`; the second needs `task.cka`.
    after_epoch: called with the epoch (0 before the first) and the stitch as it is then.

  Returns:
    The trained stitch, and the mean cross-entropy of every epoch.
  """
  steps = len(images) // task.batch_size
  # The step gives its state's memory away, so it must not be the caller's.
  params = jax.tree.map(jnp.array, start)
  state = StitchState(
    params, task.optimizer(steps).init(params), jnp.float32(l1), jnp.float32(cka_weight)
  )
  state = devices.replicate(state, mesh)
  resident = images.nbytes <= task.resident_bytes
  run = _program(pair, tap, task, steps, mesh, resident)
  block = steps_per_dispatch(task.steps_per_dispatch, steps, mesh.devices.flat[0].platform)
  put = functools.partial(devices.replicate, mesh=mesh)
  feed = devices.make_feed(images, wanted, mesh, resident=resident)
  history = []

  def show(epoch: int) -> None:
    if after_epoch:  # A copy, as the next step gives the state's memory away.
      after_epoch(epoch, jax.tree.map(jnp.copy, as_stitch(state.params)))

  show(0)
  for epoch in range(1, task.epochs + 1):
    order = epoch_order(seed, epoch, len(images), task.batch_size)
    totals = put({"steps": np.float32(0), "cross_entropy": np.float32(0)})
    for first in range(0, steps, block):
      data, rows = feed(order[first : first + block])
      state, totals = run(state, totals, data, rows, variables)
    history.append(totals)
    show(epoch)
  losses = [float(t["cross_entropy"] / t["steps"]) for t in jax.device_get(history)]
  return as_stitch(state.params), losses
