"""What a training step becomes on a GPU, without one: lowered for CUDA, not compiled.

A convolution that falls back to float32, one that is computed twice, and a callback to the host
would each cost a good part of the speed, and no result would show it.
"""

import re

import jax
import jax.numpy as jnp
import pytest

from dissim_jax.configs import default
from dissim_jax.distributed import devices
from dissim_jax.members.store import build_model
from dissim_jax.train import step as train_step
from dissim_jax.train.optimizer import make_optimizer
from dissim_jax.train.penalty import make_penalty

FACTS = {"model": "resnet8", "width_multiplier": 0.25, "num_classes": 10}
SHAPE = (16, 16, 3)
TAP = 1  # One of three blocks.


@pytest.fixture(scope="module")
def step():
  """(StableHLO of a step in bfloat16 against one earlier member, closed form; its parameters)."""
  config = default.get_config()
  config.augment.crop_padding, config.augment.flip, config.augment.cutout = 4, True, 8
  config.augment.autoaugment = "cifar10"
  config.data.mean = config.data.std = (0.5,) * 3
  config.dissim.taps = (TAP,)
  model = build_model(FACTS, jnp.bfloat16)
  optimizer = make_optimizer(config.optimizer, 10, 5)
  penalty = make_penalty(config, model, (model,), 5)
  state = train_step.init_state(model, optimizer, penalty, SHAPE, 0)
  run = devices.pmapped(
    train_step.make_train_step(config, model, optimizer, penalty),
    devices.make_mesh(jax.devices()[:1]),
  )
  data = jnp.zeros((8, *SHAPE), jnp.uint8), jnp.zeros(8, jnp.int32)
  totals = {name: jnp.zeros(()) for name in train_step.metric_names(penalty)}
  rows, teachers = jnp.zeros((1, 8), jnp.int32), (train_step.variables_of(state),)
  with pytest.MonkeyPatch.context() as patch:
    # What is traced depends on where it will run, see `models.convolution`.
    patch.setattr(jax, "default_backend", lambda: "gpu")
    exported = jax.export.export(run, platforms=["cuda"])(state, totals, data, rows, teachers)
  return exported.mlir_module(), state.params


def kernels(params):
  """The number of convolutions with these parameters."""
  return sum(x.ndim == 4 for x in jax.tree.leaves(params))


def test_every_convolution_is_needed(step):
  """U: forward, and backward to its input and its kernel, but not to the images.

  T: forward as far as the tap.
  """
  text, params = step
  earlier = {name: params[name] for name in [f"layers_{i}" for i in range(TAP + 1)]}
  assert 0 < kernels(earlier) < kernels(params)
  expected = 3 * kernels(params) - 1 + kernels(earlier)
  assert text.count("stablehlo.convolution") == expected


def test_every_convolution_is_in_bfloat16(step):
  for line in step[0].splitlines():
    if "stablehlo.convolution" in line:
      types = re.findall(r"tensor<[0-9x]*x(\w+)>", line)
      assert types == ["bf16"] * 3, line


def test_nothing_leaves_the_device(step):
  """The one call of a library is the Cholesky decomposition of the closed form."""
  text, _ = step
  (call,) = re.findall(r"custom_call @(\w+)", text)
  assert "potrf" in call
  assert not re.search(r"stablehlo\.(infeed|outfeed|send|recv)\b", text)
