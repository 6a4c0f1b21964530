"""Attacks against known optima, float64 loops in NumPy, and what every attack has to keep to."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from scipy.special import softmax
from sklearn.datasets import load_digits

from dissim_jax import attacks
from dissim_jax.attacks import Attack, perturb
from dissim_jax.attacks.step import (
  Iterate,
  attack_step,
  loss_gradient,
  margin_loss,
  random_images,
)
from dissim_jax.errors import UserError

N, SHAPE, CLASSES, EPS = 6, (3, 5, 2), 4, 8 / 255
PIXELS = int(np.prod(SHAPE))
NAMES = list(attacks.ATTACKS)


def some_images(seed=0, count=N, shape=SHAPE):
  """In 0..1, some pixels at its ends."""
  images = np.random.default_rng(seed).uniform(-0.1, 1.1, (count, *shape))
  return np.clip(images, 0, 1).astype(np.float32)


def weights(*shapes, seed=1):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=shape) / np.sqrt(shape[0]) for shape in shapes]


LINEAR = weights((PIXELS, CLASSES))
TWO_LAYERS = weights((PIXELS, 7), (7, CLASSES), seed=2)
LABELS = np.arange(N) % CLASSES


def linear(images, scale=1.0):
  return scale * images.reshape(len(images), -1) @ jnp.asarray(LINEAR[0], jnp.float32)


def two_layers(images):
  first, second = (jnp.asarray(w, jnp.float32) for w in TWO_LAYERS)
  return jnp.tanh(images.reshape(len(images), -1) @ first) @ second


def cross_entropy_gradient(x, labels, layers):
  """Of flat images in float64, by hand."""
  outputs = [x]
  for weight in layers[:-1]:
    outputs.append(np.tanh(outputs[-1] @ weight))
  delta = softmax(outputs[-1] @ layers[-1], -1) - np.eye(CLASSES)[labels]
  for weight, output in zip(layers[:0:-1], outputs[:0:-1], strict=True):
    delta = (delta @ weight.T) * (1 - output**2)
  return delta @ layers[0].T


def numpy_attack(x0, labels, layers, start, epsilon, step, iterations, momentum=None):
  """The published update of the cross-entropy's gradient."""
  x0 = x0.reshape(len(x0), -1).astype(np.float64)
  x, velocity = start.reshape(x0.shape).astype(np.float64), 0.0
  for _ in range(iterations):
    gradient = cross_entropy_gradient(x, labels, layers)
    if momentum is not None:
      velocity = momentum * velocity + gradient / np.abs(gradient).sum(-1, keepdims=True)
      gradient = velocity
    x = np.clip(x + step * np.sign(gradient), x0 - epsilon, x0 + epsilon).clip(0, 1)
  return x.reshape(-1, *SHAPE)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("label", [0, 1])
def test_the_optimum_of_a_linear_model_is_reached(name, label):
  """logits (0, w x): an attack on label 1 lowers w x, on label 0 raises it."""
  images, w = some_images(), weights((PIXELS,))[0]

  def logits(images):
    score = images.reshape(len(images), -1) @ jnp.asarray(w, jnp.float32)
    return jnp.stack([jnp.zeros_like(score), score], -1)

  found = perturb(Attack(name), logits, images, np.full(N, label))
  sign = np.sign(w).reshape(SHAPE) * (1 if label == 0 else -1)
  best = np.clip(images + np.float32(EPS) * sign, 0, 1)
  np.testing.assert_allclose(found, best, atol=1e-7)
  assert np.abs(found - images).max() > 0.03


@pytest.mark.parametrize("model, layers", [(linear, LINEAR), (two_layers, TWO_LAYERS)])
@pytest.mark.parametrize("momentum", [None, 0.5, 1.0])
@pytest.mark.parametrize("start", [False, True])
def test_iterations_against_numpy(model, layers, momentum, start):
  images = some_images()
  settings = Attack(
    "pgd" if momentum is None else "momentum_pgd", 0.1, 0.03, 6, start, momentum or 0.0, seed=5
  )
  found = perturb(settings, model, images, LABELS)
  first = random_images(images, 0.1, 5, np.arange(N)) if start else images
  expected = numpy_attack(images, LABELS, layers, np.asarray(first), 0.1, 0.03, 6, momentum)
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_momentum_changes_the_way():
  images = some_images()
  attack = Attack("momentum_pgd", 0.1, 0.03, 6, False)
  found = [
    perturb(dataclasses.replace(attack, momentum=mu), two_layers, images, LABELS)
    for mu in (0.0, 1.0)
  ]
  plain = perturb(dataclasses.replace(attack, name="pgd"), two_layers, images, LABELS)
  np.testing.assert_allclose(found[0], plain, atol=1e-6)
  assert np.abs(found[1] - plain).max() > 0.01


def test_fgsm_is_one_step_of_epsilon_from_the_image():
  images = some_images()
  found = attacks.fgsm(two_layers, images, LABELS, epsilon=0.07)
  flat = images.reshape(N, -1).astype(np.float64)
  sign = np.sign(cross_entropy_gradient(flat, LABELS, TWO_LAYERS)).reshape(images.shape)
  np.testing.assert_allclose(found, np.clip(images + 0.07 * sign, 0, 1), atol=1e-6)


@pytest.mark.parametrize("momentum", [False, True])
def test_every_iterate_stays_in_the_ball_and_in_the_unit_interval(momentum):
  images, labels = some_images(), LABELS
  first = random_images(images, EPS, 3, np.arange(N))
  at, moved = Iterate(first, np.zeros_like(images) if momentum else None), 0.0
  step = jax.jit(
    functools.partial(attack_step, two_layers, epsilon=EPS, step_size=0.02, momentum=0.9)
  )
  for _ in range(12):
    now = np.asarray(at.images)
    change = np.abs(now.astype(np.float64) - np.asarray(images, np.float64))
    assert change.max() <= EPS + 1e-6
    assert now.min() >= 0 and now.max() <= 1
    moved, at = max(moved, change.max()), step(at, images, labels)
  assert moved > 0.99 * EPS
  name = "momentum_pgd" if momentum else "pgd"
  whole = perturb(Attack(name, EPS, 0.02, 12, True, 0.9, 3), two_layers, images, labels)
  np.testing.assert_allclose(whole, at.images, atol=1e-6)


@pytest.mark.parametrize("name", ["pgd", "momentum_pgd"])
@pytest.mark.parametrize("block", [3, 4])
def test_any_number_of_iterations_at_once_gives_the_same(name, block):
  one, many = (
    perturb(Attack(name, iterations=4), two_layers, some_images(), LABELS, steps_per_dispatch=n)
    for n in (1, block)
  )
  np.testing.assert_allclose(one, many, atol=1e-6)


def test_under_jit():
  attack = lambda x: attacks.pgd(two_layers, x, LABELS, iterations=5)  # noqa: E731
  np.testing.assert_allclose(jax.jit(attack)(some_images()), attack(some_images()), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_epsilon_zero_changes_no_bit(name):
  images = some_images()
  found = np.asarray(perturb(Attack(name, epsilon=0), two_layers, images, LABELS))
  assert found.dtype == np.float32 and found.tobytes() == images.tobytes()


def test_a_seed_determines_the_images():
  attack = lambda seed: perturb(Attack(iterations=3, seed=seed), two_layers, some_images(), LABELS)  # noqa: E731
  np.testing.assert_array_equal(attack(1), attack(1))
  assert (attack(1) != attack(2)).any()


def test_a_random_start_is_uniform_and_depends_on_the_index_alone():
  images = np.full((50, 8, 9, 3), 0.5, np.float32)
  start = np.asarray(random_images(images, 0.1, 4, np.arange(50)))
  few = random_images(images[:2], 0.1, 4, np.array([31, 7]))
  np.testing.assert_allclose(few, start[[31, 7]], atol=1e-6)
  assert len(np.unique(start[:, 0, 0, 0])) == 50
  change = (start - 0.5) / 0.1
  assert np.abs(change).max() <= 1 + 1e-6
  assert np.abs(np.histogram(change, 10, (-1, 1))[0] / change.size - 0.1).max() < 0.01
  edge = np.asarray(random_images(np.zeros_like(images), 0.1, 4, np.arange(50)))
  assert edge.min() == 0 and 0.4 < (edge == 0).mean() < 0.6


def test_only_the_images_of_the_mask_are_attacked():
  images, mask = some_images(), np.arange(N) % 2 == 0
  for name in NAMES:
    whole = np.asarray(perturb(Attack(name, iterations=4), two_layers, images, LABELS))
    found = np.asarray(
      perturb(Attack(name, iterations=4), two_layers, images, LABELS, attacked=mask)
    )
    np.testing.assert_allclose(found[mask], whole[mask], atol=1e-6)
    np.testing.assert_array_equal(found[~mask], images[~mask])


@pytest.mark.parametrize("name", NAMES)
def test_confident_networks_are_attacked_too(name):
  """Where the cross-entropy's gradient underflows to zero, its direction is still known."""
  images, scale = some_images(), 1e3
  model = functools.partial(linear, scale=scale)
  run = jax.jit(model)
  said = np.asarray(run(images))
  labels = said.argmax(-1)
  loss = optax.softmax_cross_entropy_with_integer_labels
  gradient = jax.jit(jax.grad(lambda x: loss(model(x), labels).sum()))(images)
  dead = (np.asarray(gradient) == 0).all((1, 2, 3))
  assert dead.sum() >= N // 2
  found = np.asarray(perturb(Attack(name, 0.1, 0.03, 8, False), model, images, labels))
  assert (np.abs(found - images).max((1, 2, 3)) > 0.09).all()
  margin = jax.jit(margin_loss)
  assert (np.asarray(margin(run(found), labels)) > np.asarray(margin(said, labels))).all()
  near = softmax(said.astype(np.float64), -1)[np.arange(N), labels] < 0.999
  assert not near[dead].any()  # They were confident indeed.


def test_the_loss_is_the_cross_entropy_in_another_form():
  logits = np.random.default_rng(0).normal(size=(N, CLASSES)).astype(np.float32)

  @jax.jit
  def values(logits):
    grad = jax.grad(lambda z: margin_loss(z, LABELS).sum())(logits)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
    return jax.nn.softplus(margin_loss(logits, LABELS)), expected, grad

  found, expected, grad = values(logits)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  own = softmax(np.asarray(logits, np.float64), -1)
  scaled = (own - np.eye(CLASSES)[LABELS]) / (1 - own[np.arange(N), LABELS])[:, None]
  np.testing.assert_allclose(grad, scaled, atol=1e-5)


def test_tiny_gradients_keep_their_direction():
  images = some_images()
  settings = Attack("momentum_pgd", 0.1, 0.03, 4, False)
  tiny = perturb(settings, lambda x: 1e-30 * linear(x), images, LABELS)
  # The other classes are equally likely.
  even = numpy_attack(images, LABELS, [1e-30 * LINEAR[0]], images, 0.1, 0.03, 4)
  np.testing.assert_allclose(tiny, even, atol=1e-6)


def test_a_network_in_bfloat16():
  images = some_images()
  model = lambda x: two_layers(x.astype(jnp.bfloat16)).astype(jnp.bfloat16)  # noqa: E731
  gradient = np.asarray(jax.jit(functools.partial(loss_gradient, model))(images, LABELS))
  assert gradient.dtype == np.float32 and (gradient != 0).mean() > 0.9
  found = attacks.pgd(model, images, LABELS)
  assert found.dtype == jnp.float32
  np.testing.assert_array_less(np.abs(found - images), EPS + 1e-6)


def test_a_model_without_eyes_is_not_fooled():
  blind = lambda x: jnp.zeros((len(x), CLASSES)).at[:, 2].set(1.0)  # noqa: E731
  images = some_images()
  for name in NAMES:
    found = perturb(Attack(name, random_start=False), blind, images, np.full(N, 2))
    np.testing.assert_array_equal(found, images)


def test_not_a_number_moves_nothing():
  broken = lambda x: linear(x) / jnp.where(x.mean((1, 2, 3)) > 0.5, 1.0, 0.0)[:, None]  # noqa: E731
  found = np.asarray(attacks.pgd(broken, some_images(), LABELS, iterations=2))
  assert np.isfinite(found).all()


@functools.cache
def trained():
  """A network of two layers on digits: images, labels, and the network."""
  digits = load_digits()
  images = (digits.images[..., None] / 16).astype(np.float32)
  w = [jnp.asarray(x, jnp.float32) for x in weights((64, 32), (32, 10))]

  def logits(w, images):
    return jnp.tanh(images.reshape(len(images), -1) @ w[0]) @ w[1]

  @jax.jit
  def step(w):
    loss = lambda w: optax.softmax_cross_entropy_with_integer_labels(  # noqa: E731
      logits(w, images), digits.target
    ).mean()
    return jax.tree.map(lambda x, g: x - 1.0 * g, w, jax.grad(loss)(w))

  for _ in range(300):
    w = step(w)
  return images, digits.target, Partial(logits, w)


def test_more_iterations_do_not_lower_the_success():
  images, labels, model = trained()
  images, labels = images[:600], labels[:600]
  logits = jax.jit(model)
  right = np.asarray(logits(images)).argmax(-1) == labels
  assert right.mean() > 0.9
  success = []
  for iterations in (1, 5, 20, 50):
    found = attacks.pgd(
      model, images, labels, epsilon=0.1, step_size=0.02, iterations=iterations, attacked=right
    )
    success.append(np.mean(np.asarray(logits(found)).argmax(-1)[right] != labels[right]))
  assert np.all(np.diff(success) > -0.01)  # A hundredth is noise.
  assert success[-1] > success[0] + 0.2
  noise = random_images(images, 0.1, 0, np.arange(len(images)))
  assert np.mean(np.asarray(logits(noise)).argmax(-1)[right] != labels[right]) < 0.05


WRONG = [
  ({"name": "pdg"}, "attack='pdg': choose one of fgsm, momentum_pgd, pgd, did you mean 'pgd'?"),
  ({"epsilon": -0.1}, "epsilon=-0.1: must be a number in 0..1"),
  ({"epsilon": 8}, "epsilon=8: must be a number in 0..1, such as 8/255"),
  ({"epsilon": float("nan")}, "epsilon=nan: must be"),
  ({"step_size": 0}, "step_size=0: must be a number above 0"),
  ({"step_size": -1.0}, "step_size=-1.0: must be a number above 0"),
  ({"iterations": 0}, "iterations=0: must be a whole number of at least 1"),
  ({"iterations": 2.5}, "iterations=2.5: must be a whole number"),
  ({"momentum": -1}, "momentum=-1: must be a finite number of at least 0"),
  ({"seed": -1}, "seed=-1: must be a whole number of at least 0"),
]


@pytest.mark.parametrize("given, message", WRONG, ids=[str(given) for given, _ in WRONG])
def test_settings_that_cannot_be_used(given, message):
  for prefix in ("", "transfer."):
    with pytest.raises(UserError) as error:
      attacks.check_attack(Attack(**given), prefix)
    assert str(error.value).startswith(prefix + message) and "\n" not in str(error.value)
  with pytest.raises(UserError):
    perturb(Attack(**given), linear, some_images(), LABELS)


def test_arrays_that_do_not_fit():
  images = some_images()
  for wrong, labels, told in (
    (images[0], LABELS, "images have shape"),
    ((255 * images).astype(np.uint8), LABELS, "images have shape .* dtype uint8"),
    (images, LABELS[:2], "labels have shape"),
    (images, LABELS.astype(np.float32), "labels have shape"),
  ):
    with pytest.raises(ValueError, match=told):
      attacks.pgd(linear, wrong, labels)
  with pytest.raises(ValueError, match="K of at least 2"):
    attacks.pgd(lambda x: linear(x)[:, :1], images, np.zeros(N, int))
