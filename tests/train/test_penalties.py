"""Every measure that may be a penalty works as one: trained against, it ends lower than without."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dissim_jax.config.check import check_config
from dissim_jax.configs import default
from dissim_jax.data import load
from dissim_jax.data.augment import normalise
from dissim_jax.distributed import devices
from dissim_jax.errors import UserError
from dissim_jax.members.store import build_model
from dissim_jax.similarity import MEASURES, PENALTIES, moments, solve_affine
from dissim_jax.train import loop
from dissim_jax.train import step as train_step
from dissim_jax.train.optimizer import make_optimizer
from dissim_jax.train.penalty import make_penalty

FACTS = {"model": "tiniest", "width_multiplier": 0.25, "num_classes": 10}
TAP = 1
WEIGHT = 5.0
STEPS = 30
BATCH = 50
# Compiled quickly: a run is too short for optimised programs to pay.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def make_config(metric):
  config = default.get_config()
  config.train.batch_size = BATCH
  config.dissim.taps = (TAP,)
  config.dissim.metric, config.dissim.weight = metric, WEIGHT
  config.dissim.warmup_start_epoch = STEPS * BATCH // 100  # Before it lambda is 0.
  return config


@functools.cache
def model():
  return build_model(FACTS, jnp.float32)


@functools.cache
def dataset():
  return load(default.get_config().data)


@functools.cache
def mesh():
  return devices.make_mesh(jax.devices()[:1])


@functools.cache
def fresh_state(seed):
  """Of any run: neither a closed-form projection nor none has a state of its own."""
  optimizer = make_optimizer(default.get_config().optimizer, STEPS, 1)
  state = train_step.init_state(model(), optimizer, None, dataset().image_shape, seed)
  # Placed as a step gives it back, or the second step would be compiled again.
  return devices.replicate(state, mesh())


@functools.cache
def training_step():
  """The step of every penalty: the first argument says of which.

  One program, as compiling the network takes longer than compiling a measure.
  """
  configs = [make_config(name) for name in PENALTIES]
  games = [make_penalty(config, model(), (model(),), 100 // BATCH) for config in configs]
  optimizer = make_optimizer(configs[0].optimizer, STEPS, 1)

  def step(which, state, batch, teachers):
    def similarity(targets, predictions):
      return jax.lax.switch(which, [penalty.similarity for penalty in games], targets, predictions)

    def fit(state, sources, targets, similarity):
      def predicted(penalty):
        return lambda *taps: penalty.projection.fit(state, *taps, penalty.similarity)[0]

      branches = [predicted(penalty) for penalty in games]
      return jax.lax.switch(which, branches, sources, targets), state

    projection = games[0].projection._replace(fit=fit)
    penalty = dataclasses.replace(games[0], similarity=similarity, projection=projection)
    own = train_step.make_train_step(configs[0], model(), optimizer, penalty)
    return own(state, batch, teachers)

  whole, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(devices.BATCH_AXIS)
  specs = {"in_specs": (whole, whole, split, whole), "out_specs": (whole, whole)}
  return jit(jax.shard_map(step, mesh=mesh(), **specs))


def trained(name, seed, teacher, first):
  """Variables of a member after a few steps of the training loop's own step, from a step on."""
  which, state = np.int32(PENALTIES.index(name)), fresh_state(seed)
  state = state.replace(step=devices.replicate(np.int32(first), mesh()))
  for epoch in range(STEPS * BATCH // 100):
    for rows in loop.epoch_order(0, epoch, 100, BATCH):
      batch = {"image": dataset().train_images[rows], "label": dataset().train_labels[rows]}
      state, metrics = training_step()(which, state, batch, (teacher,))
  assert np.isfinite(metrics["loss"])
  return train_step.variables_of(state)


def free(seed):
  """A member that is trained with lambda 0, so that it does not matter against whom."""
  return trained("expvar", seed, train_step.variables_of(fresh_state(seed)), first=0)


@functools.cache
def teacher():
  """An earlier member: one that is trained as far as the others."""
  return free(seed=7)


@functools.cache
def measures():
  """The compiled measures of a member against the teacher, of aligned ones with the best
  projection, on images that neither was trained on.
  """
  config = default.get_config()
  images = normalise(dataset().test_images[:100], config.data.mean, config.data.std)

  def measure(variables, teacher):
    z, source = (
      model().apply(own, images, TAP, method="represent") for own in (variables, teacher)
    )
    weights, bias = solve_affine(moments(source, z))
    best = source @ weights + bias
    return {
      name: MEASURES[name].function(z, best if MEASURES[name].aligned else source)
      for name in PENALTIES
    }

  return jit(measure)


@functools.cache
def unpenalised():
  return measures()(free(seed=3), teacher())


@pytest.mark.parametrize("name", PENALTIES)
def test_penalty_lowers_its_measure(name):
  held = trained(name, 3, teacher(), first=STEPS)
  without, against = float(unpenalised()[name]), float(measures()(held, teacher())[name])
  assert without > 0.1
  assert against < 0.5 * without


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("metric", "svcca", "dissim.metric='svcca': choose one of cca, cca_squared, expvar"),
    ("options.rbfcka.samples", "pixel", "dissim.options.rbfcka.samples='pixel': choose one of"),
    ("options.rbfcka.bandwidth", 0.0, "dissim.options.rbfcka.bandwidth=0.0: must be a finite"),
    ("options.rsa.distance", "cosine", "dissim.options.rsa.distance='cosine': choose one of"),
    ("options.r2.weighting", "sum", "dissim.options.r2.weighting='sum': choose one of channel"),
  ],
)
def test_wrong_settings_are_told_in_a_sentence(field, value, message):
  config = default.get_config()
  config.dissim.update_from_flattened_dict({field: value})
  with pytest.raises(UserError, match=message):
    check_config(config)


def test_a_measure_is_no_penalty_where_the_registry_says_so():
  assert not {"svcca", "pwcca", "jaccard"} & set(PENALTIES)
