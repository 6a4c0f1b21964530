"""Whatever a field of a config is set to, it is refused in one sentence or can be used."""

import math
import numbers

import ml_collections
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissim_jax.config import blocks, source
from dissim_jax.config.check import check_config
from dissim_jax.config.values import get, plain
from dissim_jax.errors import UserError

FIELDS = blocks.fields()
NUMBERS = st.one_of(
  st.sampled_from([0, -1, 1, 2, 7, 2**31 - 1, 2**31, 2**63, 10**30, 0.0, -0.0, 1e-300, 0.5, 1.0]),
  st.sampled_from([math.nan, math.inf, -math.inf, 1e9, 1e300, -1e-300]),
  st.integers(-3, 40),
  st.floats(-2, 2),
)
TEXTS = st.one_of(
  st.sampled_from(["", "all", "none", "None", "digits", "fog,fog", "a,b", "resnet8", "member_0"]),
  st.sampled_from(["member_0:member_1", "8/255", "nan", "1e9", "(1", "()", "\u202e", "x" * 300]),
  st.text(max_size=8),
)
PARTS = st.one_of(NUMBERS, TEXTS, st.booleans(), st.none())
VALUES = st.one_of(
  PARTS,
  st.lists(PARTS, max_size=4),
  st.lists(st.integers(0, 6), max_size=4),
  st.lists(st.sampled_from(["fog", "lines", "gncl", "balanced", "resnet8"]), max_size=3),
  st.dictionaries(st.text("abc", min_size=1, max_size=3), PARTS, max_size=2),
)
TESTED = settings(derandomize=True, deadline=None, max_examples=300, database=None)


def refused(error):
  """The complaint is one sentence of a line."""
  assert str(error.value) and "\n" not in str(error.value)


def is_sense(value):
  """Whether a value could be used by anything: finite, not negative, nothing twice."""
  if isinstance(value, bool | str) or value is None:
    return True
  if isinstance(value, numbers.Real):
    return math.isfinite(value)
  return all(map(is_sense, value))


def set_plainly(config, field, value):
  """Sets a field as a config file could, without a look at its type."""
  values = plain(config)
  block, _, last = field.rpartition(".")
  (get(values, block) if block else values)[last] = value
  return ml_collections.ConfigDict(values)


@TESTED
@given(field=st.sampled_from(list(FIELDS)), value=VALUES)
def test_any_value_of_any_field_is_refused_or_makes_sense(field, value):
  config = set_plainly(blocks.config(), field, value)
  try:
    check_config(config)
  except UserError as error:
    assert str(error) and "\n" not in str(error) and field.partition(".")[0] in str(error)
  else:
    used = get(config, field)
    assert is_sense(used)
    known = FIELDS[field]
    if used is not None and known.kind in (int, float):
      assert used >= 0 or field in ("data.mean", "data.std")
    if known.of_texts:
      assert all(isinstance(part, str) for part in used)


@TESTED
@given(values=st.dictionaries(st.sampled_from(list(FIELDS)), VALUES, min_size=2, max_size=6))
def test_several_fields_at_once(values):
  config = blocks.config()
  for field, value in values.items():
    config = set_plainly(config, field, value)
  try:
    check_config(config)
  except UserError as error:
    assert str(error) and "\n" not in str(error)


@TESTED
@given(field=st.sampled_from(list(FIELDS)), text=st.one_of(TEXTS, PARTS.map(str)))
def test_any_text_of_a_command_line_is_refused_or_comes_back(field, text):
  """What is read can be said again, and is the same value."""
  config = blocks.config()
  try:
    source.read(config, field, text)
    check_config(config)
  except UserError as error:
    assert str(error) and "\n" not in str(error)
    return
  again = blocks.config()
  source.assign(again, field, get(plain(config), field))
  assert plain(again) == plain(config)


@pytest.mark.parametrize(
  "block",
  [
    "data",
    "augment",
    "model",
    "ensemble",
    "objective",
    "dissim",
    "dissim.options",
    "dissim.options.expvar",
    "dissim.projection",
    "dissim.projection.optimizer",
    "optimizer",
    "train",
    "evaluate",
    "corruption",
    "transfer",
    "attribution",
    "features",
    "stitch",
  ],
)
@pytest.mark.parametrize("value", [{}, None, 3, "x", [1], {"name": {}}])
def test_a_block_that_is_none_is_refused(block, value):
  with pytest.raises(UserError) as error:
    check_config(set_plainly(blocks.config(), block, value))
  refused(error)


@pytest.mark.parametrize(
  "field, value, told",
  [
    ("dissim.projection.optimizer.learning_rate", -1.0, "must be a finite number of at least 0"),
    ("dissim.projection.optimizer.momentum", 7.0, "must be a number in 0..1"),
    ("dissim.projection.optimizer.weight_decay", math.nan, "must be a finite number"),
    ("dissim.options.expvar.alpha", 0.0, "must be a finite number above 0"),
    ("dissim.options.rbfcka.bandwidth", math.nan, "must be a finite number above 0"),
    ("model.width_multiplier", 1e9, "must be a number above 0 and up to 100"),
    ("model.width_multiplier", 0.0, "must be a number above 0"),
    ("ensemble.size", 10**5, "must be at most 1000"),
    ("train.epochs", 2**63, "must be at most 2147483647"),
    ("corruption.names", ("fog", "fog"), "'fog' is named twice"),
    ("dissim.taps", (2, 2), "2 is named twice"),
    ("data.std", (0.0,), "must be a finite number above 0"),
    ("optimizer.learning_rate", math.inf, "must be a finite number of at least 0"),
    ("seed", -1, "must be a whole number of at least 0"),
  ],
)
def test_ranges(field, value, told):
  config = blocks.config()
  source.assign(config, field, value)
  with pytest.raises(UserError) as error:
    check_config(config)
  assert str(error.value).startswith(f"{field}=") and told in str(error.value)


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_has_a_meaning_and_an_allowed_default(field):
  own = FIELDS[field]
  assert own.doc and own.affects in ("images", "training", "speed", "measuring", "seed", "command")
  own.verify(field, own.default)
