"""Teachers of another architecture, and teachers whose labels are learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dissim_jax import experiment
from dissim_jax.config.ensemble import member_names, training_folders
from dissim_jax.configs import default
from dissim_jax.data import load
from dissim_jax.distributed import devices
from dissim_jax.files.atomic import read_json
from dissim_jax.files.run import read_run
from dissim_jax.members import plan
from dissim_jax.models import MODELS, Layered, matching_tap, resnet
from dissim_jax.pages.run import write_report
from dissim_jax.train import losses
from dissim_jax.train import step as train_step
from dissim_jax.train.optimizer import learning_rate, make_optimizer
from dissim_jax.train.penalty import make_penalty, teacher_taps
from tests import tiny

SHAPE = (8, 8, 1)


def config_of(**values):
  config = default.get_config()
  config.update_from_flattened_dict(
    {
      "train.batch_size": 20,
      "train.epochs": 2,
      "dissim.taps": (2,),
      "optimizer.name": "adamw",
      "optimizer.learning_rate": 1e-3,
      "evaluate.batch_size": 300,
      "data.train_per_class": 150,
      "data.images_per_class": 4,
    }
    | {key.replace("__", "."): value for key, value in values.items()}
  )
  return config


def small(name, classes=10):
  return MODELS[name](classes, width_multiplier=0.25, axis_name=devices.BATCH_AXIS)


def by_pillow(z, size):
  """Bilinear with antialiasing."""

  def channel(x):
    return np.asarray(Image.fromarray(x).resize(size, Image.Resampling.BILINEAR))

  z = np.asarray(z, np.float32)
  return np.stack([np.stack([channel(c) for c in np.moveaxis(x, -1, 0)], -1) for x in z])


def test_matching_taps():
  """Relative depth is tap / last; names are those that figures show."""
  resnet8, resnet14 = MODELS["resnet8"](2), MODELS["resnet14"](2)
  deeper = [matching_tap(tap, resnet8, resnet14) for tap in range(4)]
  shallower = [matching_tap(tap, resnet14, resnet8) for tap in range(7)]
  assert deeper == [0, 2, 4, 6] and shallower == [0, 1, 1, 2, 2, 3, 3]
  assert [matching_tap(tap, resnet14, resnet14) for tap in range(7)] == list(range(7))
  assert [matching_tap(tap, resnet8, resnet14, "name") for tap in range(4)] == [0, 1, 2, 3]
  with pytest.raises(ValueError, match="no tap is named 'block 4'"):
    matching_tap(4, resnet14, resnet8, "name")


@pytest.mark.parametrize("match, tap, size", [("depth", 4, (4, 4)), ("name", 2, (8, 8))])
def test_a_teachers_tap_is_matched_and_resized(match, tap, size):
  model, teacher = small("tiny_deep"), small("tiny_deeper")
  config = config_of(dissim__match=match)
  penalty = make_penalty(config, model, (teacher,), 5)
  assert penalty.teacher_taps == ((tap,),)
  images = np.random.default_rng(2).normal(size=(5, *SHAPE)).astype(np.float32)
  variables = tiny.drawn(teacher, SHAPE)
  run = lambda: model.init_with_output(jax.random.key(1), images)  # noqa: E731
  target = jax.eval_shape(run)[0][1][2]

  @jax.jit
  def both(variables):
    own = teacher.apply(variables, images, tap, method="represent")
    return own, teacher_taps(penalty, [variables], images, [target])[0][0]

  own, found = both(variables)
  assert own.shape[1:3] == size and found.shape[1:3] == target.shape[1:3] == (4, 4)
  np.testing.assert_allclose(found, by_pillow(own, (4, 4)), rtol=1e-5, atol=1e-5)


def shallow(features):
  """One convolution and a head: compiled in no time."""
  ops = resnet.Ops(axis_name=devices.BATCH_AXIS)
  return Layered((resnet.Stem(features, ops),), resnet.Head(10, ops), ("stem",))


def first_steps(teacher, config):
  """`(share, frozen, dataset) -> (metrics of the first step, parameters after it)`.

  The share is an argument of the compiled step, None for training without a tutor.
  """
  model, mesh = shallow(4), devices.make_mesh(jax.devices()[:1])
  optimizer = make_optimizer(config.optimizer, 4, 2)
  first = jax.device_get(train_step.init_state(model, optimizer, None, SHAPE, 3))

  def taught(state, batch, frozen):
    distillation = losses.Distillation(teacher, frozen[0])
    step = train_step.make_train_step(config, model, optimizer, None, distillation)
    return step(state, batch, frozen[1:])

  untaught = train_step.make_train_step(config, model, optimizer, None)
  runs = [devices.pmapped(step, mesh) for step in (untaught, taught)]

  def take(share, frozen, dataset):
    known, arguments = share is not None, () if share is None else (np.float32(share), *frozen)
    names = ("steps", "finite", "loss", "cross_entropy", "accuracy", *["agreement"] * known)
    totals = {name: np.float32(0) for name in names}
    data = dataset.train_images, dataset.train_labels
    state, totals, data, arguments = devices.replicate((first, totals, data, arguments), mesh)
    rows = np.arange(20, dtype=np.int32)[None]
    state, totals = runs[known](state, totals, data, rows, arguments)
    return {name: float(value) for name, value in totals.items()}, jax.device_get(state.params)

  return take


@pytest.fixture(scope="module")
def taught():
  """Training with a teacher's labels for shares 0, 1/2 and 1, without a teacher, and with its
  labels for the true ones.
  """
  config, teacher = config_of(optimizer__name="sgd", optimizer__learning_rate=0.1), shallow(3)
  dataset = load(config.data)
  variables = tiny.drawn(teacher, SHAPE, 5)
  images = (dataset.train_images[:20].astype(np.float32) / 255 - 0.5) / 0.5
  labels = np.argmax(jax.jit(lambda x: teacher.apply(variables, x)[0])(images), axis=-1)
  take = first_steps(teacher, config)
  found = {share: take(share, (variables,), dataset) for share in (0.0, 0.5, 1.0, None)}
  other = np.array(dataset.train_labels)
  other[:20] = labels
  found["relabelled"] = take(None, (), dataset._replace(train_labels=other))
  return found, labels, dataset.train_labels[:20]


def close(one, other):
  np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_share_zero_is_training_without_a_teacher(taught):
  found = taught[0]
  jax.tree.map(close, found[0.0][1], found[None][1])
  apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), found[1.0][1], found[None][1])
  assert max(jax.tree.leaves(apart)) > 1e-2  # The tolerance can tell labels apart.


def test_share_one_is_training_on_the_teachers_labels(taught):
  found, labels, true = taught
  assert (labels != true).any()
  jax.tree.map(close, found[1.0][1], found["relabelled"][1])
  assert found[1.0][0]["loss"] == pytest.approx(found["relabelled"][0]["loss"], rel=1e-6)


def test_half_is_the_mean_of_both_losses(taught):
  found = taught[0]
  both = (found[0.0][0]["loss"] + found[1.0][0]["loss"]) / 2
  assert found[0.5][0]["loss"] == pytest.approx(both, rel=1e-5)
  assert 0 <= found[0.5][0]["agreement"] <= 1
  assert found[0.5][0]["accuracy"] == pytest.approx(found[None][0]["accuracy"], abs=1e-6)


def test_plan_of_students(tmp_path):
  config = config_of(objective__name="distill", ensemble__size=3, dissim__weight=1.0)
  plans, sequences = plan.make_plan(config, tmp_path)
  assert sequences == {
    "baseline": ["member_0", "independent_1", "independent_2"],
    "distill": ["member_0", "member_1", "member_2"],
  }
  teachers = {each.name: [teacher.name for teacher in each.teachers] for each in plans}
  assert teachers["member_1"] == teachers["member_2"] == ["member_0"]
  assert not teachers["member_0"] and not teachers["independent_1"]
  kinds = {each.name: each.objective for each in plans}
  assert kinds["member_1"] == "distill" and kinds["member_0"] == kinds["independent_1"] == (
    "sequential"
  )
  assert [each.name for each in plans] == member_names(config)
  assert set(training_folders(config)) == {each.name for each in plans}


@pytest.fixture(scope="module")
def dissimilar(tmp_path_factory):
  """A run of a ResNet and a vision transformer made dissimilar to it."""
  folder = tmp_path_factory.mktemp("teachers") / "dissimilar"
  experiment.run(two_architectures(), folder)
  return folder


def two_architectures(other="tiny_vit", **values):
  return config_of(
    ensemble__models=("tiny", other),
    ensemble__baseline=False,
    model__width_multiplier=0.5,
    train__epochs=1,
    dissim__taps=(1,),
    **values,
  )


@pytest.mark.usefixtures("undrawn")
def test_run_of_two_architectures(dissimilar):
  facts = read_json(dissimilar / "member_1" / "member.json")
  assert (facts["model"], facts["stem"], facts["teachers"]) == ("tiny_vit", 8, ["../member_0"])
  results = read_run(str(dissimilar))
  assert results.sequences == {"dissimilar": ["member_0", "member_1"]}
  last = len(results.tap_names("member_1")) - 1
  assert results.matched("member_0", "member_1")[-1] == 2 and last != 2
  assert np.isfinite(results.arrays["r2"]["member_0", "member_1"]).all()
  with open(write_report(str(dissimilar)), encoding="utf-8") as file:
    page = file.read()
  assert "tiny + tiny_vit on digits" in page and "At the regularised tap" in page


@pytest.mark.usefixtures("undrawn")
def test_student_of_a_member_of_another_run(dissimilar, tmp_path):
  config = two_architectures(
    "tiniest", objective__name="distill", ensemble__teachers=(str(dissimilar / "member_0"),)
  )
  metrics = experiment.run(config, tmp_path / "run")
  assert metrics["sequences"] == {"distill": ["member_0", "member_1"]}
  facts = read_json(tmp_path / "run" / "member_1" / "member.json")
  assert facts["model"] == "tiniest" and facts["objective"] == "distill"
  where = (tmp_path / "run" / "member_1" / facts["teachers"][0]).resolve()
  assert where == (dissimilar / "member_0").resolve()
  with open(write_report(str(tmp_path / "run")), encoding="utf-8") as file:
    page = file.read()
  assert "distilled from member_0" in page and "At the regularised tap" not in page


@pytest.mark.parametrize("warmup", [0.0, 2.0])
def test_learning_rate_rises_then_falls(warmup):
  settings = config_of(optimizer__warmup_epochs=warmup, optimizer__learning_rate=0.3).optimizer
  rates = np.array([learning_rate(settings, 100, 10)(step) for step in range(101)])
  first = round(warmup * 10)
  expected = 0.3 * np.where(
    np.arange(101) < first,
    np.arange(101) / max(first, 1),
    0.5 + 0.5 * np.cos(np.pi * (np.arange(101) - first) / (100 - first)),
  )
  np.testing.assert_allclose(rates, expected, atol=1e-7)


def test_adamw_is_the_published_update():
  """Loshchilov & Hutter 2019, Algorithm 2, without look-ahead, in float64."""
  config = config_of(
    optimizer__nesterov=False, optimizer__weight_decay=0.1, optimizer__learning_rate=0.01
  )
  optimizer = make_optimizer(config.optimizer, 10, 5)
  rng = np.random.default_rng(0)
  x = rng.normal(size=3)
  params, state = jnp.asarray(x, jnp.float32), None
  state = optimizer.init(params)
  m, v = np.zeros(3), np.zeros(3)
  for t in range(1, 5):
    g = rng.normal(size=3)
    rate = 0.01 * (0.5 + 0.5 * np.cos(np.pi * (t - 1) / 10))
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    x = x - rate * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + 0.1 * x)
    updates, state = optimizer.update(jnp.asarray(g, jnp.float32), state, params)
    params = params + updates
  np.testing.assert_allclose(params, x, rtol=1e-5)
