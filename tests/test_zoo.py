"""What every family of architectures can do: its small variant on 8x8 images."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from configs import default
from dissim_jax import parallel, train
from dissim_jax.data.augment import normalise
from dissim_jax.models import MODELS
from dissim_jax.models.components import PAPER, Components
from dissim_jax.models.layered import STEMS, nearest_stem
from dissim_jax.optimizer import make_optimizer

SMALL = ["resnet8", *(name for name in MODELS if name.endswith("_mini"))]


@functools.cache
def trained(name):
  """A model and its variables after 100 steps of Adam on 64 digits, and these images.

  By the step that members are trained with, on two devices, so with the checks of `shard_map` on.
  """
  digits = load_digits()
  pixels, labels = np.uint8(digits.images[:64, :, :, None] * 255 / 16), digits.target[:64]
  config = default.get_config()
  config.optimizer.name, config.optimizer.learning_rate = "adamw", 5e-3
  config.optimizer.weight_decay = 0.0
  model = MODELS[name](10, stem=8, axis_name=parallel.BATCH_AXIS)
  optimizer = make_optimizer(config.optimizer, 100, 100)
  mesh = parallel.make_mesh(jax.devices()[:2])
  run = parallel.pmapped(train.make_train_step(config, model, optimizer, None), mesh)
  state, totals, data = parallel.replicate(
    (
      train.init_state(model, optimizer, None, (8, 8, 1), 0),
      {name: np.float32(0) for name in train.metric_names(None)},
      (pixels, labels.astype(np.int32)),
    ),
    mesh,
  )
  for _ in range(100):
    state, totals = run(state, totals, data, np.arange(64, dtype=np.int32)[None], ())
  images = normalise(jnp.asarray(pixels), config.data.mean, config.data.std)
  return model, jax.device_get(train.variables_of(state)), images, labels


@pytest.mark.parametrize("name", SMALL)
def test_overfits_64_images(name):
  model, variables, images, labels = trained(name)
  logits, _ = model.apply(variables, images)
  assert logits.shape == (64, 10) and logits.dtype == jnp.float32
  assert float(jnp.mean(jnp.argmax(logits, -1) == labels)) >= 63 / 64


@pytest.mark.parametrize("name", SMALL)
def test_cut_at_any_tap_gives_the_same_logits(name):
  model, variables, images, _ = trained(name)
  images = images[:3]
  logits, taps = model.apply(variables, images)
  assert len(taps) == len(model.layers) == len(model.tap_names)
  assert all(tap.ndim == 4 and tap.shape[0] == 3 for tap in taps)
  z = images
  for index, tap in enumerate(taps):
    if index == 0:
      z = model.apply(variables, images, 0, method="represent")
    else:
      z = model.apply(variables, z, method=lambda m, z, i=index: m.layers[i](z, False))
    np.testing.assert_allclose(z, tap, rtol=1e-5, atol=1e-5)
    whole = model.apply(variables, tap, index, method="classify")
    np.testing.assert_allclose(whole, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_examples_are_independent_in_eval_mode(name):
  model, variables, images, _ = trained(name)
  changed = images[:3].at[1:].add(1.0)
  same, other = (model.apply(variables, x)[0] for x in (images[:3], changed))
  np.testing.assert_allclose(same[0], other[0], rtol=1e-4, atol=1e-5)
  assert np.abs(same[1:] - other[1:]).max() > 1e-2  # What was changed does change.


@pytest.mark.parametrize("name", MODELS)
def test_components_are_words_of_the_stem(name):
  for stem in STEMS:
    found = MODELS[name].components(image_size=stem, stem=stem)
    values = dataclasses.asdict(found)
    assert found.input_resolution == str(stem)
    assert all(isinstance(value, str) and value for value in values.values())
    for field in ("hierarchical", "stem_pooling", "depthwise", "grouped"):
      assert values[field] in ("yes", "no")


def test_thirteen_components_are_the_papers():
  assert len(PAPER) == 13 and set(PAPER) <= {f.name for f in dataclasses.fields(Components)}


@pytest.mark.parametrize("name", MODELS)
def test_features_keep_their_dtype(name):
  """bfloat16 activations, float32 parameters and logits; nothing is computed.

  With every stem where the network is small: tracing takes as long as there are layers.
  """
  for stem in STEMS if name in SMALL else STEMS[-1:]:
    model = MODELS[name](7, stem=stem, dtype=jnp.bfloat16)
    size = max(stem, 32) if name == "tiny10" else stem
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    (logits, taps), variables = jax.eval_shape(
      lambda x, m=model: m.init_with_output(jax.random.key(0), x), image
    )
    assert logits.shape == (2, 7) and logits.dtype == jnp.float32
    assert {tap.dtype for tap in taps} == {jnp.dtype("bfloat16")}
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert all(min(tap.shape) > 0 for tap in taps)


def test_stem_of_an_image_size():
  assert [nearest_stem(size) for size in (8, 12, 28, 32, 64, 128, 224, 256)] == [
    8, 8, 32, 32, 32, 224, 224, 224
  ]  # fmt: skip
