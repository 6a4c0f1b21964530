"""Features of the last layer: what they are, and studies of members whose features are known."""

import functools
import json

import flax.linen as nn
import jax
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dissim_jax.data.augment import normalise
from dissim_jax.errors import UserError
from dissim_jax.members.member import Member, Network
from dissim_jax.models import MODELS, Layered, variable_shapes
from dissim_jax.models.resnet import Head
from dissim_jax.studies.features import measure as features_measure
from tests import tiny
from tests.traced import shallow


@pytest.mark.parametrize(
  "name, shape", [("tiniest", (6, 5, 3)), ("tiny10", (28, 27, 1)), ("mlp_mixer_mini", (8, 8, 1))]
)
def test_last_features_are_what_the_dense_layer_sees(name, shape):
  """The dense layer applied to them gives the logits."""
  images = np.random.default_rng(0).integers(0, 256, (9, *shape), np.uint8)
  model = shallow(name, 4, width_multiplier=0.25)
  variables = tiny.drawn(model, shape)
  mean, std = (0.4,) * shape[-1], (0.3,) * shape[-1]
  found = features_measure.last_features(Member("m", model, variables, mean, std), images, 4)
  assert found.shape[0] == 9 and found.ndim == 2 and found.dtype == np.float32
  dense = variables["params"]["head"]["dense"]
  logits = jax.jit(lambda x: model.apply(variables, x)[0])(normalise(images, mean, std))
  np.testing.assert_allclose(found @ dense["kernel"] + dense["bias"], logits, rtol=1e-4, atol=1e-4)


# One of every family: a head is that of the family.
@pytest.mark.parametrize("name", ["resnet8", "tiny10", *(n for n in MODELS if "_mini" in n)])
def test_every_head_ends_with_a_dense_layer(name):
  """Whose input has as many features as its kernel rows; no computation.

  A head takes what any layer gives: here the first one is the only one.
  """
  model = MODELS[name](4)
  model = model.clone(layers=model.layers[:1])
  image = jax.ShapeDtypeStruct((2, 32, 32, 3), np.uint8)
  shapes = variable_shapes(model, (32, 32, 3))
  network = Network(model, (0.0,) * 3, (1.0,) * 3)
  found = jax.eval_shape(functools.partial(features_measure._features, network), shapes, image)
  kernels = [x.shape for x in jax.tree.leaves(shapes["params"]["head"]) if x.ndim == 2]
  assert (found.shape[1], 4) in kernels and found.shape[0] == 2 and found.dtype == np.float32


def data(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_standardise_against_scikit_learn():
  train, test = 3 + 5 * data(20, 4).astype(np.float64), data(7, 4, seed=1)
  train[:, 2] = 0.1  # Constant, but its rounded mean gives it a spread.
  scaler = StandardScaler().fit(train.astype(np.float64))
  found = features_measure.standardise(train, test)
  for each, raw in zip(found, (train, test), strict=True):
    expected = scaler.transform(raw)
    expected[:, 2] = 0
    assert each.dtype == np.float32
    np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  "share, width, of_a", [(1, None, 6), (0.75, 4, 3), (0.5, None, 3), (0.2, 5, 1), (0, None, 0)]
)
def test_share_features_takes_different_columns_of_both(share, width, of_a):
  a, b = data(3, 6), data(3, 9)
  rng = np.random.default_rng(0)
  draws = np.array([features_measure.share_features(a, b, share, width, rng) for _ in range(60)])
  assert draws.shape[1] == (width or 6)
  assert ((draws < 6).sum(1) == of_a).all()
  assert all(len(set(row)) == len(row) for row in draws.tolist())
  allowed = set(range(6) if of_a else ()) | set(range(6, 15) if of_a < draws.shape[1] else ())
  assert set(draws.ravel().tolist()) == allowed  # Each column has its chance.
  again = features_measure.share_features(a, b, share, width, np.random.default_rng(0))
  np.testing.assert_array_equal(again, draws[0])


def mean_covariance(a, b):
  """Of every column of a, then of b: the mean absolute covariance with the other's columns."""
  a, b = (StandardScaler().fit_transform(each.astype(np.float64)) for each in (a, b))
  found = [np.mean([abs(np.mean(f * g)) for g in b.T]) for f in a.T]
  return np.array(found + [np.mean([abs(np.mean(f * g)) for f in a.T]) for g in b.T])


def test_diversity_order_is_by_mean_absolute_covariance():
  a, b = data(30, 4), 10 * data(30, 6, seed=1) + 3
  b[:, 1] = -5 * a[:, 2]  # Of one feature twice, with another sign and scale.
  order = features_measure.diversity_order(a, b)
  np.testing.assert_array_equal(order, np.argsort(mean_covariance(a, b)))
  assert sorted(order) == list(range(10))
  np.testing.assert_array_equal(
    features_measure.diversity_order(7 * a - 1, b), order
  )  # Standardised.


def test_a_repeated_feature_comes_last_but_for_constant_ones():
  a, b = data(500, 4), data(500, 6, seed=1)
  b[:, 3], a[:, 0], b[:, 5] = a[:, 2], 0.0, 2.0
  order = features_measure.diversity_order(a, b).tolist()
  assert set(order[-2:]) == {0, 9}
  assert set(order[-4:-2]) == {2, 7}


def test_constant_features_do_not_count_in_the_other_members_mean():
  """With three constant columns in b, means over all six would halve those of a's features."""
  a, b = data(40, 5), data(40, 6, seed=1)
  b[:, 3:] = 1.0
  found = features_measure.diversity_order(a, b)
  expected = np.argsort(mean_covariance(a, b[:, :3]))
  np.testing.assert_array_equal(found[:8], expected)


def test_the_order_of_identical_members_is_by_their_own_covariance():
  a = data(50, 5)
  order = features_measure.diversity_order(a, a)
  assert sorted(order) == list(range(10))
  values = mean_covariance(a, a)[order]
  assert np.diff(values).min() > -1e-6


@pytest.mark.parametrize("regularisation", [0.003, 1.0])
def test_linear_accuracy_against_a_direct_minimum(regularisation):
  """C times the summed cross-entropy and half the squared norm of the weights, by SciPy."""
  rng = np.random.default_rng(0)
  labels, test_labels = rng.integers(0, 3, 60), rng.integers(0, 3, 200)
  centres = data(3, 5) * np.array([1, 1, 1, 0.2, 0.2], np.float32)
  train, test = centres[labels] + data(60, 5, seed=1), centres[test_labels] + data(200, 5, seed=2)

  def loss(parameters):
    weights, bias = parameters[:15].reshape(5, 3), parameters[15:]
    logits = train @ weights + bias
    picked = logits[np.arange(60), labels]
    entropy = np.sum(np.log(np.exp(logits).sum(1)) - picked)
    return regularisation * entropy + np.sum(weights**2) / 2

  best = minimize(loss, np.zeros(18), method="BFGS", options={"gtol": 1e-6}).x
  said = np.argmax(test @ best[:15].reshape(5, 3) + best[15:], axis=1)
  found = features_measure.linear_accuracy(
    train, labels, test, test_labels, regularisation=regularisation, max_iter=500
  )
  assert found == pytest.approx(np.mean(said == test_labels), abs=0.006)  # One of 200.
  assert 0.4 < found < 0.9


class Columns(nn.Module):
  """A tap of one place whose channels are the pixels of some columns of the image."""

  first: int
  last: int

  def __call__(self, x, train):
    return x[:, :, self.first : self.last].reshape(len(x), 1, 1, -1)


def pixels_member(name, first, last):
  shape = (6 * (last - first), 4)  # Images are six pixels high.
  dense = {"kernel": np.zeros(shape, np.float32), "bias": np.zeros(4, np.float32)}
  variables = {"params": {"head": {"dense": dense}}}
  return Member(name, Layered((Columns(first, last),), Head(4, None), ("pixels",)), variables)


MEMBERS = [pixels_member("a", 0, 2), pixels_member("b", 2, 5), pixels_member("c", 0, 2)]
SEQUENCES = {"ab": ["a", "b", "c"], "alone": ["b"], "again": ["a", "b"], "same": ["a", "c"]}


def sample(count, seed):
  """Images whose left columns tell one bit of the class and whose right columns the other."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 4, count)
  bits = np.stack([labels // 2] * 2 + [labels % 2] * 3, axis=1)
  images = 100 + 40 * bits[:, None, :, None] + rng.normal(0, 25, (count, 6, 5, 1))
  return np.clip(images, 0, 255).astype(np.uint8), labels


TRAIN, TEST = sample(120, 0), sample(240, 1)


def study(**changed):
  arguments = {
    "members": MEMBERS,
    "sequences": SEQUENCES,
    "train_images": TRAIN[0],
    "train_labels": TRAIN[1],
    "test_images": TEST[0],
    "test_labels": TEST[1],
    "shares": (1, 0.5, 0),
    "dimensions": (2, 20),
    "draws": 3,
    "regularisation": 0.5,
    "max_iter": 300,
    "batch_size": 50,
    "seed": 0,
  }
  return features_measure.study_features(**arguments | changed)


@pytest.fixture(scope="module")
def studied():
  return study()


def joined(images):
  """The twelve features of a, then the 18 of b."""
  parts = images[:, :, :2], images[:, :, 2:]
  return np.concatenate([part.reshape(len(images), -1) / 255 for part in parts], axis=1)


def own_accuracy(columns):
  train, test = joined(TRAIN[0])[:, columns], joined(TEST[0])[:, columns]
  pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=300))
  return pipeline.fit(train, TRAIN[1]).score(test, TEST[1])


def test_complementary_members_do_better_mixed(studied):
  row = studied["sequences"]["ab"]
  assert (row["a"], row["b"], row["width"], row["shares"]) == ("a", "b", 12, [1.0, 0.5, 0.0])
  only_a, mixed, only_b = row["accuracy"]
  assert only_a == pytest.approx(own_accuracy(slice(12)), abs=0.005)  # All twelve of a.
  assert row["accuracy_std"][0] == 0 and row["accuracy_std"][2] > 0  # Twelve of the 18 of b.
  assert max(only_a, only_b) < 0.65 < 0.85 < mixed
  same = studied["sequences"]["same"]["accuracy"]
  assert max(same) - min(same) < 0.05  # Negative control: nothing is gained from a copy.


def test_compression_takes_the_most_diverse_first_and_ends_at_all_features(studied):
  row = studied["sequences"]["ab"]["compression"]
  assert row["dimensions"] == [2, 20]
  order = np.argsort(mean_covariance(*np.split(joined(TRAIN[0]), [12], axis=1)))
  kept = [own_accuracy(order[:size]) for size in (2, 20)]
  np.testing.assert_allclose(row["diverse"], kept, atol=0.005)
  assert abs(kept[0] - own_accuracy(order[-2:])) > 0.01  # The other end of the order.
  row = study(sequences={"ab": ["a", "b"]}, dimensions=())["sequences"]["ab"]["compression"]
  assert row["dimensions"] == [1, 2, 4, 8, 16, 30]
  # All columns in another order: of 240 images one may fall the other way.
  assert row["diverse"][-1] == pytest.approx(row["random"][-1], abs=0.005)
  assert row["random_std"][-1] < 0.005 < row["random_std"][0]
  assert row["diverse"][-1] == pytest.approx(own_accuracy(slice(30)), abs=0.005)
  assert row["random"][0] < row["random"][-1] - 0.3


def test_the_study_of_a_pair_is_done_from_seeds_and_fits_json(studied):
  assert list(studied["sequences"]) == ["ab", "again", "same"]  # One member alone has no pair.
  assert studied["sequences"]["ab"] == studied["sequences"]["again"]
  assert {key: studied[key] for key in ("draws", "regularisation", "num_train", "num_test")} == {
    "draws": 3,
    "regularisation": 0.5,
    "num_train": 120,
    "num_test": 240,
  }
  assert json.loads(json.dumps(studied, allow_nan=False)) == studied
  short = {"sequences": {"ab": ["a", "b"]}}
  assert study(**short)["sequences"]["ab"] == studied["sequences"]["ab"]
  assert study(**short, seed=1)["sequences"]["ab"] != studied["sequences"]["ab"]


@pytest.mark.parametrize(
  "changed, error, words",
  [
    ({"shares": (0.5, 1.5)}, UserError, "shares=1.5"),
    ({"dimensions": (0,)}, UserError, "dimensions=0"),
    ({"dimensions": (31,)}, UserError, "dimensions=31: the two members have 30"),
    ({"draws": 0}, UserError, "draws=0"),
    ({"max_iter": 0}, UserError, "max_iter=0"),
    ({"batch_size": 0}, UserError, "batch_size=0"),
    ({"regularisation": 0.0}, UserError, "regularisation=0.0"),
    ({"train_labels": TRAIN[1][:5]}, ValueError, "train_labels: shape"),
    ({"test_labels": TEST[1].astype(float)}, ValueError, "test_labels: shape"),
    ({"train_labels": np.zeros(120, int)}, ValueError, "train_labels: 1 classes"),
    ({"sequences": {"s": ["a", "z"]}}, ValueError, "sequences"),
    ({"test_images": np.zeros((240, 6, 5))}, ValueError, "images: shape"),
  ],
)
def test_bad_arguments(changed, error, words):
  with pytest.raises(error, match=words):
    study(**changed)


def test_bad_arrays():
  rng = np.random.default_rng(0)
  with pytest.raises(UserError, match="shares=-1"):
    features_measure.share_features(data(3, 2), data(3, 2), -1, None, rng)
  with pytest.raises(UserError, match="width=3"):
    features_measure.share_features(data(3, 2), data(3, 4), 0.5, 3, rng)
  with pytest.raises(ValueError, match="a has shape"):
    features_measure.diversity_order(data(3), data(3, 2))
  with pytest.raises(ValueError, match="b 4"):
    features_measure.diversity_order(data(3, 2), data(4, 2))
