"""The command that measures what depends on the device: its grid, its clock, one tiny run."""

import itertools
import json
import math

import flax.linen as nn
import jax
import numpy as np
import pytest
from absl import flags

from benchmarks.device import __main__ as program
from benchmarks.device import check, cka, measuring, timing, training
from dissim_jax import command_line
from dissim_jax.corruptions import CORRUPTIONS
from dissim_jax.models import MODELS, Architecture, Design, Layered
from dissim_jax.models.resnet import Head, Ops


def run(*arguments):
  """The command in this process; its exit code."""
  values = flags.FlagValues()
  holders = program.define_flags(values)
  command_line.parse(["device", *arguments], values)
  try:
    command_line.guarded(lambda argv: program.main(argv, holders))(["device"])
  except SystemExit as error:
    return error.code
  return 0


class Pointwise(nn.Module):
  """ReLU and a dense layer at every place: the layer that is compiled fastest."""

  @nn.compact
  def __call__(self, x, train):
    return nn.Dense(4)(nn.relu(x))


def two_layers(num_classes, *, width_multiplier, dtype, axis_name, stem):
  """The smallest network with two taps."""
  del width_multiplier, stem
  return Layered((Pointwise(), Pointwise()), Head(num_classes, Ops(dtype, axis_name)))


@pytest.fixture
def network(monkeypatch):
  """The name of a network."""
  design = Design(two_layers, MODELS["tiny"].design.describe)
  entry = Architecture(name="two_layers", label="two_layers", code=design, taps=2)
  monkeypatch.setitem(MODELS, "two_layers", entry)
  return "two_layers"


def test_tiny_run_has_every_row_with_a_positive_number(network, tmp_path, capsys):
  out = tmp_path / "new" / "device.json"
  # However busy the machine is, nothing is left out.
  assert run("--tiny", f"--models={network}", "--repeats=1", "--seconds=1e9", f"--out={out}") == 0
  printed, found = capsys.readouterr().out, json.loads(out.read_text())
  for name in ("device", "platform", "dtype", "batch", "python", "jax", "jaxlib", "flax"):
    assert f"{name} {found['facts'][name]}" in printed
  assert {row["part"] for row in found["timings"]} == set(program.PARTS) - {"check"}
  here = {row["name"]: row for row in found["timings"]}
  assert here.pop("pytorch-cka")["note"] in ("", "not installed")
  for name, row in here.items():
    assert all(0 < second < math.inf for second in row["seconds"]) and row["seconds"], row
    assert 0 < row["to_baseline"] < math.inf and not row["note"]
    assert f"| {name} |" in printed
  assert len(found["checks"]) == 13
  assert all(item["error"] <= item["allowed"] for item in found["checks"])
  assert "the projection" in found["notes"][0] and "All 2 of 20 images" in found["notes"][1]


def test_full_size_has_all_networks_measures_and_numbers_of_earlier_members():
  given = {"tiny": False, "config": None, "models": [], "side": 32}
  setting = program.make_setting(given)
  assert setting.models == ("resnet18", "resnet34") and setting.image_shape == (32, 32, 3)
  assert setting.taps("resnet34") == (8,) and setting.taps("resnet18") == (4,)
  groups = list(training.members(setting))
  expected = ["T"] + [
    f"U against {n}, {penalty}"
    for n, penalty in itertools.product(
      (1, 3), ("ExpVar, learned", "ExpVar, closed form", "LinCKA")
    )
  ]
  assert [[case.name for case in group] for group in groups] == [
    [f"{model}: {name}" for name in expected] for model in setting.models
  ]
  assert [group[0].gflop for group in groups] == [3.33, 6.96]
  assert {case.batch for group in groups for case in group} == {128}
  assert [len(group) for group in measuring.corruption(setting)] == [len(CORRUPTIONS)]
  assert next(measuring.all_pairs(setting))[0].name == "17 x 17 taps"


class Clock:
  """Time that passes only in programs."""

  def __init__(self, monkeypatch):
    self.now = 0.0
    monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)
    monkeypatch.setattr(timing.time, "monotonic", lambda: self.now)

  def case(self, name, *seconds, images=10):
    """Takes the seconds given, one after the other: the first to be compiled."""
    taken = iter(seconds)

    def program():
      self.now += next(taken)

    return timing.Case(name, lambda: program, images, 5, "uint8", 2.0)


def test_programs_are_timed_in_turns_and_compared_in_each_round(monkeypatch):
  clock = Clock(monkeypatch)
  cases = [clock.case("a", 50, 1, 2, 4), clock.case("b", 60, 3, 2, 12, images=20)]
  a, b = timing.interleaved("p", cases, timing.Budget(1e6), 3, lambda _: None)
  assert a.seconds == [1, 2, 4] and b.seconds == [3, 2, 12]
  # An image takes 1.5, 0.5 and 1.5 times as long; the medians would say 0.75.
  assert b.to_baseline == pytest.approx(1.5)
  assert a.images_per_second == 5 and a.milliseconds() == 1000 and a.milliseconds(min) == 500


def test_what_fails_or_comes_too_late_is_told_in_its_row(monkeypatch):
  clock, told = Clock(monkeypatch), []

  def missing():
    raise timing.NotHereError("not installed")

  def full():
    raise MemoryError("no room\nand more")

  cases = [
    clock.case("first", 4, 1, 1, 1),
    timing.Case("full", lambda: full, 1, 1, "uint8"),
    timing.Case("missing", missing, 1, 1, "uint8"),
    clock.case("last", 5, 2, 2),
    clock.case("late", 1, 1),
  ]
  rows = timing.interleaved("p", cases, timing.Budget(9), 5, told.append)
  assert [row.note for row in rows] == [
    "",
    "failed: MemoryError: no room",
    "not installed",
    "",
    timing.LEFT_OUT,
  ]
  assert [row.failed for row in rows] == [False, True, False, False, False]
  assert [row.seconds for row in rows] == [[1], [], [], [2], []]  # One round is always made.
  assert len(told) == 5


@pytest.mark.parametrize(
  "item, code",
  [
    (check.Check("c", 1e-3, 1e-4), 0),
    (check.Check("c", 1e-3, None, timing.LEFT_OUT), 0),
    (check.Check("c", 1e-3, 2e-3), 1),
    (check.Check("c", 1e-3, math.nan), 1),
    (check.Check("c", 1e-3, None, "failed: ValueError"), 1),
  ],
)
def test_exit_code_is_1_where_a_comparison_is_wrong(monkeypatch, capsys, item, code):
  monkeypatch.setattr(check, "run", lambda *_: [item])
  assert run("--tiny", "--parts=check") == code
  assert "| c |" in capsys.readouterr().out


def test_comparisons_see_short_numbers():
  """The negative control: of numbers in bfloat16 every measure is wrong."""

  exact = check.pair()
  shortened = [np.asarray(z.astype("bfloat16"), np.float32) for z in exact]
  for name, (ours, oracle) in check.MEASURES.items():
    assert abs(float(jax.jit(ours)(*shortened)) - oracle(*exact)) > 1e-5, name


def test_float64_reference_of_all_pairs_is_the_definition():
  """Eq. 13 of Wald et al. 2023 by loops, for one pair of one batch."""
  x, y = (np.random.default_rng(i).normal(size=(6, 3)) + 1 for i in range(2))

  def hsic(k, m):
    n, k, m = len(k), k * (1 - np.eye(len(k))), m * (1 - np.eye(len(m)))
    ones = np.ones(n)
    last = 2 / (n - 2) * ones @ k @ m @ ones
    middle = (ones @ k @ ones) * (ones @ m @ ones) / (n - 1) / (n - 2)
    return (np.trace(k @ m) + middle - last) / n / (n - 3)

  k, m = x @ x.T, y @ y.T
  expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
  np.testing.assert_allclose(cka.reference([[x, y]]), [[expected]], rtol=1e-9)


@pytest.mark.parametrize(
  "arguments, told",
  [
    (("--parts=chek",), "--parts: there is no 'chek', did you mean 'check'?"),
    (("--models=resnet43",), "--models: there is no 'resnet43'"),
  ],
)
def test_wrong_flags_are_told_in_a_sentence(capsys, arguments, told):
  assert run(*arguments) == 2
  assert told in capsys.readouterr().err
