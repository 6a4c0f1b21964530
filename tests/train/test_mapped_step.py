"""The mapped step with JAX's checks of what varies over the mesh on, for every kind of step.

`jax.shard_map` checks while it traces, so nothing is compiled here. That every family of
architectures learns is tested in `test_zoo.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erfc

from dissim_jax.configs import default
from dissim_jax.distributed import devices
from dissim_jax.models import MODELS, variable_shapes
from dissim_jax.models.patches import gelu
from dissim_jax.registry.objectives import JOINT
from dissim_jax.similarity import PENALTIES
from dissim_jax.train import joint, losses
from dissim_jax.train import step as train_step
from dissim_jax.train.optimizer import make_optimizer
from dissim_jax.train.penalty import make_penalty
from tests.traced import shallow

BATCH = 4


@pytest.fixture(autouse=True)
def _weights_are_zeros(monkeypatch):
  """No program is compiled for initial weights either."""
  zeros = lambda model, key, shape: jax.tree.map(jnp.zeros_like, variable_shapes(model, shape))  # noqa: E731
  monkeypatch.setattr(train_step, "init_variables", zeros)
  monkeypatch.setattr(joint, "init_variables", zeros)


def traced(step, state, names, teachers, size, count):
  """The program of one step on so many devices; shapes of the new state and of the metrics."""
  mesh = devices.make_mesh(jax.devices()[:count])
  data = jnp.zeros((8, size, size, 3), jnp.uint8), jnp.zeros(8, jnp.int32)
  totals = {name: jnp.zeros(()) for name in names}
  run = devices.pmapped(step, mesh)
  rows = jnp.zeros((1, BATCH), jnp.int32)
  return shapes_of(run.trace(state, totals, data, rows, teachers).out_info)


def shapes_of(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def config_of(**fields):
  config = default.get_config()
  config.augment.crop_padding, config.augment.cutout = 1, 2
  config.data.mean = config.data.std = (0.5,) * 3
  config.update_from_flattened_dict({key.replace("__", "."): v for key, v in fields.items()})
  return config


def network(name):
  """A network with batch norm over all devices, its image size, and its variables' shapes."""
  size = 32 if name == "tiny10" else 8
  model = shallow(name, 10, stem=size, axis_name=devices.BATCH_AXIS, width_multiplier=0.5)
  return model, size, variable_shapes(model, (size, size, 3))


def member(name, config, count, kind="against"):
  """Traces the step of a member `against`, or `taught` by, one of its own kind, or `alone`."""
  model, size, variables = network(name)
  optimizer = make_optimizer(config.optimizer, 10, 5)
  penalty = make_penalty(config, model, (model,), 5) if kind == "against" else None
  distillation = losses.Distillation(model, 0.5) if kind == "taught" else None
  state = jax.eval_shape(
    lambda: train_step.init_state(model, optimizer, penalty, (size, size, 3), 0)
  )
  step = train_step.make_train_step(config, model, optimizer, penalty, distillation)
  names = ("steps", "finite", *train_step.shown_metrics(penalty, distillation))
  teachers = () if kind == "alone" else (variables,)
  new, sums = traced(step, state, names, teachers, size, count)
  assert new == shapes_of(state) and set(sums) == set(names)


FAMILIES = ["resnet8", "tiny10", *(name for name in MODELS if name.endswith("_mini"))]


@pytest.mark.parametrize("name, count", [("tiny", 1), ("tiny", 4), ("vit_mini", 2)])
def test_member(name, count):
  """With batch norm and without, against a teacher of its own kind; the closed form at one tap."""
  member(name, config_of(dissim__taps=(1,)), count)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name):
  """A teacher would run the same layers once more, without their gradients."""
  member(name, config_of(), 2, "alone")


@pytest.mark.parametrize("metric", PENALTIES)
def test_every_penalty(metric):
  member("tiny", config_of(dissim__taps=(1,), dissim__metric=metric), 2)


OTHER_STEPS = {
  "learned projection": {
    "dissim__projection__name": "learned",
    "dissim__projection__inner_steps": 2,
  },
  "AutoAugment": {"augment__autoaugment": "cifar10", "augment__flip": True},
  "AdamW": {"optimizer__name": "adamw", "optimizer__warmup_epochs": 1.0},
  "lambda rises": {"dissim__warmup_steps": 10},
}


@pytest.mark.parametrize("kind", OTHER_STEPS)
def test_other_steps(kind):
  member("tiny", config_of(dissim__taps=(0, 1), **OTHER_STEPS[kind]), 2)


def test_student_of_a_teacher():
  member("tiny", config_of(), 2, "taught")


@pytest.mark.parametrize("name", JOINT)
def test_members_together(name):
  """One with batch norm and one with GELU, which `attribution` differentiates twice."""
  config = config_of()
  optimizer = make_optimizer(config.optimizer, 10, 5)
  models = [network(kind)[0] for kind in ("tiniest", "vit_mini")]
  state = jax.eval_shape(lambda: joint.init_joint_state(models, optimizer, (8, 8, 3), (0, 1)))
  step = joint.make_joint_step(config, name, models, optimizer)
  names = ("steps", "finite", *joint.SHOWN)
  new, sums = traced(step, state, names, (), 8, 2)
  assert new == shapes_of(state) and set(sums) == set(names)


def test_gelu_and_its_derivatives():
  """Where it is evaluated is far from where erfc underflows; the first derivative is float64's."""
  x = np.linspace(-6, 6, 101)
  density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
  expected = erfc(-x / np.sqrt(2)) / 2 + x * density
  slope = jax.grad(gelu)
  run = jax.jit(jax.vmap(lambda x: (slope(x), jax.grad(slope)(x))))
  first, second = run(x.astype(np.float32))
  np.testing.assert_allclose(first, expected, atol=3e-7)
  np.testing.assert_allclose(second, (2 - x * x) * density, atol=1e-6)
  assert jax.eval_shape(gelu, jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16
