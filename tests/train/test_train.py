"""The training step and loop: what must be exact is compared exactly."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dissim_jax.configs import default
from dissim_jax.data import load
from dissim_jax.distributed import devices
from dissim_jax.members.store import build_model
from dissim_jax.train import loop
from dissim_jax.train import step as train_step
from dissim_jax.train.optimizer import make_optimizer
from dissim_jax.train.penalty import make_penalty
from tests import tiny

FACTS = {"model": "tiniest", "width_multiplier": 0.5, "num_classes": 10}
SHAPE = (8, 8, 1)
STEPS = 5  # of an epoch
# Before this step lambda is 0, from it on 5: one program trains with the penalty and without.
PENALISED = STEPS
BASE = {
  "train.batch_size": 20,
  "train.epochs": 4,
  "dissim.taps": (1,),
  "dissim.weight": 5.0,
  "dissim.warmup_start_epoch": 1,
}


def tiny_config(**overrides):
  config = default.get_config()
  config.update_from_flattened_dict(
    BASE | {key.replace("__", "."): value for key, value in overrides.items()}
  )
  return config


@functools.cache
def dataset():
  return load(default.get_config().data)


@functools.cache
def model():
  return build_model(FACTS, jnp.float32)


@functools.cache
def teachers(count):
  return tuple(tiny.drawn(model(), SHAPE, 7 + i) for i in range(count))


GAMES = {
  "expvar, least squares": {"augment__crop_padding": 1},
  "expvar, learned": {
    "dissim__projection__name": "learned",
    "dissim__projection__inner_steps": 2,
    "dissim__taps": (0, 1),
  },
  "lincka, positions": {
    "dissim__metric": "lincka",
    "dissim__options__lincka__samples": "position",
    "dissim__combine": "mean",
  },
}


def parts(name):
  """(step, game, fresh state on the host) of a game against one teacher, or against two."""
  config = tiny_config(**GAMES[name])
  penalty = make_penalty(
    config, model(), (model(),) * (2 if name == "lincka, positions" else 1), STEPS
  )
  optimizer = make_optimizer(config.optimizer, config.train.epochs * STEPS, 1)
  state = train_step.init_state(model(), optimizer, penalty, SHAPE, 3)
  step = train_step.make_train_step(config, model(), optimizer, penalty)
  return step, penalty, jax.device_get(state)


class Training:
  """The mapped step of a game on some devices, compiled once for all tests."""

  def __init__(self, name, count):
    step, self.penalty, self.state = parts(name)
    self.mesh, self.traces = devices.make_mesh(jax.devices()[:count]), 0

    def counted(*arguments):
      self.traces += 1
      return step(*arguments)

    self.run = devices.pmapped(counted, self.mesh)
    images = dataset().train_images, dataset().train_labels
    frozen = teachers(len(self.penalty.teachers))
    self.data, self.frozen = devices.replicate((images, frozen), self.mesh)

  def start(self, first=PENALISED, seed=3):
    """A state on the devices, as if so many steps had been taken."""
    return devices.replicate(
      self.state.replace(step=np.int32(first), seed=np.int32(seed)), self.mesh
    )

  def take(self, state, rows):
    """The state after the steps of some rows, and the sums of their metrics."""
    zeros = {name: np.float32(0) for name in train_step.metric_names(self.penalty)}
    return self.run(state, devices.replicate(zeros, self.mesh), self.data, rows, self.frozen)

  def losses(self, steps, **start):
    """Loss and similarity of each step."""
    state, values = self.start(**start), []
    for i in range(steps):
      state, totals = self.take(state, loop.epoch_order(0, i, 100, 20)[:1])
      values.append([float(totals[name]) for name in ("loss", "similarity")])
    return np.array(values)


training = functools.cache(Training)
LEAST_SQUARES = "expvar, least squares"


@pytest.mark.parametrize("penalty", GAMES)
def test_four_devices_train_as_one(penalty):
  """Every measure is compared so in test_similarity; here every way into the step."""
  one, four = (training(penalty, count).losses(20) for count in (1, 4))
  np.testing.assert_allclose(four[0], one[0], rtol=1e-6, atol=1e-6)
  np.testing.assert_allclose(four[:, 0], one[:, 0], rtol=1e-4)
  assert one[-1, 0] < one[0, 0]


def test_other_seed_is_another_run():
  """The negative control of the comparison above: its tolerance can tell runs apart."""
  one, other = (training(LEAST_SQUARES, 1).losses(3, seed=seed) for seed in (3, 4))
  assert np.abs(one / other - 1).max() > 1e-3


def test_no_gradient_reaches_a_frozen_member_and_one_reaches_the_new():
  step, _, state = parts(LEAST_SQUARES)
  batch = {"image": dataset().train_images[:20], "label": dataset().train_labels[:20]}

  def loss(params, frozen):
    def replica(params, frozen, batch):
      now = state.replace(params=params, step=PENALISED)
      return step(now, batch, frozen)[1]["loss"]

    whole, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(devices.BATCH_AXIS)
    mesh = devices.make_mesh(jax.devices()[:1])
    mapped = jax.shard_map(replica, mesh=mesh, in_specs=(whole, whole, split), out_specs=whole)
    return mapped(params, frozen, batch)

  new, old = jax.jit(jax.grad(loss, (0, 1)))(state.params, teachers(1))
  assert all(not np.asarray(g).any() for g in jax.tree.leaves(old))
  assert all(np.asarray(g).any() for g in jax.tree.leaves(new["layers_0"]))


def test_member_only_descends_the_similarity_it_is_told_to():
  """With a large lambda similarity falls; with lambda 0 there is no game at all."""
  free = training(LEAST_SQUARES, 1).losses(20, first=PENALISED - 20)
  held = training(LEAST_SQUARES, 1).losses(20)
  assert held[-1, 1] < free[-1, 1] - 0.1
  assert make_penalty(tiny_config(dissim__weight=0.0), model(), (model(),), STEPS) is None


def test_many_steps_in_one_dispatch_are_the_same_steps():
  own, order = training(LEAST_SQUARES, 1), loop.epoch_order(0, 1, 100, 20)[:3]
  at_once, sums = own.take(own.start(), order)
  one_by_one, totals = own.start(), []
  for row in order:
    one_by_one, values = own.take(one_by_one, row[None])
    totals.append(values)
  assert int(at_once.step) == int(one_by_one.step) == PENALISED + 3
  for name in sums:
    np.testing.assert_allclose(sums[name], sum(t[name] for t in totals), rtol=1e-4)


def test_step_is_traced_once():
  own = training(LEAST_SQUARES, 1)
  own.losses(1)
  before = own.traces
  assert before > 0
  own.losses(12, seed=5)
  assert own.traces == before


def test_images_on_the_host_reach_the_step_as_those_on_the_devices_do(tmp_path):
  """Exact: the step adds up whole numbers."""
  few = dataset()._replace(
    train_images=dataset().train_images[:80], train_labels=dataset().train_labels[:80]
  )

  def step(state, batch, teachers):
    pixels = batch["image"].astype(jnp.int32).sum((1, 2, 3))
    own = jax.lax.psum(jnp.sum(pixels * (1 + batch["label"])), devices.BATCH_AXIS)
    state = state.replace(step=state.step + 1, params=3 * state.params + own)
    return state, dict.fromkeys(train_step.metric_names(None), jnp.ones(()))

  zero = np.int32(0)
  first = train_step.TrainState(zero, zero, zero, {}, {}, {})
  found = []
  for gib in (4.0, 0.0):
    config = tiny_config(train__epochs=1, train__steps_per_dispatch=2, data__resident_gib=gib)
    state, _ = loop.fit(
      config,
      step,
      first,
      train_step.shown_metrics(None),
      (),
      few,
      lambda state: {},
      devices.make_mesh(),
      tmp_path / str(gib),
      3,
    )
    found.append(int(state.params))
  expected = 0
  for rows in loop.epoch_order(3, 1, 80, 20):
    pixels = few.train_images[rows].sum((1, 2, 3), dtype=np.int32)
    expected = 3 * expected + int(np.sum(pixels * (1 + few.train_labels[rows])))
  assert found == [expected, expected]


def test_no_epoch_compiles_the_step_again(tmp_path):
  """It is traced for the blocks of steps, and for those that are left over at an epoch's end."""
  few = dataset()._replace(
    train_images=dataset().train_images[:100], train_labels=dataset().train_labels[:100]
  )
  config = tiny_config(train__epochs=4, train__steps_per_dispatch=2)

  def step(state, batch, _):
    seen = jax.lax.psum(jnp.sum(batch["label"]), devices.BATCH_AXIS).astype(jnp.int32)
    one = jnp.ones(())
    metrics = {"steps": one, "finite": one, "loss": one, "cross_entropy": one, "accuracy": one}
    return state.replace(step=state.step + 1, params=state.params + seen), metrics

  chex.clear_trace_counter()
  state, _ = loop.fit(
    config,
    chex.assert_max_traces(step, n=2),
    train_step.TrainState(np.int32(0), 3, np.int32(0), {}, (), ()),
    train_step.shown_metrics(None),
    (),
    few,
    lambda state: {},
    devices.make_mesh(jax.devices()[:1]),
    tmp_path,
    3,
  )
  assert int(state.params) == 4 * few.train_labels.sum()


def test_sixty_four_images_are_overfitted(tmp_path):
  few = dataset()._replace(
    train_images=dataset().train_images[:64], train_labels=dataset().train_labels[:64]
  )
  own = build_model(FACTS | {"model": "tiny"}, jnp.float32)
  config = tiny_config(train__batch_size=32, train__epochs=40, train__checkpoint_every_epochs=40)
  train_step.train_member(
    config,
    own,
    None,
    (),
    few,
    lambda variables, teachers: {},
    devices.make_mesh(jax.devices()[:1]),
    tmp_path / "member",
    3,
  )
  last = (tmp_path / "member" / "metrics.jsonl").read_text().splitlines()[-1]
  assert '"train_accuracy": 1.0' in last


def test_epochs_are_permutations_and_differ():
  first, again, second = (loop.epoch_order(5, e, 103, 20) for e in (1, 1, 2))
  assert first.shape == (5, 20) and len(set(first.ravel())) == 100 and first.dtype == np.int32
  np.testing.assert_array_equal(first, again)
  assert (first != second).any() and (first != loop.epoch_order(6, 1, 103, 20)).any()


@pytest.mark.parametrize(
  "setting, steps, platform, expected",
  [
    (0, 312, "cpu", 1),
    (0, 312, "gpu", 78),
    (0, 313, "gpu", 100),
    (0, 40, "tpu", 40),
    (7, 5, "cpu", 5),
  ],
)
def test_steps_per_dispatch_by_platform(setting, steps, platform, expected):
  assert loop.steps_per_dispatch(setting, steps, platform) == expected


def test_members_of_one_place_start_from_the_same_weights():
  """So that a dissimilar and an independent member differ by the penalty alone."""
  config = tiny_config()
  optimizer = make_optimizer(config.optimizer, 10, 1)
  penalty = make_penalty(config, model(), (model(),), 5)
  with_game, without, other = (
    train_step.init_state(model(), optimizer, g, SHAPE, seed).params
    for g, seed in ((penalty, 3), (None, 3), (None, 4))
  )
  jax.tree.map(np.testing.assert_array_equal, with_game, without)
  assert not np.array_equal(without["head"]["dense"]["kernel"], other["head"]["dense"]["kernel"])
