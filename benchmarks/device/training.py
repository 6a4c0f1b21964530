"""The real training step: images a second of T, of U and of joint members, and U's parts."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from benchmarks.device.setting import Setting, varied
from benchmarks.device.timing import Case, Row
from dissim_jax.distributed import devices
from dissim_jax.models import init_variables
from dissim_jax.train import joint, loop
from dissim_jax.train import step as train_step
from dissim_jax.train.optimizer import make_optimizer
from dissim_jax.train.penalty import Penalty, make_penalty
from dissim_jax.train.projections import identity

GAMES = {
  "ExpVar, learned": {"dissim__metric": "expvar", "dissim__projection__name": "learned"},
  "ExpVar, closed form": {
    "dissim__metric": "expvar",
    "dissim__projection__name": "least_squares",
  },
  "LinCKA": {"dissim__metric": "lincka"},
}
T, PLAIN, FORWARD, PENALTY, U = SHARES = (
  "T",
  "T without augmentation",
  "T and an earlier member's forward pass",
  "the same and the penalty, without a projection",
  "U",
)


def stepper(
  setting: Setting,
  config: ml_collections.ConfigDict,
  step: Callable,
  state: Any,
  names: Sequence,
  teachers: tuple[Any, ...],
) -> Callable[[], Any]:
  """A function that dispatches once to the device: as many steps as a training does."""
  order = loop.epoch_order(0, 1, setting.sizes.training, setting.batch)
  order = order[: block_size(setting)]
  run, zeros = devices.pmapped(step, setting.mesh), {name: np.float32(0) for name in names}
  data, rows = setting.feed(order)
  carry = [devices.replicate(state, setting.mesh)]
  teachers = devices.replicate(teachers, setting.mesh)

  def call():
    carry[0], totals = run(carry[0], devices.replicate(zeros, setting.mesh), data, rows, teachers)
    if float(totals["finite"]) < len(order):  # Also waits for the device.
      raise FloatingPointError("the loss is not finite")
    return carry[0]

  return call


def block_size(setting: Setting) -> int:
  """Steps of one dispatch."""
  platform = setting.mesh.devices.flat[0].platform
  return loop.steps_per_dispatch(
    setting.config.train.steps_per_dispatch, setting.sizes.training // setting.batch, platform
  )


def member_case(
  setting: Setting,
  title: str,
  name: str,
  config: ml_collections.ConfigDict,
  penalty: Callable[[Penalty], Penalty] | None = None,
  earlier: int = 0,
  gflop: float = 0.0,
) -> Case:
  """One member's training: T, or with `earlier` members the penalty of `config`, changed."""

  def make():
    steps = setting.sizes.training // setting.batch
    model = setting.model(name)
    played = make_penalty(config, model, (model,) * earlier, steps)
    played = penalty(played) if penalty else played
    optimizer = make_optimizer(config.optimizer, config.train.epochs * steps, steps)
    state = train_step.init_state(model, optimizer, played, setting.image_shape, 0)
    teachers = tuple(
      init_variables(model, jax.random.key(1 + i), setting.image_shape) for i in range(earlier)
    )
    step = train_step.make_train_step(config, model, optimizer, played)
    return stepper(setting, config, step, state, train_step.metric_names(played), teachers)

  images = block_size(setting) * setting.batch
  return Case(title, make, images, setting.batch, setting.dtype, gflop)


def members(setting: Setting) -> Iterator[list[Case]]:
  """T, and U against some earlier members, by measure and projection; for every network."""
  for name in setting.models:
    config = varied(setting.config, dissim__taps=setting.taps(name))
    cases = [member_case(setting, f"{name}: T", name, config, gflop=setting.gflop(name))]
    for earlier in setting.sizes.earlier:
      for penalty in setting.sizes.games or GAMES:
        title, game = f"{name}: U against {earlier}, {penalty}", varied(config, **GAMES[penalty])
        cases.append(member_case(setting, title, name, game, earlier=earlier))
    yield cases


def nearly_nothing(targets, predictions):
  """A stand-in for a similarity: costs nothing, but keeps the earlier members' pass alive."""
  means = [jnp.mean(t) - jnp.mean(p[0]) for t, p in zip(targets, predictions, strict=True)]
  return jax.lax.pmean(sum(means), devices.BATCH_AXIS)


def shares(setting: Setting) -> Iterator[list[Case]]:
  """U's step of the config, and the same with a part left out."""
  name = setting.config.model.name
  config = varied(setting.config, dissim__taps=setting.taps(name))
  plain = varied(
    config,
    augment__crop_padding=0,
    augment__flip=False,
    augment__autoaugment="none",
    augment__cutout=0,
  )
  unprojected = functools.partial(dataclasses.replace, projection=identity(combine="concatenate"))
  forward = functools.partial(unprojected, similarity=nearly_nothing)
  case = functools.partial(member_case, setting, name=name)
  yield [
    case(f"{name}: {T}", config=config, gflop=setting.gflop(name)),
    case(f"{name}: {PLAIN}", config=plain),
    case(f"{name}: {FORWARD}", config=config, penalty=forward, earlier=1),
    case(f"{name}: {PENALTY}", config=config, penalty=unprojected, earlier=1),
    case(f"{name}: {U}", config=config, earlier=1),
  ]


def share_sentence(rows: Sequence[Row]) -> str:
  """The parts of U's step, as differences of rows of `shares`."""
  took = {row.name.split(": ", 1)[1]: row.milliseconds() for row in rows if row.seconds}
  if len(took) < len(SHARES):
    return ""
  parts = {
    "augmentation": took[T] - took[PLAIN],
    "the earlier member": took[FORWARD] - took[T],
    "the penalty": took[PENALTY] - took[FORWARD],
    "the projection": took[U] - took[PENALTY],
  }
  listed = ", ".join(f"{name} {value / took[U]:.1%}" for name, value in parts.items())
  return f"Of U's step: {listed} (differences of medians)."


def together(setting: Setting) -> Iterator[list[Case]]:
  """Members trained jointly (GNCL), beside one alone."""
  name, config = setting.models[0], varied(setting.config, objective__name="gncl")
  members = setting.sizes.together

  def make():
    steps = setting.sizes.training // setting.batch
    models = (setting.model(name),) * members
    optimizer = make_optimizer(config.optimizer, config.train.epochs * steps, steps)
    state = joint.init_joint_state(models, optimizer, setting.image_shape, range(members))
    step = joint.make_joint_step(config, config.objective.name, models, optimizer)
    return stepper(setting, config, step, state, ("steps", "finite", *joint.SHOWN), ())

  images, gflop = block_size(setting) * setting.batch, setting.gflop(name)
  yield [
    member_case(setting, f"{name}: T", name, config, gflop=gflop),
    Case(
      f"{name}: {members} together, GNCL",
      make,
      images,
      setting.batch,
      setting.dtype,
      members * gflop,
    ),
  ]
