"""Objectives of members trained together, and their training."""

import functools
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dissim_jax.attribution import attribution_diversity
from dissim_jax.configs import default
from dissim_jax.data import load
from dissim_jax.distributed import devices
from dissim_jax.members.store import build_model
from dissim_jax.registry.objectives import JOINT
from dissim_jax.train import joint, joint_losses, loop
from dissim_jax.train import step as train_step
from dissim_jax.train.optimizer import make_optimizer

MEMBERS, BATCH, CLASSES = 3, 7, 5


def random_logits(seed=0, scale=2.0):
  rng = np.random.default_rng(seed)
  logits = scale * rng.standard_normal((MEMBERS, BATCH, CLASSES))
  return logits.astype(np.float32), rng.integers(0, CLASSES, BATCH)


def loss(logits, label):
  """Cross-entropy of one float64 logit vector."""
  return np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]


def oracle(logits, labels, weight, masked=False):
  """Eq. 2 example by example, with the matrix D written out."""
  logits, total = logits.astype(np.float64), 0.0
  members = len(logits)
  for b, label in enumerate(labels):
    f = logits[:, b].mean(0)
    p = np.exp(f - f.max()) / np.exp(f - f.max()).sum()
    matrix = np.diag(p) - np.outer(p, p)
    for i in range(members):
      d = logits[i, b] - f
      own = weight * (not masked or logits[i, b].argmax() == label)
      total += loss(logits[i, b], label) / members - own / (2 * members) * d @ matrix @ d
  return total / len(labels)


def oracle_balanced(logits, labels, weight):
  """Eq. 3 with its outer sum."""
  logits, members, total = logits.astype(np.float64), len(logits), 0.0
  for b, label in enumerate(labels):
    own = sum(loss(logits[i, b], label) for i in range(members))
    f = logits[:, b].mean(0)
    total += sum(
      (weight * loss(f, label) + (1 - weight) / members * own) / members for _ in range(members)
    )
  return total / len(labels)


ORACLES = {
  "independent": lambda logits, labels, weight: oracle(logits, labels, 0.0),
  "gncl": oracle,
  "gncl_masked": lambda logits, labels, weight: oracle(logits, labels, weight, masked=True),
  "balanced": oracle_balanced,
  "attribution": lambda logits, labels, weight: oracle(logits, labels, 0.0),
}


@jax.jit
def objectives(logits, labels, weight):
  """All of them: one program for all tests that share shapes."""
  return {name: entry.function(logits, labels, weight) for name, entry in JOINT.items()}


@jax.jit
def gradients(logits, labels, weight):
  return {name: jax.grad(entry.function)(logits, labels, weight) for name, entry in JOINT.items()}


diversity = jax.jit(joint_losses.diversity)
disagreements = jax.jit(joint_losses.disagreements)


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_objective_is_that_of_the_paper(name, weight):
  logits, labels = random_logits()
  value = objectives(logits, labels, weight)[name]
  assert value.dtype == jnp.float32 and value.shape == ()
  np.testing.assert_allclose(value, ORACLES[name](logits, labels, weight), rtol=2e-6)


def test_objectives_differ():
  logits, labels = random_logits()
  values = {float(objectives(logits, labels, 0.5)[name]) for name in ORACLES}
  assert len({round(value, 4) for value in values}) == 4  # independent and attribution agree


def test_matrix_is_the_hessian_of_the_cross_entropy_at_the_mean_logit():
  logits, labels = random_logits()
  found = disagreements(logits)
  mean = logits.mean(0)
  one = lambda f, label: -jax.nn.log_softmax(f)[label]  # noqa: E731
  hessians = jax.jit(jax.vmap(jax.hessian(one)))(mean, labels)
  difference = logits - mean
  expected = np.einsum("mbk,bkl,mbl->mb", difference, hessians, difference)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gncl_of_weight_one_is_the_loss_of_the_ensemble_to_second_order():
  """What is left is of third order: halving the distance of the members divides it by eight."""
  logits, labels = random_logits(1)
  mean = logits.mean(0)
  rest = []
  for scale in (0.2, 0.1):
    near = mean + scale * (logits - mean)
    ensemble = objectives(near, labels, 1.0)["balanced"]
    rest.append(float(objectives(near, labels, 1.0)["gncl"] - ensemble))
  assert 5 < rest[0] / rest[1] < 12


def test_wrong_members_are_not_rewarded():
  logits, right = np.zeros((MEMBERS, BATCH, CLASSES), np.float32), np.zeros(BATCH, int)
  logits[0, 0, 0], logits[1, 0, 1], logits[2, 0, 2] = 2.0, 2.0, 2.0  # Member 0 alone is right.
  each, found = disagreements(logits), objectives(logits, right, 1.0)
  gain = found["independent"] - found["gncl_masked"]
  np.testing.assert_allclose(gain, each[0, 0] / (2 * MEMBERS * BATCH), rtol=1e-5)
  wrong = objectives(logits, np.full(BATCH, 3), 1.0)
  np.testing.assert_allclose(wrong["gncl_masked"], wrong["independent"], rtol=1e-6)


LOGITS = hnp.arrays(np.float32, (MEMBERS, BATCH, CLASSES), elements=st.floats(-50, 50, width=32))
LABELS = hnp.arrays(np.int32, (BATCH,), elements=st.integers(0, CLASSES - 1))
PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)


@PROPERTY
@given(LOGITS, LABELS)
def test_balanced_is_the_members_at_zero_and_the_ensemble_at_one(logits, labels):
  found = objectives(logits, labels, 0.0)
  np.testing.assert_allclose(found["balanced"], found["independent"], rtol=1e-5)
  ensemble = np.mean([loss(f, y) for f, y in zip(logits.mean(0, np.float64), labels, strict=True)])
  found = objectives(logits, labels, 1.0)["balanced"]
  np.testing.assert_allclose(found, ensemble, rtol=1e-4, atol=1e-4)


@PROPERTY
@given(LOGITS)
def test_penalty_is_never_negative_and_zero_for_identical_members(logits):
  assert float(diversity(logits)) >= 0
  same = np.broadcast_to(logits[:1], logits.shape)
  np.testing.assert_allclose(diversity(same), 0.0, atol=1e-9)


@PROPERTY
@given(LOGITS, LABELS)
def test_order_of_members_and_offset_of_logits_do_not_matter(logits, labels):
  order = [2, 0, 1]
  values = objectives(logits, labels, 0.4)
  others = objectives(logits[order], labels, 0.4)
  moved = objectives(logits + 1, labels, 0.4)
  for name in ("gncl", "gncl_masked", "balanced"):
    np.testing.assert_allclose(others[name], values[name], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(moved[name], values[name], rtol=1e-3, atol=1e-3)


def test_extreme_logits_and_one_member():
  logits, labels = random_logits(scale=1e4)
  values, slopes = (f(logits, labels, 0.2) for f in (objectives, gradients))
  alone = objectives(logits[:1], labels, 0.7)
  for name in JOINT:
    assert np.isfinite(values[name]) and np.isfinite(slopes[name]).all()
    np.testing.assert_allclose(alone[name], oracle(logits[:1], labels, 0.0), rtol=1e-5)


@pytest.mark.parametrize(
  "logits, labels, expected",
  [
    (np.zeros((2, 3), np.float32), np.zeros(2, int), "logits are float32"),
    (np.zeros((2, 3, 4), int), np.zeros(3, int), "logits are int"),
    (np.zeros((2, 3, 4), np.float32), np.zeros(4, int), "labels are int"),
    (np.zeros((2, 3, 4), np.float32), np.zeros(3), "labels are float"),
  ],
)
def test_wrong_shapes_are_told(logits, labels, expected):
  with pytest.raises(ValueError, match=expected):
    joint_losses.gncl(logits, labels, 0.1)


SHAPE = (8, 8, 1)
SEEDS = (11, 12)
FACTS = {"model": "tiniest", "width_multiplier": 0.5, "num_classes": 10}
WEIGHTS = {"gncl": 0.5, "attribution": 5.0}


@pytest.fixture(scope="module")
def dataset():
  return load(default.get_config().data)


def config_of(**overrides):
  config = default.get_config()
  config.update_from_flattened_dict(
    {"train.batch_size": 20, "train.epochs": 2, "train.checkpoint_every_epochs": 1}
    | {key.replace("__", "."): value for key, value in overrides.items()}
  )
  return config


@functools.cache
def models():
  return [build_model(FACTS, jnp.float32)] * 2


@functools.cache
def first_state():
  optimizer = make_optimizer(config_of().optimizer, 10, 1)
  return jax.device_get(joint.init_joint_state(models(), optimizer, SHAPE, SEEDS))


@functools.cache
def step_of(name, count):
  """The mapped step and its mesh; the weight is an argument, so one program does for all."""
  config = config_of()
  optimizer = make_optimizer(config.optimizer, 10, 1)

  def step(state, batch, weight):
    objective = types.SimpleNamespace(weight=weight)
    own = types.SimpleNamespace(augment=config.augment, data=config.data, objective=objective)
    return joint.make_joint_step(own, name, models(), optimizer)(state, batch, ())

  mesh = devices.make_mesh(jax.devices()[:count])
  return devices.pmapped(step, mesh), mesh


@functools.cache
def steps_of(name, weight, count=1, steps=12):
  """The metrics of each step."""
  dataset = load(config_of().data)
  run, mesh = step_of(name, count)
  state, weight = devices.replicate((first_state(), np.float32(weight)), mesh)
  data = devices.replicate((dataset.train_images, dataset.train_labels), mesh)
  values = []
  for i in range(steps):
    totals = {n: np.float32(0) for n in ("steps", "finite", *joint.SHOWN)}
    rows = loop.epoch_order(0, i, 100, 20)[:1]
    state, totals = run(state, devices.replicate(totals, mesh), data, rows, weight)
    values.append({name: float(total) for name, total in totals.items()})
  return values


@pytest.mark.parametrize("name", WEIGHTS)
def test_four_devices_train_as_one(name):
  one, four = (steps_of(name, WEIGHTS[name], count)[:6] for count in (1, 4))
  for key in ("loss", "diversity", "cross_entropy"):
    np.testing.assert_allclose(
      [step[key] for step in four], [step[key] for step in one], rtol=2e-4, err_msg=key
    )


@pytest.mark.parametrize("name", WEIGHTS)
def test_diversity_is_what_the_weight_asks_for(name):
  """More weight, more of the rewarded diversity, for logits and for attribution maps."""
  free, asked = (steps_of(name, weight)[-1] for weight in (0.0, WEIGHTS[name]))
  assert asked["diversity"] > 1.2 * free["diversity"]
  if name == "attribution":
    expected = asked["cross_entropy"] - WEIGHTS[name] * asked["diversity"]
    np.testing.assert_allclose(asked["loss"], expected, rtol=1e-4, atol=1e-4)


def test_attribution_maps_are_those_of_the_true_class(dataset):
  """The rewarded number of the first step, by hand."""
  values = steps_of("attribution", WEIGHTS["attribution"])
  rows = loop.epoch_order(0, 0, 100, 20)[0]
  labels = dataset.train_labels[rows]
  images = ((dataset.train_images[rows] / 255 - 0.5) / 0.5).astype(np.float32)

  def score(images, member):
    def mapped(images):
      return models()[0].apply(member, images, True, mutable=["batch_stats"])[0][0]

    logits = jax.vmap(mapped, axis_name=devices.BATCH_AXIS)(images[None])[0]
    return logits[np.arange(20), labels].sum()

  saliency = jax.jit(jax.grad(score))
  maps = [np.abs(saliency(images, member)) for member in joint.members_of(first_state())]
  expected = jax.jit(attribution_diversity)(np.stack(maps)).mean()
  np.testing.assert_allclose(values[0]["diversity"], expected, rtol=1e-3)


def train_whole(dataset, directory):
  mesh = devices.make_mesh(jax.devices()[:1])
  return joint.train_jointly(
    config_of(objective__weight=0.0),
    "gncl",
    models(),
    dataset,
    lambda state: {},
    mesh,
    directory,
    SEEDS,
  )[0]


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
  """The members of an uninterrupted run with weight zero, and its folder."""
  folder = tmp_path_factory.mktemp("joint") / "whole"
  return train_whole(dataset, folder), folder


def test_weight_zero_trains_each_member_as_if_it_were_alone(dataset, whole, tmp_path):
  together, _ = whole
  alone, _ = train_step.train_member(
    config_of(),
    models()[0],
    None,
    (),
    dataset,
    lambda variables, teachers: {},
    devices.make_mesh(jax.devices()[:1]),
    tmp_path / "alone",
    SEEDS[0],
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), together[0], alone
  )
  other = jax.tree.leaves(together[1]["params"])
  assert any(
    np.abs(a - b).max() > 0.1 for a, b in zip(jax.tree.leaves(alone["params"]), other, strict=True)
  )


def test_resumed_training_is_the_uninterrupted_one(dataset, whole, tmp_path):
  members, folder = whole
  shutil.copytree(folder, tmp_path / "killed")
  shutil.rmtree(tmp_path / "killed" / "checkpoints" / "10")
  resumed = train_whole(dataset, tmp_path / "killed")
  jax.tree.map(np.testing.assert_array_equal, members, resumed)
  for run in (folder, tmp_path / "killed"):
    assert (run / "metrics.jsonl").read_text().count("\n") == 2
