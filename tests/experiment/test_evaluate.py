"""The pass over the test images against float64 NumPy and scikit-learn on all activations."""

import functools

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LinearRegression
from sklearn.metrics import cohen_kappa_score, r2_score

from dissim_jax.data import batches
from dissim_jax.data.augment import normalise
from dissim_jax.members.member import Member
from dissim_jax.models import MODELS
from dissim_jax.studies.outputs import ensembles
from dissim_jax.studies.similarity import measure as similarity_measure
from tests import tiny

SHAPE, BATCH = (6, 5, 1), 13
preprocess = functools.partial(normalise, mean=(0.5,), std=(0.3,))


IMAGES = np.random.default_rng(0).integers(0, 256, (40, *SHAPE), np.uint8)


def member(name, architecture, seed):
  model = MODELS[architecture](4, width_multiplier=0.25)
  return Member(name, model, tiny.drawn(model, SHAPE, seed))


def outputs(members):
  """Their logits, and their taps in float64."""
  variables = [m.variables for m in members]
  run = jax.jit(
    lambda own: [m.model.apply(v, preprocess(IMAGES)) for m, v in zip(members, own, strict=True)]
  )
  logits, taps = zip(*run(variables), strict=True)
  return logits, [[np.asarray(tap, np.float64) for tap in own] for own in taps]


@pytest.fixture(scope="module")
def compared():
  """Three members, one with other taps: what is measured of them, and their own outputs."""
  members = [
    member(f"m{i}", name, i) for i, name in enumerate(("tiny_deep", "tiny_deep", "tiny_deeper"))
  ]
  own_logits, taps = outputs(members)
  logits, arrays = similarity_measure.measure(members, IMAGES, preprocess, BATCH)
  return arrays, taps, logits, own_logits


def hsic(x, y):
  """Eq. 13 of Wald et al. 2023, as it is written."""
  k, m = (z.reshape(len(z), -1) @ z.reshape(len(z), -1).T for z in (x, y))
  np.fill_diagonal(k, 0), np.fill_diagonal(m, 0)
  n, one = len(k), np.ones(len(k))
  middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
  return (np.trace(k @ m) + middle - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))


def minibatch_cka(x, y):
  """Eq. 12, over the batches that the pass takes."""
  parts = list(zip(batches.batches(x, BATCH), batches.batches(y, BATCH), strict=True))
  xy, xx, yy = (
    np.mean([hsic(*pair) for pair in pairs])
    for pairs in (parts, [(x, x) for x, _ in parts], [(y, y) for _, y in parts])
  )
  return xy / np.sqrt(xx) / np.sqrt(yy)


@pytest.mark.parametrize("a, b", [(0, 0), (0, 1), (0, 2), (1, 2)])
def test_lincka_of_every_pair_of_taps(compared, a, b):
  arrays, taps, *_ = compared
  expected = [[minibatch_cka(x, y) for y in taps[b]] for x in taps[a]]
  np.testing.assert_allclose(arrays[f"lincka/m{a}/m{b}"], expected, rtol=1e-5, atol=2e-6)


def rows(tap):
  return tap.reshape(-1, tap.shape[-1])


@pytest.mark.parametrize("a, b", [(0, 1), (1, 0)])
def test_r2_in_both_directions(compared, a, b):
  arrays, taps, *_ = compared
  for tap, (x, y) in enumerate(zip(taps[a], taps[b], strict=True)):
    x, y = rows(x), rows(y)
    expected = r2_score(y, LinearRegression().fit(x, y).predict(x))
    assert arrays[f"r2/m{a}/m{b}"][tap] == pytest.approx(expected, rel=1e-4, abs=1e-5)
  other = arrays[f"r2/m{b}/m{a}"]
  assert np.abs(arrays[f"r2/m{a}/m{b}"] - other).max() > 1e-3  # A direction can be told.


def test_position_wise_lincka(compared):
  arrays, taps, *_ = compared
  for tap, (x, y) in enumerate(zip(taps[0], taps[1], strict=True)):
    x, y = (rows(z) - rows(z).mean(0) for z in (x, y))
    norm = np.linalg.norm
    expected = norm(x.T @ y) ** 2 / norm(x.T @ x) / norm(y.T @ y)
    assert arrays["lincka_position/m0/m1"][tap] == pytest.approx(expected, rel=1e-5)


def resize(z, size):
  """Bilinear with antialiasing, by Pillow."""

  def channel(x):
    picture = Image.fromarray(x.astype(np.float32))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))

  return np.stack([np.stack([channel(c) for c in np.moveaxis(x, -1, 0)], -1) for x in z])


def test_taps_of_another_architecture_are_matched_by_depth_and_resized(compared):
  """One has 7 taps, the other 4: three halves of the deeper one's fall between two."""
  arrays, taps, *_ = compared
  matched = [0, 1, 1, 2, 2, 3, 3]  # k / 6 * 3, the deeper of two
  assert arrays["matched/m0/m2"].tolist() == matched
  assert arrays["matched/m0/m1"].tolist() == [0, 1, 2, 3]
  for tap, own in enumerate(matched[:-1]):  # The last tap has a channel that is always zero.
    x, y = taps[0][own], taps[2][tap]
    x, y = rows(resize(x, y.shape[1:3])), rows(y)
    expected = r2_score(y, LinearRegression().fit(x, y).predict(x))
    assert arrays["r2/m0/m2"][tap] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    backward = r2_score(x, LinearRegression().fit(y, x).predict(y))
    assert arrays["r2/m2/m0"][tap] == pytest.approx(backward, rel=1e-3, abs=1e-4)


def test_taps_matched_by_name_are_resized():
  """The deeper one has all names and one more; its block 1 is twice as large."""
  members = [member("a", "tiny", 0), member("b", "tiniest", 1)]
  _, arrays = similarity_measure.measure(members, IMAGES, preprocess, BATCH, match="name")
  assert arrays["matched/a/b"].tolist() == [0, 1]  # By depth it were [0, 2].
  _, (a, b) = outputs(members)
  assert a[1].shape[1:3] == (6, 5) and b[1].shape[1:3] == (3, 3)
  x, y = rows(resize(a[1], (3, 3))), rows(b[1])
  expected = r2_score(y, LinearRegression().fit(x, y).predict(x))
  assert arrays["r2/a/b"][1] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_predictions_are_the_models_logits(compared):
  *_, logits, expected = compared
  for own, whole in zip(logits, expected, strict=True):
    np.testing.assert_allclose(own, whole, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def predictions():
  """Logits of four members of about 60 % accuracy, and labels."""
  rng = np.random.default_rng(1)
  labels = rng.integers(0, 5, 300)
  logits = rng.normal(size=(4, 300, 5)) + 1.5 * np.eye(5)[labels]
  return logits.astype(np.float32), labels.astype(np.int32)


def test_ensemble_rows_take_the_sequences_members_in_order(predictions):
  logits, labels = predictions
  names, sequence = ["a", "b", "c", "d"], ["c", "a", "d"]
  result = ensembles.ensemble_rows({"s": sequence}, names, logits, labels, "probs", 15)
  assert [row["members"] for row in result] == [["c", "a"], ["c", "a", "d"]]
  exponent = np.exp(logits.astype(np.float64))
  probs = exponent / exponent.sum(-1, keepdims=True)
  right = logits.argmax(-1) == labels
  for row, order in zip(result, ([2, 0], [2, 0, 3]), strict=True):
    combined = probs[order].mean(0)
    assert row["ensemble_accuracy"] == pytest.approx((combined.argmax(-1) == labels).mean())
    expected = -np.log(combined[np.arange(300), labels]).mean()
    assert row["ensemble_cross_entropy"] == pytest.approx(expected, rel=1e-5)
    assert row["member_accuracy"] == pytest.approx(right[order[-1]].mean())
    pairs = [(i, j) for k, i in enumerate(order) for j in order[k + 1 :]]
    kappas = [cohen_kappa_score(right[i], right[j]) for i, j in pairs]
    assert row["error_consistency"] == pytest.approx(np.mean(kappas), abs=1e-5)


def test_pair_rows_name_both_members(predictions):
  logits, labels = predictions
  result = ensembles.pair_rows(["a", "b", "c", "d"], logits, labels)
  pairs = [(row["a"], row["b"]) for row in result]
  assert pairs == [("a", "b"), ("a", "c"), ("b", "c"), ("a", "d"), ("b", "d"), ("c", "d")]
  guess = logits.argmax(-1)
  assert result[3]["label_disagreement"] == pytest.approx((guess[0] != guess[3]).mean())


def test_no_small_rest_is_left_for_the_last_batch():
  assert [len(b) for b in batches.batches(np.zeros(1697), 128)] == [122] * 3 + [121] * 11
  assert [len(b) for b in batches.batches(np.zeros(5), 4)] == [5]
