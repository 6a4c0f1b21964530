"""Architectures: published sizes, and the three abilities of the layered interface."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dissim_jax.models import MODELS, init_variables

# With 10 classes and a 3x3 stem: github.com/kuangliu/pytorch-cifar (ResNet18, 34, 101), He et al.
# 2016 with projection shortcuts (ResNet20), by hand from the layers of
# Kornblith et al. 2019, app. (Tiny-10). Number of taps: Wald et al. 2023, app. A.2.
PUBLISHED = {
  "resnet18": (11_173_962, 9),
  "resnet34": (21_282_122, 17),
  "resnet50": (23_520_842, 17),
  "resnet101": (42_512_970, 34),
  "resnet20": (272_474, 10),
  "tiny10": (86_778, 8),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_is_the_published_one(name):
  model = MODELS[name](10)
  variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
  parameters = sum(x.size for x in jax.tree.leaves(variables["params"]))
  assert (parameters, len(model.layers)) == PUBLISHED[name]


def test_taps_of_resnet34_have_the_stage_sizes():
  model = MODELS["resnet34"](10)
  (_, taps), _ = jax.eval_shape(
    lambda: model.init_with_output(jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
  )
  assert [taps[i].shape[1:] for i in (0, 3, 4, 8, 13, 14)] == [
    (32, 32, 64), (32, 32, 64), (16, 16, 128), (8, 8, 256), (8, 8, 256), (4, 4, 512)
  ]  # fmt: skip


def test_tiny10_does_not_pad():
  model = MODELS["tiny10"](10)
  _, taps = jax.eval_shape(
    lambda: model.init_with_output(jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
  )[0]
  assert [(tap.shape[1], tap.shape[3]) for tap in taps] == [
    (30, 16), (28, 16), (13, 32), (11, 32), (9, 32), (4, 64), (2, 64), (2, 64)
  ]  # fmt: skip


def random_variables(model, image_shape):
  """Variables in which nothing is at its special initial value, batch-norm scales above all."""
  variables = init_variables(model, jax.random.key(1), image_shape)
  rng = np.random.default_rng(0)
  moved = lambda x: x + 0.2 * rng.uniform(-1, 1, x.shape).astype(np.float32)  # noqa: E731
  return jax.tree.map(moved, variables)


@pytest.fixture(scope="module", params=["resnet8", "resnet50", "tiny10"])
def model_and_images(request):
  width = {"resnet8": 0.5, "resnet50": 1 / 16, "tiny10": 0.25}[request.param]
  model = MODELS[request.param](7, width_multiplier=width)
  size = (29, 27) if request.param == "tiny10" else (12, 10)
  images = jax.random.normal(jax.random.key(0), (3, *size, 3))
  return model, random_variables(model, images.shape[1:]), images


def test_cut_at_any_tap_gives_the_same_logits(model_and_images):
  model, variables, images = model_and_images
  logits, taps = model.apply(variables, images)
  assert logits.shape == (3, 7) and len(taps) == len(model.layers) == len(model.tap_names)
  for tap in {0, 1, len(taps) // 2, len(taps) - 1}:
    z = model.apply(variables, images, tap, method="represent")
    np.testing.assert_array_equal(z, taps[tap])
    whole = model.apply(variables, z, tap, method="classify")
    np.testing.assert_allclose(whole, logits, rtol=1e-5, atol=1e-5)


def test_taps_are_before_the_relu(model_and_images):
  model, variables, images = model_and_images
  for tap in model.apply(variables, images)[1][:2]:
    assert (np.asarray(tap) < 0).any()


def test_running_to_a_tap_leaves_the_rest_out(model_and_images):
  model, variables, images = model_and_images
  params = dict(variables["params"])
  kept = {name: params[name] for name in ("layers_0", "layers_1")}
  part = {"params": kept, "batch_stats": variables["batch_stats"]}
  np.testing.assert_array_equal(
    model.apply(part, images, 1, method="represent"), model.apply(variables, images)[1][1]
  )


def test_examples_are_independent_in_eval_mode_and_not_in_training(model_and_images):
  model, variables, images = model_and_images
  changed = images.at[1:].add(1.0)
  same, other = (model.apply(variables, x)[0][0] for x in (images, changed))
  np.testing.assert_allclose(same, other, rtol=1e-5, atol=1e-6)
  same, other = (
    model.apply(variables, x, True, mutable=["batch_stats"])[0][0][0] for x in (images, changed)
  )
  assert np.abs(same - other).max() > 1e-3


def test_bfloat16_activations_float32_parameters_and_logits():
  model = MODELS["resnet8"](5, dtype=jnp.bfloat16)
  variables = init_variables(model, jax.random.key(0), (8, 8, 1))
  logits, taps = jax.eval_shape(lambda: model.apply(variables, jnp.ones((2, 8, 8, 1))))
  assert {tap.dtype for tap in taps} == {jnp.dtype("bfloat16")} and logits.dtype == jnp.float32
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_fresh_blocks_are_the_identity():
  """The last batch norm of a block starts at zero: a block without projection passes its ReLU."""
  model = MODELS["resnet14"](3)
  images = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
  taps = model.apply(init_variables(model, jax.random.key(0), (8, 8, 1)), images, 1, method="taps")
  np.testing.assert_array_equal(taps[1], jnp.maximum(taps[0], 0))
