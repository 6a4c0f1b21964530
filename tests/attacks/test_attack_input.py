"""Attacks refuse images and labels that they cannot attack honestly, or are told their range."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from dissim_jax import attacks
from dissim_jax.attacks import Attack, perturb
from dissim_jax.errors import UserError
from dissim_jax.members.member import Member
from dissim_jax.registry.objectives import JOINT
from dissim_jax.studies.corruption import measure as corruption_measure
from dissim_jax.studies.transfer import measure as transfer_measure
from dissim_jax.studies.transfer.attacked import attack_member, logits_on, predictions_on

N, SHAPE, CLASSES = 6, (3, 4, 2), 4
LABELS = np.arange(N) % CLASSES
WEIGHTS = np.random.default_rng(1).normal(size=(24, CLASSES)).astype(np.float32)
NAMES = list(attacks.ATTACKS)
BAD = (N - 2, "images[4] holds values in ")


def logits(images):
  return jnp.tanh(images.reshape(len(images), -1)) @ WEIGHTS


def logits_of_unit(low, scale, images):
  return logits((images - low) / scale)


NETWORK = Partial(logits)


def some_images():
  images = np.random.default_rng(0).uniform(-0.1, 1.1, (N, *SHAPE))
  return np.clip(images, 0, 1).astype(np.float32)


def with_value(value, place=BAD[0]):
  images = some_images()
  images[place, 1, 2, 0] = value
  return images


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
  "images, told",
  [
    (2 * some_images() - 1, r"images\[0\] holds values in -"),  # Normalised,
    (255 * some_images(), r"images\[0\] holds values in 0..255: finite ones in 0..1 are needed"),
    (with_value(np.nan), r"images\[4\] holds values in nan..nan"),
    (with_value(np.inf), r"images\[4\] holds values in 0..inf"),
    (with_value(1.0001), r"images\[4\] holds"),
    (with_value(-1e-5), r"images\[4\] holds"),
    ((255 * some_images()).astype(np.uint8), "dtype uint8: floating .* of grey levels a 255th"),
    (some_images().astype(np.int64), "dtype int64: floating"),
  ],
)
def test_images_beyond_their_range_are_refused(name, images, told):
  for given in (images, jnp.asarray(images)):
    with pytest.raises(ValueError, match=told if given is images else "images"):
      perturb(Attack(name), NETWORK, given, LABELS)


@pytest.mark.parametrize(
  "labels, told",
  [
    (np.where(LABELS == 1, -1, LABELS), r"labels\[1\]=-1: the classifier has classes 0..3"),
    (LABELS + 1, r"labels\[3\]=4: the classifier has classes 0..3"),
    (LABELS + 2**40, r"labels\[0\]=1099511627776: "),
    (LABELS.astype(np.float32), "labels have shape .* float32: one integer"),
    (LABELS == 1, "labels have shape .* bool: one integer"),
    (LABELS[:, None], r"labels have shape \(6, 1\)"),
    (LABELS[:-1], r"labels have shape \(5,\)"),
  ],
)
def test_labels_that_are_no_classes_are_refused(labels, told):
  with pytest.raises(ValueError, match=told):
    attacks.pgd(NETWORK, some_images(), labels)


def test_what_is_not_attacked_may_hold_anything():
  images, labels, mask = with_value(np.nan), LABELS.copy(), np.arange(N) < BAD[0]
  labels[-1] = -1
  found = np.asarray(attacks.pgd(NETWORK, images, labels, attacked=mask))
  np.testing.assert_array_equal(found[~mask], images[~mask])
  whole = np.asarray(attacks.pgd(NETWORK, some_images(), LABELS))
  np.testing.assert_array_equal(found[mask], whole[mask])
  for wrong in (np.arange(N), mask[:-1], mask[:, None]):
    with pytest.raises(ValueError, match="attacked have shape .* True or False for each of 6"):
      attacks.pgd(NETWORK, images, labels, attacked=wrong)
  for wrong in (np.arange(N - 1), np.arange(N, dtype=np.float32)):
    with pytest.raises(ValueError, match="indices have shape .* one integer for each of 6"):
      attacks.pgd(NETWORK, some_images(), LABELS, indices=wrong)


def test_rounding_is_forgiven():
  found = attacks.pgd(NETWORK, with_value(1 + 5e-7), LABELS)
  assert found.max() <= 1
  np.testing.assert_allclose(found, attacks.pgd(NETWORK, with_value(1), LABELS), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("low, high", [(-2.5, 3.5), (0, 255), (0, 0.5)])
def test_images_in_a_unit_of_their_own_are_attacked_the_same(name, low, high):
  """x' = low + (high - low) x, with sizes in its unit, and a classifier that takes it back."""
  scale, images = high - low, some_images()
  attack = Attack(name, 0.1, 0.03, 4, seed=3)
  plain = np.asarray(perturb(attack, NETWORK, images, LABELS))
  there = Attack(name, 0.1 * scale, 0.03 * scale, 4, seed=3)
  back = Partial(logits_of_unit, np.float32(low), np.float32(scale))
  found = perturb(there, back, low + scale * images, LABELS, bounds=(low, high))
  np.testing.assert_allclose((np.asarray(found) - low) / scale, plain, atol=1e-5)
  assert low <= found.min() and found.max() <= high
  ends = (plain == 0) | (plain == 1)
  assert ends.any() and not ends.all() and np.abs(plain - images).max() > 0.09


@pytest.mark.parametrize(
  "bounds",
  [
    (1, 0),
    (0, 0),
    (0,),
    (0, 1, 2),
    None,
    (0, np.nan),
    (-np.inf, 1),
    ("a", "b"),
  ],
)
def test_bounds_that_are_none(bounds):
  with pytest.raises(UserError, match=r"bounds=.*: must be \(low, high\), two finite numbers"):
    attacks.fgsm(NETWORK, some_images(), LABELS, bounds=bounds)


def test_sizes_go_up_to_the_width_of_the_bounds():
  images = 2 * some_images() - 1
  for sizes in ({"epsilon": 2.1}, {"epsilon": 0.1, "step_size": 2.1}):
    with pytest.raises(UserError, match="=2.1: must be a number .*2"):
      attacks.pgd(NETWORK, images, LABELS, bounds=(-1, 1), **sizes)
  found = attacks.pgd(NETWORK, images, LABELS, epsilon=2, step_size=2, bounds=(-1, 1))
  assert np.abs(found).max() <= 1


def test_under_jit_what_would_be_refused_is_nan():
  attack = jax.jit(lambda x, y: attacks.pgd(NETWORK, x, y, iterations=3))
  whole = np.asarray(attacks.pgd(NETWORK, some_images(), LABELS, iterations=3))
  np.testing.assert_allclose(attack(some_images(), LABELS), whole, atol=1e-6)
  labels = LABELS.copy()
  labels[0], labels[1] = -1, CLASSES
  for value in (np.nan, np.inf, 1.5, -0.5):
    found = np.asarray(attack(with_value(value), labels))
    assert np.isnan(found[[0, 1, BAD[0]]]).all()
    np.testing.assert_allclose(found[[2, 3, 5]], whole[[2, 3, 5]], atol=1e-6)


def test_under_jit_the_mask_still_counts():
  mask = np.arange(N) < BAD[0]
  attack = jax.jit(lambda x, mask: attacks.fgsm(NETWORK, x, LABELS, attacked=mask))
  found = np.asarray(attack(with_value(7.0), mask))
  np.testing.assert_array_equal(found[~mask], with_value(7.0)[~mask])
  assert np.isfinite(found).all()


def test_a_number_is_a_number():
  expected = attacks.fgsm(NETWORK, some_images(), LABELS, epsilon=0.25)
  for epsilon in (
    np.float32(0.25),
    np.float16(0.25),
    Fraction(1, 4),
    np.array(0.25),
    jnp.float32(0.25),
    jnp.asarray(0.25, jnp.bfloat16),
  ):
    found = attacks.fgsm(NETWORK, some_images(), LABELS, epsilon=epsilon)
    np.testing.assert_array_equal(found, expected)
  ones = {"epsilon": 1, "step_size": 1, "iterations": np.int64(2)}
  whole = attacks.pgd(NETWORK, some_images(), LABELS, **ones)
  assert np.isfinite(whole).all()
  for epsilon in (np.array([0.1]), np.float32(np.nan), "0.1", None, True, np.True_, 0.1j):
    with pytest.raises(UserError, match="epsilon=.*: must be a number"):
      attacks.fgsm(NETWORK, some_images(), LABELS, epsilon=epsilon)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, jnp.bfloat16])
def test_images_of_any_floating_dtype(dtype):
  images = some_images().astype(dtype)
  found = attacks.fgsm(NETWORK, images, LABELS)
  np.testing.assert_array_equal(
    found, attacks.fgsm(NETWORK, np.asarray(images, np.float32), LABELS)
  )
  assert found.dtype == jnp.float32


def test_checks_do_not_trace_the_network_again():
  calls = []

  def counted(images):
    calls.append(images.shape)
    return logits(images)

  network = Partial(counted)
  for iterations in (1, 5, 50):
    attacks.pgd(network, some_images(), LABELS, iterations=iterations, steps_per_dispatch=1)
  assert len(calls) == 2  # For its classes, and for the step.


# What attacks whole test sets.


@pytest.mark.parametrize(
  "images, labels, told",
  [
    (2 * some_images() - 1, LABELS, r"images: values in -1..1, expected 0..1"),
    (with_value(np.nan), LABELS, "images: values in nan..nan"),
    ((255 * some_images()).astype(np.int32), LABELS, "images: dtype int32, expected uint8"),
    (some_images(), LABELS + 0.5, "labels have shape .* float64"),
    (some_images(), LABELS[:-1], r"labels have shape \(5,\)"),
    (some_images(), LABELS + 1, r"labels\[\d\]=4: the classifier has classes 0..3"),
  ],
)
def test_attacked_members_see_what_they_may_see(images, labels, told):
  attack = Attack("fgsm")
  with pytest.raises(ValueError, match=told):
    attack_member(NETWORK, images, labels, attack, 4)
  if told.startswith("images"):
    for function in (logits_on, predictions_on):
      with pytest.raises(ValueError, match=told):
        function(NETWORK, images, 4)


@pytest.mark.parametrize(
  "labels, told",
  [
    (LABELS - 1, "labels holds -1: class indices are 0..3"),
    (LABELS + 1, "labels holds 4"),
    (LABELS.astype(float), "labels has dtype float64"),
    (LABELS[:-1], "labels"),
  ],
)
def test_studies_of_members_refuse_labels_that_are_no_classes(labels, told, monkeypatch):
  members = [Member("member_0", None, {}, (0.5,) * 2, (0.5,) * 2)]
  images = np.zeros((N, 3, 4, 1), np.uint8)
  answers = np.zeros((N, CLASSES), np.float32)
  monkeypatch.setattr(transfer_measure, "classifier", lambda member: member)
  monkeypatch.setattr(transfer_measure, "logits_on", lambda *_: answers)
  monkeypatch.setattr(
    corruption_measure, "_predictor", lambda *_: lambda batch: (answers[None], images[0])
  )
  with pytest.raises(ValueError, match=told):
    transfer_measure.transferability(
      members,
      {"one": ["member_0"]},
      images,
      labels,
      attack=Attack(),
      floor=0.01,
      batch_size=N,
      rule="probs",
    )
  with pytest.raises(ValueError, match=told.split(" has")[0]):
    corruption_measure.robustness(
      members,
      {"one": ["member_0"]},
      images,
      labels,
      names=[],
      severities=[1],
      seed=0,
      rule="probs",
      batch_size=N,
    )


@pytest.mark.parametrize("name", JOINT)
def test_joint_objectives_refuse_labels_that_are_no_classes(name):
  function = functools.partial(JOINT[name].function, jnp.zeros((2, N, CLASSES)))
  for labels in (LABELS - 1, LABELS + 1):
    with pytest.raises(ValueError, match="labels holds .*: class indices are 0..3"):
      function(jnp.asarray(labels), 0.5)
  assert np.isfinite(function(jnp.asarray(LABELS), 0.5))
