"""Members whose activations are not finite: what is NaN, what is not, and what stderr says."""

import functools
import types

import jax
import numpy as np
import pytest

from dissim_jax.data.augment import normalise
from dissim_jax.errors import UserError
from dissim_jax.experiment import measure
from dissim_jax.members.member import Member, Subject
from dissim_jax.models import MODELS, init_variables
from dissim_jax.similarity import MEASURES
from dissim_jax.studies.similarity import all_pairs
from dissim_jax.studies.similarity import measure as similarity_measure
from dissim_jax.studies.similarity import page as similarity_page
from dissim_jax.studies.similarity.choice import ChosenMeasure

SHAPE, BROKEN = (8, 8, 1), 2  # of the second member's taps 0..3
WARNING = (
  "warning: second, taps 2, 3: the activations hold NaN or inf; measures of these taps are NaN\n"
)


@pytest.fixture(scope="module")
def members():
  """Two members; one channel of the second's tap `BROKEN`, and all that follows, is NaN."""
  model = MODELS["tiny_deep"](4, width_multiplier=0.25)
  variables = [init_variables(model, jax.random.key(i), SHAPE) for i in range(2)]
  bias = lambda path: f"layers_{BROKEN}" in str(path) and "bias" in str(path)  # noqa: E731
  variables[1]["params"] = jax.tree_util.tree_map_with_path(
    lambda path, x: x.at[1].set(np.nan) if bias(path) else x, variables[1]["params"]
  )
  return [
    Member(name, model, own, (0.5,), (0.3,))
    for name, own in zip(("first", "second"), variables, strict=True)
  ]


@pytest.fixture(scope="module")
def images():
  return np.random.default_rng(0).integers(0, 256, (3, 10, *SHAPE), np.uint8)


def pattern(values):
  """Which entries are NaN, as rows of 0 and 1."""
  return np.isnan(values).astype(int).tolist()


def test_an_evaluation_names_the_taps_and_spoils_no_others(members, images, capsys):
  preprocess = functools.partial(normalise, mean=(0.5,), std=(0.3,))
  _, arrays = similarity_measure.measure(members, images.reshape(-1, *SHAPE), preprocess, 10)
  assert capsys.readouterr().err == WARNING
  assert pattern(arrays["lincka/first/first"]) == [[0] * 4] * 4
  assert pattern(arrays["lincka/first/second"]) == [[0, 0, 1, 1]] * 4
  assert pattern(arrays["lincka/second/second"]) == [[0, 0, 1, 1]] * 2 + [[1] * 4] * 2
  for name in ("lincka_position/first/second", "r2/first/second", "r2/second/first"):
    assert pattern(arrays[name]) == [0, 0, 1, 1]


@pytest.mark.parametrize("names", [("lincka", "r2"), ("jaccard",), ("procrustes",)])
def test_a_comparison_names_the_taps_and_spoils_no_others(names, members, images, capsys):
  subjects = [Subject(member, (3, 1, 2)) for member in members]
  chosen = [ChosenMeasure(MEASURES[n], (("k", 3),) if n == "jaccard" else ()) for n in names]
  arrays = all_pairs.compare(subjects, chosen, images)
  assert capsys.readouterr().err == WARNING.replace("2, 3", "3, 2")
  for name in names:
    # Taps 3 and 1, and 2 and 1, are of two sizes.
    sizes = name in ("r2", "procrustes")
    own, other = arrays[f"{name}/first/first"], arrays[f"{name}/first/second"]
    assert pattern(own.diagonal()) == [0, 0, 0]
    assert pattern(other) == [[1, 1 if sizes else 0, 1], [1, 0, 1], [1, 1 if sizes else 0, 1]]
    assert pattern(arrays[f"{name}/second/second"].diagonal()) == [1, 0, 1]


def test_a_table_of_values_that_are_missing_has_dashes():
  """A comparison that left nothing but NaN."""
  facts = {
    "measures": [{"name": "cca", "low": 0.0, "high": 1.0}],
    "members": [{"name": "a", "taps": [0]}, {"name": "b", "taps": [0]}],
  }
  found = similarity_page.Comparison(facts, {("cca", "a", "b"): np.full((1, 1), np.nan)})
  row = similarity_page.summary(found)[0]
  assert similarity_page.number(row["mean"]) == "–" and row["lowest"][0] == ""
  assert similarity_page.colour_range(found, facts["measures"][0]) == (0.0, 1.0)


def test_predictions_that_are_none_end_in_a_sentence():
  plans = [
    types.SimpleNamespace(name=name, directory=f"run/{name}", reused=name == "b") for name in "ab"
  ]
  logits = np.zeros((2, 5, 3), np.float32)
  logits[:, 0, 1] = -np.inf  # Not a class at all, which is a prediction.
  measure._check_logits(plans, logits)
  logits[0, 3] = np.nan
  with pytest.raises(UserError, match=r"^a: the logits of 1 of 5 test images .* 'run/a' it is"):
    measure._check_logits(plans, logits)
  logits[0, 3], logits[1, :2, 0] = 0.0, np.inf
  with pytest.raises(UserError, match=r"^b: the logits of 2 of 5 .* cannot be measured$"):
    measure._check_logits(plans, logits)
