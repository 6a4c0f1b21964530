"""Attribution against closed forms and float64 NumPy, the pass over members against all at once."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dissim_jax import attribution
from dissim_jax.data.augment import normalise
from dissim_jax.errors import UserError
from dissim_jax.members.member import Member
from dissim_jax.models import Layered
from dissim_jax.studies.attribution import measure as evaluate

SHAPE = (6, 5, 3)  # Not square.


def random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


IMAGES, BASELINE = random(7, *SHAPE), random(*SHAPE, seed=1)
diversity_of, variance_of, normalise_maps = map(
  jax.jit,
  (
    attribution.attribution_diversity,
    attribution.attribution_variance,
    attribution.normalise_maps,
  ),
)
saliency, completeness_error = (
  jax.jit(f, static_argnames="score")
  for f in (attribution.saliency, attribution.completeness_error)
)
integrated_gradients = jax.jit(attribution.integrated_gradients, static_argnames=("score", "steps"))
WEIGHTS = random(*SHAPE, seed=2)
MATRIX = random(np.prod(SHAPE), np.prod(SHAPE), seed=3) / 10


def linear(images):
  return jnp.einsum("nhwc,hwc->n", images, WEIGHTS) + 3.0


def quadratic(images):
  flat = images.reshape(len(images), -1)
  return jnp.einsum("ni,ij,nj->n", flat, MATRIX, flat) + linear(images)


def test_saliency_of_a_linear_score_is_its_absolute_weights():
  found = saliency(linear, IMAGES)
  np.testing.assert_allclose(found, np.broadcast_to(np.abs(WEIGHTS), IMAGES.shape), rtol=1e-6)
  assert np.asarray(WEIGHTS).min() < 0  # Or the absolute value would not be seen.


def test_saliency_of_a_quadratic_score_is_of_every_image():
  flat = IMAGES.reshape(7, -1).astype(np.float64)
  gradient = flat @ (MATRIX + MATRIX.T) + WEIGHTS.reshape(-1)
  found = saliency(quadratic, IMAGES)
  np.testing.assert_allclose(found.reshape(7, -1), np.abs(gradient), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_integrated_gradients_of_a_linear_score(steps):
  found = integrated_gradients(linear, IMAGES, BASELINE, steps)
  np.testing.assert_allclose(found, (IMAGES - BASELINE) * WEIGHTS, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4])
def test_integrated_gradients_of_a_quadratic_score(steps):
  """The gradient is linear along the line: its mean is that in the middle, for any steps."""
  middle = ((IMAGES + BASELINE) / 2).reshape(7, -1).astype(np.float64)
  gradient = middle @ (MATRIX + MATRIX.T) + WEIGHTS.reshape(-1)
  expected = (IMAGES - BASELINE).reshape(7, -1) * gradient
  found = integrated_gradients(quadratic, IMAGES, BASELINE, steps)
  np.testing.assert_allclose(found.reshape(7, -1), expected, rtol=1e-4, atol=1e-4)
  error = completeness_error(quadratic, IMAGES, BASELINE, found)
  assert np.asarray(error).max() < 1e-4


def test_integrated_gradients_of_a_cubic_score_converge_with_the_square_of_the_step():
  """`mean_k t_k^2` of midpoints is 1/3 - 1/(12 steps^2)."""
  cubic = lambda images: jnp.sum(images**3, axis=(1, 2, 3))  # noqa: E731
  for steps in (1, 2, 5):
    found = integrated_gradients(cubic, IMAGES, 0.0, steps)
    expected = IMAGES.astype(np.float64) ** 3 * (1 - 1 / (4 * steps**2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_completeness_error_is_relative_to_the_change_of_the_score():
  exact = (IMAGES - BASELINE) * WEIGHTS
  found = completeness_error(linear, IMAGES, BASELINE, 1.25 * exact)
  np.testing.assert_allclose(found, 0.25, rtol=1e-3)
  same = completeness_error(linear, IMAGES, IMAGES, np.full_like(IMAGES, 0.5), eps=9.0)
  np.testing.assert_allclose(same, 0.5 * np.prod(SHAPE) / 9, rtol=1e-5)


def numpy_diversity(maps, normalised=True):
  """Eq. 7, as it is written, one map and one pixel at a time."""
  count, images = maps.shape[:2]
  flat, found = maps.reshape(count, images, -1).astype(np.float64), np.zeros(images)
  for n in range(images):
    rows = []
    for m in range(count):
      norm = np.sqrt(sum(value**2 for value in flat[m, n]))
      rows.append(flat[m, n] / norm if normalised and norm > 0 else flat[m, n])
    for pixel in range(flat.shape[-1]):
      values = [row[pixel] for row in rows]
      mean = sum(values) / count
      found[n] += sum((value - mean) ** 2 for value in values) / count
  return found


@pytest.fixture(scope="module")
def maps():
  """Three members' maps of four images, of very different scales; one is zero."""
  found = random(3, 4, *SHAPE) * np.array([1, 50, 1e-3], np.float32)[:, None, None, None, None]
  found[1, 2] = 0
  return found


def test_diversity_against_a_loop(maps):
  np.testing.assert_allclose(diversity_of(maps), numpy_diversity(maps), rtol=1e-5)
  variance = variance_of(maps)
  np.testing.assert_allclose(variance, numpy_diversity(maps, normalised=False), rtol=1e-5)


def test_diversity_is_one_less_the_squared_norm_of_the_mean_map(maps):
  nonzero = [0, 1, 3]  # Without the map of zeros.
  found, maps = np.asarray(diversity_of(maps))[nonzero], maps[:, nonzero]
  units = maps / np.sqrt((maps.astype(np.float64) ** 2).sum((2, 3, 4), keepdims=True))
  expected = 1 - (units.mean(0) ** 2).sum((1, 2, 3))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_diversity_of_identical_members_is_zero_and_of_disjoint_ones_the_largest(maps):
  same = np.abs(np.repeat(maps[:1], 3, axis=0))
  np.testing.assert_allclose(diversity_of(same), 0, atol=1e-10)
  np.testing.assert_allclose(diversity_of(maps[:1]), 0, atol=0)
  disjoint = np.zeros_like(maps)
  disjoint[np.arange(3), :, np.arange(3), 0, 0] = np.array([[1], [7], [0.1]])
  np.testing.assert_allclose(diversity_of(disjoint), 2 / 3, rtol=1e-6)
  opposed = np.stack([same[0], -same[0]])
  np.testing.assert_allclose(diversity_of(opposed), 1, rtol=1e-6)


def test_diversity_does_not_depend_on_the_scale_of_a_member_but_the_bare_variance_does(maps):
  scaled = maps * np.array([3, 1e-25, 1e25], np.float32)[:, None, None, None, None]
  np.testing.assert_allclose(diversity_of(scaled), diversity_of(maps), rtol=1e-5)
  assert np.all(np.abs(variance_of(3 * maps) / variance_of(maps) - 9) < 1e-3)
  order = [2, 0, 1]
  np.testing.assert_allclose(diversity_of(maps[order]), diversity_of(maps), rtol=1e-6)


def test_normalised_maps_have_unit_norm_and_nan_is_not_hidden(maps):
  norms = np.sqrt((np.asarray(normalise_maps(maps), np.float64) ** 2).sum((2, 3, 4)))
  expected = np.ones((3, 4))
  expected[1, 2] = 0
  np.testing.assert_allclose(norms, expected, rtol=1e-6)
  broken = maps.copy()
  broken[0, 0, 0, 0, 0] = np.nan
  found = np.isnan(normalise_maps(broken)).any(axis=(2, 3, 4))
  assert found[0, 0] and found.sum() == 1


def test_gradients_of_the_diversity(maps):
  total = jax.jit(lambda maps: jnp.sum(attribution.attribution_diversity(maps)))
  gradient = jax.jit(jax.grad(total))
  found = np.asarray(gradient(maps))
  assert np.isfinite(found).all() and np.abs(found).max() > 0
  assert not found[1, 2].any()
  assert not np.asarray(gradient(np.zeros_like(maps))).any()
  nonzero, along, eps = random(*maps.shape), random(*maps.shape, seed=1), np.float32(1e-2)
  second = jax.jit(jax.grad(lambda maps: jnp.vdot(gradient(maps), along)))(nonzero)
  ends = nonzero + eps * along, nonzero - eps * along
  slope = np.subtract(*map(total, ends)) / (2 * eps)
  np.testing.assert_allclose(np.vdot(gradient(nonzero), along), slope, rtol=2e-2, atol=1e-3)
  bend = np.subtract(*map(gradient, ends)) / (2 * eps)
  np.testing.assert_allclose(second, bend, rtol=2e-2, atol=2e-2 * np.abs(bend).max())
  assert abs(slope) > 0.05


def test_the_diversity_of_saliency_trains():
  """A penalty on maps needs second derivatives; ReLU networks have them almost everywhere."""
  parameters = {"w": random(2, 8, np.prod(SHAPE)), "v": random(2, 8, seed=5)}

  def penalty(parameters):
    def score(w, v, images):
      return nn.relu(images.reshape(len(images), -1) @ w.T) @ v

    maps = jax.vmap(lambda w, v: attribution.saliency(functools.partial(score, w, v), IMAGES))(
      parameters["w"], parameters["v"]
    )
    return jnp.mean(attribution.attribution_diversity(maps))

  step = jax.jit(jax.value_and_grad(penalty))
  values = []
  for _ in range(30):
    value, gradient = step(parameters)
    values.append(float(value))
    parameters = jax.tree.map(lambda p, g: p + 5.0 * g, parameters, gradient)
  assert np.isfinite(values).all()
  assert values[-1] > values[0] + 0.05  # Up the gradient, maps part.


@pytest.mark.parametrize(
  "call, words",
  [
    (lambda: attribution.saliency(linear, IMAGES[0]), "images has shape"),
    (lambda: attribution.saliency(linear, IMAGES.astype(int)), "images has dtype"),
    (lambda: attribution.saliency(jnp.sum, IMAGES), "score returned shape"),
    (lambda: attribution.integrated_gradients(linear, IMAGES, 0.0, 0), "steps=0"),
    (lambda: attribution.completeness_error(linear, IMAGES, 0.0, IMAGES[:2]), "attributions"),
    (lambda: attribution.normalise_maps(IMAGES[0, 0]), "maps have shape"),
    (lambda: attribution.attribution_diversity(IMAGES), "maps has shape"),
    (lambda: attribution.attribution_diversity(np.zeros((2, 0, *SHAPE))), "maps has shape"),
  ],
)
def test_bad_arrays(call, words):
  with pytest.raises(ValueError, match=words):
    call()


class Stem(nn.Module):
  """A convolution with a batch norm, so that eval mode matters."""

  @nn.compact
  def __call__(self, x, train):
    return nn.BatchNorm(use_running_average=not train)(nn.Conv(8, (3, 3))(x))


class Head(nn.Module):
  """ReLU and a dense layer on all places."""

  classes: int

  @nn.compact
  def __call__(self, x, train):
    return nn.Dense(self.classes)(nn.relu(x).reshape(len(x), -1))


COUNT, SEEN, CLASSES = 21, 14, 4


MODEL = Layered((Stem(),), Head(CLASSES), ("stem",))


@pytest.fixture(scope="module")
def ensemble():
  """Three ReLU networks trained on some of the images, the second normalised in its own way."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (COUNT, *SHAPE), np.uint8)
  images[17] = 0  # Black: the map of integrated gradients is zeros.
  labels = rng.integers(0, CLASSES, COUNT)
  optimizer = optax.adam(1e-2)
  init = jax.jit(lambda key: MODEL.init(key, images[:1] / 255))

  @jax.jit
  def step(variables, state, x):
    def loss(params):
      logits = MODEL.apply(variables | {"params": params}, x)[0]
      return optax.softmax_cross_entropy_with_integer_labels(logits, labels[:SEEN]).mean()

    updates, state = optimizer.update(jax.grad(loss)(variables["params"]), state)
    return variables | {"params": optax.apply_updates(variables["params"], updates)}, state

  members = []
  for i in range(3):
    mean, std = ((0.6,) * 3, (0.35,) * 3) if i == 1 else ((0.5,) * 3, (0.25,) * 3)
    variables, x = init(jax.random.key(i)), normalise(images[:SEEN], mean, std)
    state = optimizer.init(variables["params"])
    for _ in range(60):
      variables, state = step(variables, state, x)
    members.append(Member(f"m{i}", MODEL, jax.device_get(variables), mean, std))
  return members, images, labels


SEQUENCES = {"all": ["m0", "m1", "m2"], "two": ["m2", "m0"], "one": ["m1"]}


@jax.jit
def logits_of(variables, pixels, mean, std):
  return MODEL.apply(variables, (pixels - mean) / std)[0]


@jax.jit
def gradients_of(variables, pixels, mean, std, classes):
  """Of the logit of one class of each image, image by image."""
  score = lambda x, k: logits_of(variables, x[None], mean, std)[0, k]  # noqa: E731
  return jax.vmap(jax.grad(score))(pixels, classes)


def predictions_of(member, images):
  pixels = np.float32(images) / 255
  return np.asarray(logits_of(member.variables, pixels, *own_scale(member))).argmax(-1)


def own_scale(member):
  return np.float32(member.mean), np.float32(member.std)


def member_maps(member, images, classes, steps=None):
  """Maps of one member on the whole set, by the definition: float64 sums of single gradients."""
  x = np.float32(images) / 255

  def gradient(x):
    found = gradients_of(member.variables, x, *own_scale(member), classes)
    return np.asarray(found, np.float64)

  if steps is None:
    return np.abs(gradient(x))
  nodes = (np.arange(steps) + 0.5) / steps
  mean = np.mean([gradient(np.float32(t) * x) for t in nodes], 0)
  return np.asarray(x, np.float64) * mean


@pytest.mark.parametrize("method, steps", [("saliency", 3), ("integrated_gradients", 3)])
@pytest.mark.parametrize("of_class", ["label", "prediction"])
def test_attribute_against_the_whole_set_at_once(ensemble, method, steps, of_class):
  members, images, labels = ensemble
  result, arrays = evaluate.attribute(
    members,
    SEQUENCES,
    images,
    labels,
    method=method,
    steps=steps,
    batch_size=8,
    of_class=of_class,
    count_shown=10,
  )
  predictions = np.stack([predictions_of(member, images) for member in members])
  used = steps if method == "integrated_gradients" else None
  maps = np.stack(
    [
      member_maps(m, images, labels if of_class == "label" else said, used)
      for m, said in zip(members, predictions, strict=True)
    ]
  )
  index = {name: [int(member[1]) for member in chosen] for name, chosen in SEQUENCES.items()}
  for name, chosen in index.items():
    expected, row = numpy_diversity(maps[chosen]), result["sequences"][name]
    right = (predictions[chosen] == labels).all(0)
    assert 0 < right.sum() < COUNT
    assert row["diversity"] == pytest.approx(expected.mean(), rel=1e-3, abs=1e-6)
    assert row["diversity_std"] == pytest.approx(expected.std(), rel=1e-3, abs=1e-6)
    assert row["diversity_right"] == pytest.approx(expected[right].mean(), rel=1e-3, abs=1e-6)
  assert [(row["a"], row["b"]) for row in result["pairs"]] == [
    ("m0", "m1"),
    ("m0", "m2"),
    ("m1", "m2"),
  ]
  expected = numpy_diversity(maps[[1, 2]]).mean()
  assert result["pairs"][2]["diversity"] == pytest.approx(expected, rel=1e-3)
  assert (result["method"], result["images"], result["steps"]) == (method, COUNT, used)
  picture = np.abs(maps).sum(-1)[:, :10]
  picture /= np.sqrt((picture**2).sum((2, 3), keepdims=True))
  np.testing.assert_allclose(arrays["maps"], picture, rtol=1e-3, atol=1e-5)
  np.testing.assert_array_equal(arrays["predictions"], predictions[:, :10])
  np.testing.assert_array_equal(arrays["images"], images[:10])
  np.testing.assert_array_equal(arrays["labels"], labels[:10])
  assert arrays["members"].tolist() == ["m0", "m1", "m2"]
  json.dumps(result, allow_nan=False)


def test_integrated_gradients_of_trained_networks_are_complete(ensemble):
  """Within one per cent with many steps; with few, jumps of the gradient show."""
  members, images, labels = ensemble
  attribute = functools.partial(
    evaluate.attribute,
    members[:2],
    {"two": ["m0", "m1"]},
    images[:SEEN],
    labels[:SEEN],
    method="integrated_gradients",
    batch_size=7,
  )
  many, few = (attribute(steps=steps)[0]["members"] for steps in (256, 2))
  for name in ("m0", "m1"):
    assert many[name]["completeness_error_max"] < 0.01
    assert many[name]["completeness_error_mean"] <= many[name]["completeness_error_max"]
    assert few[name]["completeness_error_mean"] > 2 * many[name]["completeness_error_mean"]


def test_one_dispatch_of_all_steps_is_the_same_as_one_a_step(ensemble, monkeypatch):
  members, images, labels = ensemble
  found = []
  for backend in ("cpu", "gpu"):
    monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
    found.append(
      evaluate.attribute(
        members[:1], {}, images, labels, method="integrated_gradients", steps=3, batch_size=8
      )
    )
  np.testing.assert_allclose(found[0][1]["maps"], found[1][1]["maps"], rtol=1e-5, atol=1e-6)


def test_where_no_image_is_right_for_all_the_value_is_none(ensemble):
  members, images, _ = ensemble
  wrong = (predictions_of(members[0], images) + 1) % CLASSES
  result, arrays = evaluate.attribute(
    members[:1],
    {"one": ["m0"]},
    images,
    wrong,
    method="saliency",
    steps=1,
    batch_size=8,
    count_shown=0,
  )
  assert result["sequences"]["one"] == {
    "diversity": pytest.approx(0, abs=1e-6),
    "diversity_std": pytest.approx(0, abs=1e-6),
    "diversity_right": None,
  }
  assert result["members"] == {"m0": {}} and result["pairs"] == []
  assert arrays["maps"].shape == (1, 0, *SHAPE[:2])


@pytest.mark.parametrize(
  "changed, error, words",
  [
    ({"method": "gradcam"}, UserError, "method='gradcam'"),
    ({"of_class": "all"}, UserError, "of_class='all'"),
    ({"steps": 0}, UserError, "steps=0"),
    ({"batch_size": 0}, UserError, "batch_size=0"),
    ({"count_shown": -1}, UserError, "count_shown=-1"),
    ({"labels": np.zeros(3, int)}, ValueError, "labels: shape"),
    ({"labels": np.full(COUNT, CLASSES)}, ValueError, "labels: 4..4, m0 has classes 0..3"),
    ({"images": np.zeros((COUNT, *SHAPE))}, ValueError, "images: dtype"),
    ({"images": np.zeros((0, *SHAPE), np.uint8), "labels": np.zeros(0, int)}, ValueError, "images"),
    ({"sequences": {"s": ["m9"]}}, ValueError, "sequences"),
    ({"members": []}, ValueError, "members"),
  ],
)
def test_bad_arguments(ensemble, changed, error, words):
  members, images, labels = ensemble
  arguments = {
    "members": members,
    "sequences": SEQUENCES,
    "images": images,
    "labels": labels,
    "method": "saliency",
    "steps": 2,
    "batch_size": 8,
  }
  with pytest.raises(error, match=words):
    evaluate.attribute(**arguments | changed)
