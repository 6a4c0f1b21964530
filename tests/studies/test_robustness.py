"""Members and ensembles under corruption against a loop in NumPy and scikit-learn."""

import functools
import itertools
import json

import jax
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from sklearn.metrics import cohen_kappa_score

from dissim_jax import corruptions
from dissim_jax.data.augment import normalise
from dissim_jax.errors import UserError
from dissim_jax.members.member import Member
from dissim_jax.models import MODELS
from dissim_jax.studies.corruption.measure import ensemble_row, robustness
from tests import tiny

SHAPE, BATCH, COUNT, CLASSES = (9, 8, 3), 12, 40, 4
NAMES, SEVERITIES, SEED = ("contrast", "gaussian_noise", "jpeg"), (0, 2.5, 5), 3
SEQUENCES = {"all": ["m0", "m1", "m2"], "pair": ["m2", "m0"], "single": ["m1"]}
MEAN, STD = (0.5, 0.4, 0.5), (0.3, 0.3, 0.2)
preprocess = functools.partial(normalise, mean=MEAN, std=STD)


@pytest.fixture(scope="module")
def members():
  """Three untrained networks; the last is normalised for in another way."""
  model = MODELS["tiniest"](CLASSES, width_multiplier=0.5)
  variables = [tiny.drawn(model, SHAPE, i) for i in range(3)]
  others = [Member(f"m{i}", model, v, MEAN, STD) for i, v in enumerate(variables[:2])]
  return [*others, Member("m2", model, variables[2], (0.2,) * 3, (0.5,) * 3)]


def logits_of(members, images):
  """[M, N, K] of all images at once."""
  return np.stack(
    [forward(m.model, m.variables, normalise(images, m.mean, m.std)) for m in members]
  )


@functools.partial(jax.jit, static_argnums=0)
def forward(model, variables, images):
  return model.apply(variables, images)[0]


@pytest.fixture(scope="module")
def data(members):
  """Images, and labels that a member is right about now and then."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (COUNT, *SHAPE), np.uint8)
  guesses = logits_of(members, images).argmax(-1)
  return images, guesses[rng.integers(0, 3, COUNT), np.arange(COUNT)].astype(np.int32)


@pytest.fixture(scope="module")
def measured(members, data):
  return robustness(
    members,
    SEQUENCES,
    *data,
    names=NAMES,
    severities=SEVERITIES,
    seed=SEED,
    batch_size=BATCH,
    rule="probs",
  )


def kappa_label(a, b, labels):
  """Agreement of labels against the agreement that accuracies let expect."""
  p, q = np.mean(a == labels), np.mean(b == labels)
  expected = p * q + (1 - p) * (1 - q)
  return (np.mean(a == b) - expected) / (1 - expected)


def expected_row(logits, labels):
  """A row in float64."""
  probs = softmax(logits.astype(np.float64), -1)
  guesses = probs.argmax(-1)
  right = guesses == labels
  ensemble = np.mean(probs.mean(0).argmax(-1) == labels)
  member, best = right.mean(), right.mean(1).max()
  row = {
    "member_accuracy": member,
    "best_member_accuracy": best,
    "ensemble_accuracy": ensemble,
    "error_consistency": None,
    "cohens_kappa_label": None,
    "jensen_shannon_divergence": None,
    "gain_over_best": ensemble - best,
    "gain_over_mean": ensemble - member,
    "error_reduction_rate": 1 - (1 - ensemble) / (1 - member),
  }
  pairs = list(itertools.combinations(range(len(logits)), 2))
  if pairs:
    divergence = [np.mean(jensenshannon(probs[i], probs[j], base=2, axis=1) ** 2) for i, j in pairs]
    row["error_consistency"] = np.mean([cohen_kappa_score(right[i], right[j]) for i, j in pairs])
    row["cohens_kappa_label"] = np.mean(
      [kappa_label(guesses[i], guesses[j], labels) for i, j in pairs]
    )
    row["jensen_shannon_divergence"] = np.mean(divergence)
  return row


def assert_row(found, expected):
  assert list(found) == list(expected)
  for name, value in expected.items():
    assert found[name] == (value if value is None else pytest.approx(value, abs=2e-6)), name


def corrupt(name, images, severity):
  """By the program that the study runs, so that no grey level is rounded the other way."""
  return corruptions.corrupt(name, images, severity, SEED, batch_size=BATCH)


def conditions():
  return list(itertools.product(NAMES, SEVERITIES))


def test_every_condition_is_a_loop_over_members(measured, members, data):
  images, labels = data
  result, _ = measured
  names = [(row["corruption"], row["severity"]) for row in result["conditions"]]
  assert names == conditions()
  accuracies = []
  for row in [result["clean"], *result["conditions"]]:
    corrupted = images
    if "corruption" in row:
      corrupted = corrupt(row["corruption"], images, row["severity"])
    logits = logits_of(members, corrupted)
    right = (logits.argmax(-1) == labels).mean(1)
    assert row["members"] == pytest.approx(dict(zip(("m0", "m1", "m2"), right, strict=True)))
    for sequence, chosen in SEQUENCES.items():
      order = [int(name[1]) for name in chosen]
      assert_row(row["sequences"][sequence], expected_row(logits[order], labels))
    accuracies.append(tuple(right))
  assert len(set(accuracies)) > 3  # Conditions can be told apart.


def test_severity_0_is_clean(measured):
  result, _ = measured
  for row in result["conditions"]:
    if row["severity"] == 0:
      assert row["members"] == result["clean"]["members"]
      assert row["sequences"] == result["clean"]["sequences"]


def test_the_result_is_json_and_says_what_it_is(measured):
  result, _ = measured
  assert json.loads(json.dumps(result, allow_nan=False)) == result
  assert result["severities"] == [0, 2.5, 5] and result["seed"] == SEED
  assert result["rule"] == "probs"
  assert result["corruptions"][2] == {"name": "jpeg", "title": "JPEG"}


def test_pictures_are_the_first_image(measured, data):
  images, _ = data
  arrays = measured[1]
  np.testing.assert_array_equal(arrays["original"], images[0])
  assert arrays["images"].shape == (3, 3, *SHAPE) and arrays["images"].dtype == np.uint8
  for (i, name), (j, severity) in itertools.product(enumerate(NAMES), enumerate(SEVERITIES)):
    expected = corrupt(name, images, severity)[0]
    np.testing.assert_array_equal(arrays["images"][i, j], expected)


def short(members, data, **changes):
  """Two corruptions at one severity."""
  options = dict(names=NAMES[:2], severities=(5,), seed=SEED, batch_size=BATCH, rule="probs")
  return robustness(members, SEQUENCES, *data, **(options | changes))


def assert_alike(found, wanted):
  """The same rows by programs of other shapes.

  One prediction of all may be so near to a tie, or a grey level to the middle of two, that it
  falls the other way. Then only the probabilities of that row are compared further.
  """
  smooth = "jensen_shannon_divergence"
  other, near = 0, functools.partial(pytest.approx, abs=1e-4)
  assert [(row["corruption"], row["severity"]) for row in found] == [
    (row["corruption"], row["severity"]) for row in wanted
  ]
  for row, expected in zip(found, wanted, strict=True):
    alike = row["members"] == near(expected["members"])
    for name in SEQUENCES:
      own, other_own = row["sequences"][name], expected["sequences"][name]
      assert own[smooth] == near(other_own[smooth])
      assert not alike or own == near(other_own)
    if not alike:
      assert row["members"] == pytest.approx(expected["members"], abs=1.5 / COUNT)
      other += 1
  assert other <= 1


def test_batches_and_members_given_twice_change_nothing(measured, members, data):
  wanted = [row for row in measured[0]["conditions"][:6] if row["severity"] == 5]
  for change in (dict(batch_size=100), dict(batch_size=17)):
    assert_alike(short(members, data, **change)[0]["conditions"], wanted)
  assert_alike(short([*members, members[0]], data)[0]["conditions"], wanted)
  with pytest.raises(AssertionError):
    assert_alike(short(members, data, seed=SEED + 1)[0]["conditions"], wanted)


def test_the_seed_counts_for_noise_alone(measured, members, data):
  other = short(members, data, seed=SEED + 1)[1]["images"]
  assert np.array_equal(other[0, 0], measured[1]["images"][0, 2])
  assert not np.array_equal(other[1, 0], measured[1]["images"][1, 2])


def test_preprocess_is_for_all_members(measured, members, data):
  found = short(members, data, preprocess=preprocess)[0]["clean"]["members"]
  clean = measured[0]["clean"]["members"]
  assert found["m0"] == clean["m0"] and found["m1"] == clean["m1"]  # The same program.
  logits = forward(members[2].model, members[2].variables, preprocess(data[0]))
  assert found["m2"] == pytest.approx(np.mean(logits.argmax(-1) == data[1]))


@pytest.fixture(scope="module")
def guesses():
  """Logits of three members of about 70 % accuracy, and labels."""
  rng = np.random.default_rng(1)
  labels = rng.integers(0, 5, 300)
  logits = rng.normal(size=(3, 300, 5)) + 2 * np.eye(5)[labels]
  return logits.astype(np.float32), labels


@pytest.mark.parametrize("rule", ["probs", "logits"])
def test_a_row_by_each_rule(guesses, rule):
  logits, labels = guesses
  row = ensemble_row(logits, labels, rule, 0)
  combined = softmax(logits, -1).mean(0) if rule == "probs" else logits.mean(0)
  assert row["ensemble_accuracy"] == pytest.approx(np.mean(combined.argmax(-1) == labels))
  assert row["gain_over_best"] > 0 and 0 < row["error_reduction_rate"] < 1


def test_votes_that_tie_are_drawn(guesses):
  logits, labels = guesses
  rows = [ensemble_row(logits[:2], labels, "vote", seed) for seed in range(4)]
  assert len({row["ensemble_accuracy"] for row in rows}) > 1
  drawn = np.mean([row["gain_over_mean"] for row in rows])  # A draw is as good as a member.
  assert drawn == pytest.approx(0, abs=0.03)


def test_what_is_not_defined_is_none(guesses):
  logits, labels = guesses
  perfect = ensemble_row(
    10 * np.eye(5, dtype=np.float32)[labels][None].repeat(3, 0), labels, "probs", 0
  )
  assert perfect["error_consistency"] is None and perfect["cohens_kappa_label"] is None
  assert perfect["error_reduction_rate"] is None and perfect["ensemble_accuracy"] == 1
  assert perfect["jensen_shannon_divergence"] == 0 == perfect["gain_over_best"]
  single = ensemble_row(logits[:1], labels, "probs", 0)
  assert single["error_consistency"] is single["jensen_shannon_divergence"] is None
  assert single["gain_over_best"] == single["error_reduction_rate"] == 0


def test_bad_arguments_are_named(members, data):
  images, labels = data
  with pytest.raises(UserError, match="did you mean 'fog'"):
    short(members, data, names=("fogg",))
  with pytest.raises(UserError, match="severity=-1"):
    short(members, data, severities=(1, -1))
  with pytest.raises(ValueError, match="batch_size=0"):
    short(members, data, batch_size=0)
  with pytest.raises(ValueError, match="labels: shape"):
    short(members, (images, labels[:-1]))
  with pytest.raises(ValueError, match="labels: dtype"):
    short(members, (images, labels / 2))
  with pytest.raises(ValueError, match="images: dtype"):
    short(members, (images / 255, labels))
  with pytest.raises(ValueError, match=r"sequences\['all'\]"):
    short(members[:2], data)
  with pytest.raises(ValueError, match="members: none"):
    short([], data)
  with pytest.raises(ValueError, match="rule="):
    short(members, data, rule="loudest")
