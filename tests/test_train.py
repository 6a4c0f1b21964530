"""The training step and loop: what must be exact is compared exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from dissim_jax import loop, parallel, train
from dissim_jax.data import load
from dissim_jax.game import make_game
from dissim_jax.members import build_model
from dissim_jax.models import init_variables
from dissim_jax.optimizer import make_optimizer

FACTS = {"model": "tiny", "width_multiplier": 0.5, "num_classes": 10}
SHAPE = (8, 8, 1)


def tiny_config(**overrides):
  config = default.get_config()
  config.update_from_flattened_dict(
    {"train.batch_size": 20, "train.epochs": 4, "dissim.taps": (1, 2), "augment.crop_padding": 1}
    | {key.replace("__", "."): value for key, value in overrides.items()}
  )
  return config


@pytest.fixture(scope="module")
def dataset():
  return load(default.get_config().data)


@functools.cache
def model():
  return build_model(FACTS, jnp.float32)


@functools.cache
def teacher(seed=7):
  return init_variables(model(), jax.random.key(seed), SHAPE)


def setup(config, devices, teachers=1, seed=3):
  """(step, game, mesh, state, teachers) for a config on some devices; the weights are the same."""
  mesh = parallel.make_mesh(jax.devices()[:devices])
  steps = 100 // config.train.batch_size
  game = make_game(config, model(), (model(),) * teachers, steps)
  optimizer = make_optimizer(config.optimizer, config.train.epochs * steps, 1)
  state = train.init_state(model(), optimizer, game, SHAPE, 3).replace(seed=jnp.int32(seed))
  step = train.make_train_step(config, model(), optimizer, game)
  frozen = tuple(teacher(7 + i) for i in range(teachers))
  return step, game, mesh, parallel.replicate(state, mesh), parallel.replicate(frozen, mesh)


def losses(config, dataset, devices, steps, teachers=1, seed=3):
  """The loss of each step, and the last state."""
  step, game, mesh, state, frozen = setup(config, devices, teachers, seed)
  run = parallel.pmapped(step, mesh)
  data = parallel.replicate((dataset.train_images, dataset.train_labels), mesh)
  values = []
  for i in range(steps):
    rows = loop.epoch_order(0, i, 100, config.train.batch_size)[:1]
    totals = parallel.replicate({n: np.float32(0) for n in train.metric_names(game)}, mesh)
    state, totals = run(state, totals, data, rows, frozen)
    values.append([float(totals[name]) for name in ("loss", "similarity")])
  return np.array(values), jax.device_get(state)


GAMES = {
  "expvar, least squares": {},
  "expvar, learned": {"dissim__projection__name": "learned", "dissim__projection__inner_steps": 2},
  "l2corr": {"dissim__metric": "l2corr", "dissim__taps": (2,)},
  "lincka": {"dissim__metric": "lincka", "dissim__taps": (2,)},
  "lincka, positions": {
    "dissim__metric": "lincka",
    "dissim__options__lincka__samples": "position",
    "dissim__combine": "mean",
  },
}


@pytest.mark.parametrize("game", GAMES)
def test_four_devices_train_as_one(dataset, game):
  config = tiny_config(**GAMES[game])
  teachers = 2 if game == "lincka, positions" else 1
  one, _ = losses(config, dataset, 1, 20, teachers)
  four, _ = losses(config, dataset, 4, 20, teachers)
  np.testing.assert_allclose(four[0], one[0], rtol=1e-6, atol=1e-6)
  np.testing.assert_allclose(four[:, 0], one[:, 0], rtol=1e-4)
  assert one[-1, 0] < one[0, 0]


def test_other_seed_is_another_run(dataset):
  """The negative control of the comparison above: its tolerance can tell runs apart."""
  one, other = (losses(tiny_config(), dataset, 1, 3, seed=seed)[0] for seed in (3, 4))
  assert np.abs(one / other - 1).max() > 1e-3


def test_no_gradient_reaches_a_frozen_member_and_one_reaches_the_new(dataset):
  config = tiny_config()
  step, _, mesh, state, frozen = setup(config, 1)
  batch = {"image": dataset.train_images[:20], "label": dataset.train_labels[:20]}

  def loss(params, teachers):
    def replica(params, teachers, batch):
      return step(state.replace(params=params), batch, teachers)[1]["loss"]

    whole, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(parallel.BATCH_AXIS)
    mapped = jax.shard_map(replica, mesh=mesh, in_specs=(whole, whole, split), out_specs=whole)
    return mapped(params, teachers, batch)

  new, old = jax.jit(jax.grad(loss, (0, 1)))(state.params, frozen)
  assert all(not np.asarray(g).any() for g in jax.tree.leaves(old))
  assert all(np.asarray(g).any() for g in jax.tree.leaves(new["layers_0"]))


def test_member_only_descends_the_similarity_it_is_told_to(dataset):
  """With a large lambda similarity falls; with lambda 0 there is no game at all."""
  free, _ = losses(tiny_config(dissim__weight=1e-6), dataset, 1, 20)
  held, _ = losses(tiny_config(dissim__weight=5.0), dataset, 1, 20)
  assert held[-1, 1] < free[-1, 1] - 0.1
  assert make_game(tiny_config(dissim__weight=0.0), model(), (model(),), 5) is None


def test_many_steps_in_one_dispatch_are_the_same_steps(dataset):
  config = tiny_config()
  step, game, mesh, state, frozen = setup(config, 1)
  run = parallel.pmapped(step, mesh)
  data = parallel.replicate((dataset.train_images, dataset.train_labels), mesh)
  order = loop.epoch_order(0, 1, 100, 20)
  zero = lambda: parallel.replicate({n: np.float32(0) for n in train.metric_names(game)}, mesh)  # noqa: E731
  # The state is donated, so the second run needs its own copy.
  copy = jax.tree.map(jnp.copy, state)
  at_once, sums = run(state, zero(), data, order, frozen)
  one_by_one, totals = copy, zero()
  for row in order:
    one_by_one, totals = run(one_by_one, totals, data, row[None], frozen)
  assert int(at_once.step) == int(one_by_one.step) == 5
  for name in sums:
    np.testing.assert_allclose(sums[name], totals[name], rtol=1e-4)


def test_step_is_traced_once(dataset):
  config = tiny_config()
  step, game, mesh, state, frozen = setup(config, 1)
  traces = []

  def counted(*arguments):
    traces.append(1)
    return step(*arguments)

  run = parallel.pmapped(counted, mesh)
  data = parallel.replicate((dataset.train_images, dataset.train_labels), mesh)
  for epoch in range(3):
    totals = parallel.replicate({n: np.float32(0) for n in train.metric_names(game)}, mesh)
    for rows in loop.epoch_order(0, epoch, 100, 20):
      state, totals = run(state, totals, data, rows[None], frozen)
  assert len(traces) == 1


def train_whole(config, dataset, directory, mesh=None, game=True):
  mesh = mesh or parallel.make_mesh(jax.devices()[:1])
  steps = len(dataset.train_labels) // config.train.batch_size
  regularised = make_game(config, model(), (model(),), steps) if game else None
  frozen = parallel.replicate((teacher(),) if game else (), mesh)
  monitor = lambda variables, teachers: {}  # noqa: E731
  return train.train_member(
    config, model(), regularised, frozen, dataset, monitor, mesh, directory, 3
  )[0]


def test_images_on_the_host_give_the_same_training(dataset, tmp_path):
  resident, sent = (
    train_whole(
      tiny_config(train__epochs=2, data__resident_gib=gib), dataset, tmp_path / f"{gib}", game=False
    )
    for gib in (4.0, 0.0)
  )
  jax.tree.map(np.testing.assert_array_equal, resident, sent)


def test_sixty_four_images_are_overfitted(dataset, tmp_path):
  few = dataset._replace(
    train_images=dataset.train_images[:64], train_labels=dataset.train_labels[:64]
  )
  config = tiny_config(train__batch_size=32, train__epochs=40, augment__crop_padding=0)
  train_whole(config, few, tmp_path / "member", game=False)
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
  game = make_game(config, model(), (model(),), 5)
  with_game, without, other = (
    train.init_state(model(), optimizer, g, SHAPE, seed).params
    for g, seed in ((game, 3), (None, 3), (None, 4))
  )
  jax.tree.map(np.testing.assert_array_equal, with_game, without)
  assert not np.array_equal(without["head"]["dense"]["kernel"], other["head"]["dense"]["kernel"])
