"""Every measure that may be a penalty works as one: trained against, it ends lower than without."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from dissim_jax import loop, parallel, train
from dissim_jax.data import load
from dissim_jax.data.augment import normalise
from dissim_jax.errors import UserError
from dissim_jax.game import make_game
from dissim_jax.members import build_model
from dissim_jax.optimizer import make_optimizer
from dissim_jax.similarity import MEASURES, PENALTIES, moments, solve_affine
from dissim_jax.validate import check_config

FACTS = {"model": "tiniest", "width_multiplier": 0.25, "num_classes": 10}
TAP = 1
WEIGHT = 5.0
STEPS = 30
BATCH = 50
# Compiled quickly: a run is too short for optimised programs to pay.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def make_config(metric, weight):
  config = default.get_config()
  config.train.batch_size = BATCH
  config.dissim.taps = (TAP,)
  config.dissim.metric, config.dissim.weight = metric, weight
  return config


@functools.cache
def model():
  return build_model(FACTS, jnp.float32)


@functools.cache
def dataset():
  return load(default.get_config().data)


@functools.cache
def mesh():
  return parallel.make_mesh(jax.devices()[:1])


@functools.cache
def fresh_state(seed):
  """Of any run: neither a closed-form projection nor none has a state of its own."""
  optimizer = make_optimizer(default.get_config().optimizer, STEPS, 1)
  state = train.init_state(model(), optimizer, None, dataset().image_shape, seed)
  # Placed as a step gives it back, or the second step would be compiled again.
  return parallel.replicate(state, mesh())


@functools.cache
def training_step(metric, weight, teachers):
  config = make_config(metric, weight)
  game = make_game(config, model(), (model(),) * teachers, 100 // BATCH)
  step = train.make_train_step(config, model(), make_optimizer(config.optimizer, STEPS, 1), game)
  whole, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(parallel.BATCH_AXIS)
  return jit(
    jax.shard_map(step, mesh=mesh(), in_specs=(whole, split, whole), out_specs=(whole, whole))
  )


def trained(metric, weight, seed, teachers=()):
  """Variables of a member after a few steps of the training loop's own step."""
  step, state = training_step(metric, weight, len(teachers)), fresh_state(seed)
  for epoch in range(STEPS * BATCH // 100):
    for rows in loop.epoch_order(0, epoch, 100, BATCH):
      batch = {"image": dataset().train_images[rows], "label": dataset().train_labels[rows]}
      state, metrics = step(state, batch, teachers)
  assert np.isfinite(metrics["loss"])
  return train.variables_of(state)


@functools.cache
def teacher():
  """An earlier member: one that is trained as far as the others."""
  return trained("expvar", 0.0, seed=7)


@functools.cache
def free_member():
  return trained("expvar", 0.0, seed=3)


@functools.cache
def representation():
  """The tap of a member on images that it was not trained on."""
  config = make_config("expvar", 0.0)
  images = normalise(dataset().test_images[:100], config.data.mean, config.data.std)

  def tap(variables):
    return model().apply(variables, images, TAP, method="represent")

  return jit(tap)


@functools.cache
def best_projection():
  def project(source, z):
    weights, bias = solve_affine(moments(source, z))
    return source @ weights + bias

  return jit(project)


def similarity_to_the_teacher(name, variables):
  """The measure itself, of an aligned one with the best projection."""
  z, source = representation()(variables), representation()(teacher())
  if MEASURES[name].aligned:
    source = best_projection()(source, z)
  return float(jit(MEASURES[name].function)(z, source))


@pytest.mark.parametrize("name", PENALTIES)
def test_penalty_lowers_its_measure(name):
  held = trained(name, WEIGHT, seed=3, teachers=(teacher(),))
  without = similarity_to_the_teacher(name, free_member())
  against = similarity_to_the_teacher(name, held)
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
