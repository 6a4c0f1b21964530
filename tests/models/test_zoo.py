"""What every family of architectures can do: its small variant, less deep, on 8x8 images."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from dissim_jax.models import MODELS
from dissim_jax.models.components import PAPER, Components
from dissim_jax.models.layered import STEMS, nearest_stem
from tests import tiny
from tests.models import test_models, test_zoo_cnn, test_zoo_patches
from tests.traced import same_program_when_cut, shallow, traced

SMALL = ["resnet8", *(name for name in MODELS if name.endswith("_mini"))]


IMAGES = 16
LEAST, MOST = 20, 150  # steps; running means need a few


@functools.cache
def trained(name):
  """The compiled evaluation of a network that Adam has fitted to a few digits.

  The step that members are trained with is traced for every family in `test_mapped_step.py`. Here
  the parameters are one vector: an optimiser of many small arrays takes as long to compile as the
  network. A step also evaluates, which without batch norm is what it computes already.
  """
  model = shallow(name, 10, stem=8, width_multiplier=0.5)
  variables = tiny.drawn(model, (8, 8, 1))
  images, labels = digits()
  leaves, structure = jax.tree.flatten(variables["params"])
  ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
  optimizer = optax.adam(5e-3)

  @jax.jit
  def step(params, stats, state, images):
    def apply(params, *train, **options):
      parts = zip(jnp.split(params, ends), leaves, strict=True)
      tree = structure.unflatten(part.reshape(leaf.shape) for part, leaf in parts)
      return model.apply({"params": tree, "batch_stats": stats}, images, *train, **options)

    def loss(params):
      (logits, _), updates = apply(params, True, mutable=["batch_stats"])
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      return losses.mean(), updates.get("batch_stats", {})

    (value, new_stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    changes, state = optimizer.update(gradient, state)
    return (params + changes, new_stats, state), value, apply(params)[0]

  params = np.concatenate([leaf.ravel() for leaf in leaves])
  zeros = lambda leaf: np.zeros(leaf.shape, leaf.dtype)  # noqa: E731
  state = jax.tree.map(zeros, jax.eval_shape(optimizer.init, params))
  found = (params, variables["batch_stats"], state)
  for done in range(MOST):
    found, value, logits = step(*found, images)
    if done >= LEAST and value < 0.1 and right(logits) >= IMAGES - 1:
      break
  return lambda images: np.asarray(step(*found, images)[-1])


def right(logits):
  """How many of the digits are told."""
  return np.sum(np.asarray(logits).argmax(-1) == digits()[1])


@functools.cache
def digits():
  data = load_digits()
  images = (data.images[:IMAGES, :, :, None] / 8 - 1).astype(np.float32)
  return images, data.target[:IMAGES]


@pytest.mark.parametrize("name", SMALL)
def test_overfits_a_few_images(name):
  logits = trained(name)(digits()[0])
  assert logits.shape == (IMAGES, 10) and logits.dtype == jnp.float32
  assert right(logits) >= IMAGES - 1


@pytest.mark.parametrize("name", SMALL)
def test_examples_are_independent_in_eval_mode(name):
  images, run = digits()[0], trained(name)
  changed = np.concatenate([images[:1], images[1:] + 1])
  same, other = run(images), run(changed)
  np.testing.assert_allclose(same[0], other[0], rtol=1e-4, atol=1e-5)
  assert np.abs(same[1:] - other[1:]).max() > 1e-2  # What was changed does change.


@pytest.mark.parametrize("name", SMALL)
def test_cut_at_a_tap_it_is_the_same_program(name):
  same_program_when_cut(shallow(name, 10, stem=8, width_multiplier=0.5), (8, 8, 1))


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


def test_features_keep_their_dtype_with_every_stem():
  """What `traced` asserts; of those whose published size is not tested, so that they are traced."""
  published = {
    *test_models.PUBLISHED,
    *(name for name, *_ in test_zoo_cnn.PUBLISHED),
    *test_zoo_patches.PUBLISHED,
    *test_zoo_patches.SMALL,
  }
  for name in [*SMALL, *sorted(MODELS.keys() - published - set(tiny.NAMES) - set(SMALL))]:
    for stem in STEMS if name in SMALL else STEMS[-1:]:
      traced(name, stem, (stem, stem), 7)


# Taps, and parameters with 10 classes and images of 8x8x3. Nobody publishes them: they are what the
# weights of earlier runs have.
SIZES = {
  "resnet8": (4, 78_042),
  "preact_resnet_mini": (6, 101_082),
  "wide_resnet_mini": (5, 212_998),
  "resnext_mini": (5, 79_002),
  "se_resnet_mini": (6, 102_276),
  "vgg_mini": (5, 70_826),
  "densenet_mini": (6, 51_754),
  "mobilenet_v2_mini": (6, 24_698),
  "convmixer_mini": (5, 15_946),
  "convnext_mini": (5, 102_634),
  "mlp_mixer_mini": (5, 139_274),
  "swin_mini": (5, 135_190),
  "vit_mini": (5, 4 * 28_272 + 16 * 48 + (12 + 1) * 48 + 2 * 48 + (48 + 1) * 10),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_variants_keep_their_size(name):
  """The networks above are less deep than these."""
  variables, taps = traced(name, 8, (8, 8))
  assert (len(taps), sum(x.size for x in jax.tree.leaves(variables["params"]))) == SIZES[name]


def test_stem_of_an_image_size():
  assert [nearest_stem(size) for size in (8, 12, 28, 32, 64, 128, 224, 256)] == [
    8,
    8,
    32,
    32,
    32,
    224,
    224,
    224,
  ]
