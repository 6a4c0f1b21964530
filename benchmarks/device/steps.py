"""Training steps on the device beside the same steps on the CPU, and from a checkpoint."""

import functools
import tempfile
from contextlib import closing, nullcontext
from pathlib import Path

import jax
import numpy as np

from benchmarks.device.setting import Setting, varied
from benchmarks.device.timing import NotHereError
from dissim_jax.distributed import devices
from dissim_jax.distributed.checkpoint import Checkpoints
from dissim_jax.models import init_variables
from dissim_jax.train import step as train_step
from dissim_jax.train.optimizer import make_optimizer
from dissim_jax.train.penalty import make_penalty

BATCH = 16


def cpu() -> jax.Device:
  """The host as a device."""
  try:
    return jax.local_devices(backend="cpu")[0]
  except RuntimeError as error:
    raise NotHereError("no CPU backend, see JAX_PLATFORMS") from error


def relative(value, exact) -> float:
  """`|value - exact| / |exact|` over all entries."""
  value, exact = np.asarray(value, np.float64), np.asarray(exact, np.float64)
  return np.linalg.norm(value - exact) / np.linalg.norm(exact)


class Steps:
  """Steps of a member against an earlier one, closed form, from one state, on any device.

  In float32 with all its digits: products are not shortened (TF32).
  """

  def __init__(self, setting: Setting):
    self._setting, self._programs = setting, {}
    name = setting.sizes.checked or setting.models[0]
    self._config = varied(
      setting.config,
      train__batch_size=BATCH,
      model__name=name,
      dissim__taps=setting.taps(name),
      dissim__metric="expvar",
      dissim__projection__name="least_squares",
      augment__autoaugment="none",  # Rounds to grey levels: devices may round another way.
    )
    self.device = setting.mesh.devices.flat[0]

  @functools.cached_property
  def start(self) -> tuple[train_step.TrainState, tuple[dict, ...]]:
    """The first state and the earlier member, on the host."""
    model, penalty, optimizer = self._parts("float32")
    shape = self._setting.image_shape
    state = train_step.init_state(model, optimizer, penalty, shape, 0)
    return jax.device_get((state, (init_variables(model, jax.random.key(1), shape),)))

  def _parts(self, dtype: str):
    model = self._setting.model(self._config.model.name, dtype)
    penalty = make_penalty(self._config, model, (model,), 10)
    return model, penalty, make_optimizer(self._config.optimizer, 10, 10)

  def step(self, state: train_step.TrainState, number: int, dtype: str, device: jax.Device):
    """The state after the step with the batch of this number, on the host."""
    mesh, (model, penalty, optimizer) = devices.make_mesh([device]), self._parts(dtype)
    if (dtype, device) not in self._programs:
      step = train_step.make_train_step(self._config, model, optimizer, penalty)
      self._programs[dtype, device] = devices.pmapped(step, mesh)
    zeros = {name: np.float32(0) for name in train_step.metric_names(penalty)}
    data = self._setting.images[: 2 * BATCH], self._setting.labels[: 2 * BATCH]
    placed = devices.replicate((state, zeros, data, self.start[1]), mesh)
    rows = np.arange(number * BATCH, (number + 1) * BATCH, dtype=np.int32)[None]
    with jax.default_matmul_precision("float32") if dtype == "float32" else nullcontext():
      run = self._programs[dtype, device]
      return jax.device_get(run(*placed[:3], rows, placed[3])[0])

  def change(self, after: train_step.TrainState) -> np.ndarray:
    """What steps changed of the parameters, as one vector."""
    changed = jax.tree.map(lambda a, b: np.ravel(a - b), after.params, self.start[0].params)
    return np.concatenate(jax.tree.leaves(changed))

  def compared(self, dtype: str) -> float:
    """The first step's change, relative to the CPU's in float32."""
    state = self.step(self.start[0], 0, dtype, self.device)
    reference = self.step(self.start[0], 0, "float32", cpu())
    return relative(self.change(state), self.change(reference))

  def resumed(self) -> float:
    """The change by two steps, the second of them from a checkpoint."""
    once = self.step(self.start[0], 0, "float32", self.device)
    with tempfile.TemporaryDirectory() as folder:
      with closing(Checkpoints(Path(folder), 1)) as checkpoints:
        checkpoints.save(1, self._placed(once))
      with closing(Checkpoints(Path(folder), 1)) as checkpoints:
        read = jax.device_get(checkpoints.restore(self._placed(self.start[0])))
    twice = [self.step(state, 1, "float32", self.device) for state in (read, once)]
    return relative(*map(self.change, twice))

  def _placed(self, state: train_step.TrainState) -> train_step.TrainState:
    return devices.replicate(state, devices.make_mesh([self.device]))
