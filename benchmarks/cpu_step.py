"""A training step on a CPU beside PyTorch's.

  python -m benchmarks.cpu_step --torch_python=/path/to/python --width=1

ResNet20 on random 32x32 colour images, batch 128, float32, SGD, cross-entropy, no augmentation: the
step of `step.make_train_step` under `devices.pmapped`, and the same network in PyTorch, run by an
interpreter that has it. Both processes stay alive and take a few steps in turn, so that other work
on the machine meets both; the ratio is the median over the rounds. CPU seconds are of the whole
process. Without `--torch_python` only the first is timed.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from dissim_jax import command_line
from dissim_jax.configs import default
from dissim_jax.distributed import devices
from dissim_jax.experiment import measure
from dissim_jax.members import store
from dissim_jax.train import step
from dissim_jax.train.optimizer import make_optimizer

_TORCH = flags.DEFINE_string("torch_python", None, "Interpreter that can import torch.")
_WIDTH = flags.DEFINE_float("width", 1.0, "Width multiplier of ResNet20.", lower_bound=0.01)
_BATCH = flags.DEFINE_integer("batch_size", 128, "Images of a step.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 3, "Steps of one turn.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Turns of each.", lower_bound=1)
_SHAPE = (32, 32, 3)
_OTHER = Path(__file__).with_name("cpu_step_torch.py")


def ours() -> Callable[[int], tuple[float, float]]:
  """Takes so many steps; wall and CPU seconds of one."""
  config, mesh = default.get_config(), devices.make_mesh()
  config.data.mean, config.data.std = (0.5,) * 3, (0.25,) * 3
  facts = {"model": "resnet20", "width_multiplier": _WIDTH.value, "num_classes": 10}
  model = store.build_model(facts, jnp.float32)
  optimizer = make_optimizer(config.optimizer, 1000, 100)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (_BATCH.value, *_SHAPE), np.uint8)
  labels = rng.integers(0, 10, _BATCH.value).astype(np.int32)
  data, rows = devices.replicate((images, labels), mesh), np.arange(_BATCH.value)[None]
  run = devices.pmapped(step.make_train_step(config, model, optimizer, None), mesh)
  state = step.init_state(model, optimizer, None, _SHAPE, 0)
  zeros = {name: np.float32(0) for name in step.metric_names(None)}
  carry = devices.replicate((state, zeros), mesh)

  def take(steps: int) -> tuple[float, float]:
    nonlocal carry
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
      carry = run(*carry, data, rows, ())
    jax.block_until_ready(carry)
    return (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps

  take(1)  # Compiles.
  return take


def theirs() -> Callable[[int], tuple[float, float]]:
  """The same of PyTorch, in another process."""
  command = [_TORCH.value, str(_OTHER), str(_WIDTH.value), str(_BATCH.value)]
  process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

  def take(steps: int) -> tuple[float, float]:
    print(steps, file=process.stdin, flush=True)
    answer = process.stdout.readline().split()
    if not answer:
      sys.exit(f"{_TORCH.value} stopped: it must be able to import torch")
    return float(answer[0]), float(answer[1])

  take(1)
  return take


def main(argv: list[str]) -> None:
  """Takes turns and prints the table."""
  command_line.no_arguments(argv)
  both = {"dissim_jax": ours()} | ({"PyTorch": theirs()} if _TORCH.value else {})
  taken = {name: [] for name in both}
  for _ in range(_ROUNDS.value):
    for name, take in both.items():
      taken[name].append(take(_STEPS.value))
  print("| step | median ms | least ms | CPU ms | to PyTorch |\n|---|---|---|---|---|")
  for name, seconds in taken.items():
    wall, cpu = zip(*seconds, strict=True)
    pairs = zip(wall, (w for w, _ in taken.get("PyTorch", seconds)), strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    numbers = (1000 * x for x in (statistics.median(wall), min(wall), statistics.median(cpu)))
    print(f"| {name} | " + " | ".join(f"{x:.0f}" for x in numbers) + f" | {ratio:.2f} |")
  print(", ".join(f"{name} {value}" for name, value in measure.environment().items()))


if __name__ == "__main__":
  app.run(main)
