"""A first tap that is linear in the image is refused where it cannot be made dissimilar."""

import dataclasses
import logging
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from dissim_jax import experiment
from dissim_jax.errors import UserError
from dissim_jax.experiment import runner
from dissim_jax.experiment.linear_taps import check_first_tap, first_tap, pixels_seen
from dissim_jax.files.run import read_run
from dissim_jax.members.plan import make_plan
from dissim_jax.models import MODELS
from dissim_jax.pages import findings
from dissim_jax.similarity import MEASURES, PENALTIES, expvar, moments, solve_affine
from tests import tiny
from tests.pages.test_report import make_run, save_metrics

GREY, COLOUR = (8, 8, 1), (10, 12, 3)
DATA = SimpleNamespace(image_shape=GREY, num_classes=10)
tiny.register()


def network(channels, name="tiny", **fields):
  return MODELS[name](10, width_multiplier=channels / 16, **fields)


def plans_of(folder, *, channels=16, metric="expvar", taps=(0,), size=2, **fields):
  """A config, and the plans of its members."""
  config = tiny.get_config()
  config.model.name = "tiny"
  config.model.width_multiplier = channels / 16
  config.ensemble.size, config.dissim.metric, config.dissim.taps = size, metric, taps
  config.update_from_flattened_dict(fields)
  return config, make_plan(config, folder)[0]


@pytest.mark.parametrize(
  "shape, channels, others, determined",
  [
    (GREY, 16, [16], True),
    (GREY, 16, [9], True),  # As many channels as a position sees pixels.
    (GREY, 16, [8], False),
    (GREY, 4, [8], False),
    (GREY, 4, [8, 8], True),  # Together.
    (COLOUR, 16, [16], False),  # 27 values.
    (COLOUR, 16, [28], True),
    (COLOUR, 16, [16, 11], True),
    (COLOUR, 16, [16, 10], False),
  ],
)
def test_as_many_channels_as_pixels_determine_a_stem(shape, channels, others, determined):
  found = first_tap(network(channels), [network(other) for other in others], shape)
  assert found.linear and found.channels == sum(others)
  # A share of 1 / 27 is a single dimension; the fit is of float32.
  assert (found.left_over < 1e-9) if determined else (0.005 < found.left_over < 1)


def test_teachers_apart_have_to_determine_it_each():
  others = [network(16), network(8)]
  assert first_tap(network(16), others, GREY).left_over < 1e-9
  assert first_tap(network(16), others, GREY, apart=True).left_over > 0.005


def test_pixels_that_a_position_sees():
  assert pixels_seen(network(4), COLOUR) == 27
  assert pixels_seen(MODELS["vit_mini"](10), GREY) == 16  # Patches of 4x4.


@pytest.mark.parametrize(
  "name, fields, linear, determined",
  [
    ("convmixer_mini", {}, True, True),
    ("vit_mini", {}, True, True),
    ("convnext_mini", {}, False, False),  # Layer norm,
    ("resnet8", {"stem": 224}, False, False),  # max-pooling.
  ],
)
def test_linear_or_not(name, fields, linear, determined):
  model = MODELS[name](10, **fields)
  shape = (32, 32, 1) if fields else GREY
  found = first_tap(model, [model], shape)
  assert (found.linear, found.left_over < 1e-5) == (linear, determined)


def test_a_teacher_that_sees_other_pixels_does_not_determine_it():
  """Patches of 2x2 against a convolution of 3x3, and the other way around."""
  patches, stem = MODELS["convmixer_mini"](10), network(16)
  for model, other in ((stem, patches), (patches, stem)):
    found = first_tap(model, [other], GREY)
    assert found.linear and found.left_over > 0.1


@pytest.mark.parametrize("channels, determined", [(16, True), (4, False)])
def test_the_game_says_the_same_of_digits(channels, determined):
  """ExpVar of the best projection between two stems, on real images."""
  images = (load_digits().images[:64, ..., None] / 8 - 1).astype(np.float32)
  model = network(channels)

  @jax.jit
  def similarity(*variables):
    old, new = (model.apply(each, images, 0, method="taps")[0] for each in variables)
    weights, bias = solve_affine(moments(old, new), ridge=1e-6)
    return expvar(new, old @ weights + bias)

  found = similarity(*(tiny.drawn(model, GREY, seed) for seed in (0, 1)))
  assert (float(found) > 0.999) == determined


def test_measures_that_allow_for_a_linear_map():
  """The claim of `up_to_linear`, of two representations of which one is made from the other."""
  rng = np.random.default_rng(0)
  old = rng.normal(size=(64, 5)).astype(np.float32)
  new = old @ rng.normal(size=(5, 4)).astype(np.float32) + 1
  names = [name for name in PENALTIES if MEASURES[name].samples == "position"]

  @jax.jit  # All in one program, which compiles faster than each operation by itself.
  def values(old, new):
    weights, bias = solve_affine(moments(old, new), ridge=0.0)
    others = [old @ weights + bias if MEASURES[name].aligned else old for name in names]
    return [MEASURES[name].function(new, other) for name, other in zip(names, others, strict=True)]

  found = {name: bool(value > 0.999) for name, value in zip(names, values(old, new), strict=True)}
  assert found == {name: MEASURES[name].up_to_linear for name in names}
  assert any(found.values()) and not all(found.values())
  # Those that compare examples with each other see distances, which a linear map changes.
  assert not any(MEASURES[name].up_to_linear for name in set(PENALTIES) - set(names))


@pytest.mark.parametrize(
  "metric, taps",
  [("expvar", (0,)), ("expvar", (2, 0)), ("l2corr_squared", (0,)), ("cca", (0,)), ("r2", (0,))],
)
def test_it_is_refused_in_one_sentence(metric, taps, tmp_path):
  config, plans = plans_of(tmp_path / "run", metric=metric, taps=taps)
  with pytest.raises(UserError) as error:
    check_first_tap(config, DATA, plans)
  assert str(error.value) == (
    f"dissim.taps={list(taps)}: tap 0 of tiny is linear in the image, and the 16 channels of "
    "member_0 there determine all 9 pixel values that a position of it sees, so member_1 cannot be "
    "dissimilar there; choose among taps 1..2"
  )


@pytest.mark.parametrize(
  "metric, taps, fields",
  [
    ("lincka", (0,), {}),
    ("procrustes", (0,), {}),
    ("expvar", (1, 2), {}),
    ("expvar", (0,), {"dissim.weight": 0.0}),
    ("expvar", (0,), {"objective.name": "distill"}),
  ],
)
def test_what_can_be_dissimilar_is_not(metric, taps, fields, tmp_path):
  config, plans = plans_of(tmp_path, metric=metric, taps=taps, **fields)
  assert check_first_tap(config, DATA, plans) == []


def test_a_stem_with_room_is_told_until_the_teachers_fill_it(tmp_path):
  config, plans = plans_of(tmp_path, channels=6)
  (told,) = check_first_tap(config, DATA, plans)
  assert (
    told.startswith(
      "dissim.taps=[0]: tap 0 of tiny is linear in the image, and the 6 channels of member_0 there "
      "predict R² = 0."
    )
    and "\n" not in told
  )
  config, plans = plans_of(tmp_path, channels=6, size=3)
  with pytest.raises(UserError, match="the 12 channels of member_0 and member_1 .* so member_2"):
    check_first_tap(config, DATA, plans)
  # One by one they leave something over.
  config, plans = plans_of(tmp_path, channels=6, size=3, metric="r2")
  config.dissim.combine = "mean"
  assert len(check_first_tap(config, DATA, plans)) == 2


def test_a_member_that_was_begun_goes_on(tmp_path):
  config, plans = plans_of(tmp_path)
  plans[1].directory.mkdir(parents=True)
  (told,) = check_first_tap(config, DATA, plans)
  assert "cannot be dissimilar there" in told
  reused = [plans[0], dataclasses.replace(plans[1], reused=True)]
  assert check_first_tap(config, DATA, reused) == []


def test_nothing_is_trained_or_written(tmp_path):
  config, _ = plans_of(tmp_path)
  workdir = tmp_path / "run"
  with pytest.raises(UserError, match="cannot be dissimilar"):
    experiment.run(config, workdir)
  assert not workdir.exists()


def test_what_is_told_stands_in_the_report(tmp_path, monkeypatch, caplog):
  config, _ = plans_of(tmp_path, channels=6)
  monkeypatch.setattr(runner, "_train_missing", lambda *_: {})
  monkeypatch.setattr(runner, "evaluate", lambda *_: {})
  with caplog.at_level(logging.WARNING):
    metrics = experiment.run(config, tmp_path / "run")
  (note,) = metrics["notes"]
  assert note in caplog.text
  shown = make_run(tmp_path / "shown", count=3, taps=(1,))
  for notes in ([note], []):
    save_metrics(tmp_path / "shown", shown | {"notes": notes})
    found = findings.sentences(read_run(str(tmp_path / "shown")))
    assert [sentence for sentence in found if "is linear in the image" in sentence] == [
      f"Note: {note}." for note in notes
    ]
