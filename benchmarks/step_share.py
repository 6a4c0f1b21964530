"""How fast is a training step, and which part of it takes how much?

  python -m benchmarks.step_share --config=configs/cifar10_expvar.py

Times steps on random images, the kinds in turn and several times over: the first member T, T
without augmentation, T beside the forward pass of one earlier member, and the regularised member U.
Differences of the medians give the shares of U's step. Prints a Markdown table with device and
versions; needs no data set.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict

from dissim_jax import command_line, evaluation, loop, members, parallel, train
from dissim_jax.game import Game, make_game
from dissim_jax.optimizer import make_optimizer
from dissim_jax.projections import identity

_CONFIG = command_line.define_config(told="Experiment whose step is timed.")
_STEPS = flags.DEFINE_integer("steps", 50, "Steps of one measurement.", lower_bound=1)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each kind.", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 32, "Pixels a side of the images.", lower_bound=8)
_IMAGES = 2048  # Random images to draw batches from.


def nearly_nothing(targets, predictions):
  """A stand-in for a similarity: costs nothing, but keeps the earlier members' pass alive."""
  means = [jnp.mean(t) - jnp.mean(p[0]) for t, p in zip(targets, predictions, strict=True)]
  return jax.lax.pmean(sum(means), parallel.BATCH_AXIS)


def kinds(config: ConfigDict, model) -> dict[str, tuple[ConfigDict, Game | None]]:
  """The steps that are timed, by name."""
  game = make_game(config, model, (model,), _IMAGES // config.train.batch_size)
  if game is None:
    raise command_line.UserError("dissim.weight=0: a regularised member is needed")
  plain = config.copy_and_resolve_references()
  plain.augment.update({"crop_padding": 0, "flip": False, "autoaugment": "none", "cutout": 0})
  forward = dataclasses.replace(
    game, projection=identity(combine="concatenate"), similarity=nearly_nothing
  )
  return {
    "T": (config, None),
    "T without augmentation": (plain, None),
    "T and an earlier member's forward pass": (config, forward),
    "U": (config, game),
  }


def timer(config: ConfigDict, model, game: Game | None, mesh) -> Callable[[], float]:
  """A function that runs some steps and returns the seconds of one."""
  steps, shape = _STEPS.value, (_SIZE.value, _SIZE.value, len(config.data.mean))
  optimizer = make_optimizer(config.optimizer, steps, 1)
  state = train.init_state(model, optimizer, game, shape, 0)
  teachers = () if game is None else ({"params": state.params, "batch_stats": state.batch_stats},)
  # The state is donated to the first step; a teacher must not go with it.
  teachers = parallel.replicate(jax.tree.map(jnp.copy, teachers), mesh)
  run = parallel.pmapped(train.make_train_step(config, model, optimizer, game), mesh)
  rng = np.random.default_rng(0)
  data = (
    rng.integers(0, 256, (_IMAGES, *shape), np.uint8),
    rng.integers(0, 10, _IMAGES).astype(np.int32),
  )
  data = parallel.replicate(data, mesh)
  rows = rng.integers(0, _IMAGES, (steps, config.train.batch_size)).astype(np.int32)
  block = loop.steps_per_dispatch(
    config.train.steps_per_dispatch, steps, mesh.devices.flat[0].platform
  )
  carry = [parallel.replicate(state, mesh)]

  def seconds() -> float:
    totals = parallel.replicate({n: np.float32(0) for n in train.metric_names(game)}, mesh)
    began = time.perf_counter()
    for first in range(0, steps, block):
      carry[0], totals = run(carry[0], totals, data, rows[first : first + block], teachers)
    jax.block_until_ready((carry[0], totals))
    return (time.perf_counter() - began) / steps

  seconds()  # Compiles.
  return seconds


def main(argv: list[str]) -> None:
  """Times every kind of step in turn and prints the table."""
  command_line.no_arguments(argv)
  command_line.require(_CONFIG)
  logging.set_verbosity(logging.WARNING)
  config, mesh = _CONFIG.value, parallel.make_mesh()
  facts = {"model": config.model.name, "width_multiplier": config.model.width_multiplier,
           "num_classes": 10}  # fmt: skip
  model = members.build_model(facts, members.compute_dtype(config.dtype))
  timers = {k: timer(c, model, game, mesh) for k, (c, game) in kinds(config, model).items()}
  taken = {kind: [] for kind in timers}
  for _ in range(_REPEATS.value):
    for kind, seconds in timers.items():
      taken[kind].append(seconds())
  median = {kind: statistics.median(values) for kind, values in taken.items()}
  print("| step | ms | images/s | to T |\n|---|---|---|---|")
  for kind, value in median.items():
    rate = config.train.batch_size / value
    print(f"| {kind} | {1000 * value:.2f} | {rate:,.0f} | {value / median['T']:.2f} |")
  whole, forward = median["U"], median["T and an earlier member's forward pass"]
  shares = {
    "augmentation": median["T"] - median["T without augmentation"],
    "earlier member": forward - median["T"],
    "projection and similarity": whole - forward,
  }
  print("\nOf U's step: " + ", ".join(f"{k} {v / whole:.1%}" for k, v in shares.items()) + ".")
  print(", ".join(f"{name} {value}" for name, value in evaluation.environment().items()))


if __name__ == "__main__":
  app.run(command_line.guarded(main), flags_parser=command_line.parse)
