"""Architectures: published sizes, and the three abilities of the layered interface."""

import jax
import numpy as np
import pytest

from dissim_jax.models import init_variables, resnet
from tests import tiny
from tests.traced import same_program_when_cut, shallow, traced

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
  variables, taps = traced(name, 32, (32, 32))
  parameters = sum(x.size for x in jax.tree.leaves(variables["params"]))
  assert (parameters, len(taps)) == PUBLISHED[name]


def test_taps_of_resnet34_have_the_stage_sizes():
  _, taps = traced("resnet34", 32, (32, 32))
  assert [taps[i] for i in (0, 3, 4, 8, 13, 14)] == [
    (32, 32, 64),
    (32, 32, 64),
    (16, 16, 128),
    (8, 8, 256),
    (8, 8, 256),
    (4, 4, 512),
  ]


def test_tiny10_does_not_pad():
  _, taps = traced("tiny10", 32, (32, 32))
  assert [(side, features) for side, _, features in taps] == [
    (30, 16),
    (28, 16),
    (13, 32),
    (11, 32),
    (9, 32),
    (4, 64),
    (2, 64),
    (2, 64),
  ]


def network(name):
  """resnet8, Tiny-10, or the bottleneck blocks of resnet50 with and without a projection."""
  width = {"resnet8": 0.5, "bottleneck": 1 / 16, "tiny10": 0.25}[name]
  if name != "bottleneck":
    return shallow(name, 7, width_multiplier=width)
  return resnet.resnet(
    7, block=resnet.BottleneckBlock, depths=(2, 1), widths=(64, 128), width_multiplier=width
  )


@pytest.fixture(scope="module", params=["resnet8", "bottleneck", "tiny10"])
def outputs(request):
  """What a network gives for some images and, but for the first, for others: one program."""
  model = network(request.param)
  shape = (29, 27, 3) if request.param == "tiny10" else (12, 10, 3)
  images = np.random.default_rng(2).normal(size=(3, *shape)).astype(np.float32)
  changed = np.concatenate([images[:1], images[1:] + 1])
  variables = tiny.drawn(model, shape)
  first = {name: variables["params"][name] for name in ("layers_0", "layers_1")}

  @jax.jit
  def run(variables, first, images, changed):
    train = lambda x: model.apply(variables, x, True, mutable=["batch_stats"])[0][0]  # noqa: E731
    return {
      "whole": model.apply(variables, images),
      "first": model.apply({**variables, "params": first}, images, 1, method="represent"),
      "changed": model.apply(variables, changed)[0],
      "train": [train(x) for x in (images, changed)],
    }

  return model, shape, run(variables, first, images, changed)


def test_cut_at_a_tap_it_is_the_same_program(outputs):
  model, shape, found = outputs
  logits, taps = found["whole"]
  assert logits.shape == (3, 7) and len(taps) == len(model.layers) == len(model.tap_names)
  same_program_when_cut(model, shape)


def test_taps_are_before_the_relu(outputs):
  for tap in outputs[-1]["whole"][1][:2]:
    assert (np.asarray(tap) < 0).any()


def test_running_to_a_tap_leaves_the_rest_out(outputs):
  """The parameters of later layers need not be there."""
  found = outputs[-1]
  np.testing.assert_allclose(found["first"], found["whole"][1][1], rtol=1e-5, atol=1e-5)


def test_examples_are_independent_in_eval_mode_and_not_in_training(outputs):
  found = outputs[-1]
  (same, _), other, (alone, among_others) = found["whole"], found["changed"], found["train"]
  np.testing.assert_allclose(same[0], other[0], rtol=1e-5, atol=1e-6)
  assert np.abs(same[1:] - other[1:]).max() > 1e-3  # What was changed does change.
  assert np.abs(alone[0] - among_others[0]).max() > 1e-3


def test_fresh_blocks_are_the_identity():
  """The last batch norm of a block starts at zero: a block without projection passes its ReLU."""
  model = shallow("resnet8", 3, width_multiplier=0.25)
  images = np.random.default_rng(1).normal(size=(2, 8, 8, 1)).astype(np.float32)
  variables = init_variables(model, jax.random.key(0), (8, 8, 1))
  taps = jax.jit(lambda v, x: model.apply(v, x, 1, method="taps"))(variables, images)
  np.testing.assert_allclose(taps[1], np.maximum(taps[0], 0), rtol=1e-6, atol=1e-6)
  assert np.abs(taps[1]).max() > 0.1
