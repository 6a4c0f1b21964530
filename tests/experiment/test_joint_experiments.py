"""Whole experiments with members trained together, and what is measured of them."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from dissim_jax import experiment
from dissim_jax.config.check import check_config
from dissim_jax.config.ensemble import member_names
from dissim_jax.distributed.checkpoint import load_weights
from dissim_jax.errors import UserError
from dissim_jax.experiment import measure
from dissim_jax.members.find import find_members
from dissim_jax.members.plan import make_plan
from dissim_jax.pages.run import write_report
from dissim_jax.train import joint
from dissim_jax.train.loop import TrainingDivergedError
from tests import tiny

TINY = {
  "model.name": "tiny",
  "data.validation": 20,
  "objective.name": "gncl",
  "ensemble.size": 2,
  "ensemble.compare": ("balanced",),
  "train.epochs": 2,
  "train.checkpoint_every_epochs": 1,
  "corruption.names": ("gaussian_noise",),
  "corruption.severities": (0, 5),
  "attribution.method": "saliency",
  "attribution.images": 40,
  "features.shares": (0.0, 1.0),
  "features.dimensions": (2,),
  "features.draws": 1,
}
NAMES = ["member_0", "member_1", "independent_0", "independent_1", "balanced_0", "balanced_1"]


def tiny_config(**overrides):
  config = tiny.get_config()
  config.update_from_flattened_dict(
    TINY | {key.replace("__", "."): value for key, value in overrides.items()}
  )
  return config


def mixed_config(**overrides):
  """Members of two architectures."""
  return tiny_config(ensemble__models=("tiniest", "stem_alone"), **overrides)


def read(path):
  return json.loads(path.read_text())


def weights(directory):
  return [np.asarray(x) for x in jax.tree.leaves(load_weights(directory / "weights", None))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """Two GNCL members, two independent ones, two of the balanced loss; of two architectures."""
  workdir = tmp_path_factory.mktemp("joint") / "finished"
  return workdir, experiment.run(mixed_config(), workdir, "a command")


@pytest.mark.usefixtures("undrawn")
def test_run_leaves_members_curves_and_measurements(finished):
  workdir, metrics = finished
  assert [member["name"] for member in metrics["members"]] == NAMES == member_names(mixed_config())
  assert [member["model"] for member in metrics["members"]] == ["tiniest", "stem_alone"] * 3
  assert metrics["sequences"] == {
    "baseline": NAMES[2:4],
    "gncl": NAMES[:2],
    "balanced": NAMES[4:],
  }
  for group in ("gncl", "balanced"):
    rows = [json.loads(line) for line in (workdir / group / "metrics.jsonl").open()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"train_ensemble_accuracy", "train_diversity", "validation_ensemble_accuracy"} <= set(
      rows[0]
    )
  facts = read(workdir / "balanced_1" / "member.json")
  assert facts["objective"] == "balanced" and facts["objective_weight"] == 0.2
  for name in ("diversity", "robustness", "attribution", "features"):
    assert set(
      read(workdir / "evaluation" / f"{name}.json")[
        "sequences" if name != "robustness" else "clean"
      ]
    ) >= ({"gncl"} if name != "robustness" else {"sequences"})
  page = Path(write_report(str(workdir))).read_text()
  assert "a command" in page and "GNCL" in page


def test_members_of_one_place_start_alike_and_end_apart(finished):
  workdir, _ = finished
  for a, b in (("member_0", "independent_0"), ("member_0", "balanced_0")):
    pairs = zip(weights(workdir / a), weights(workdir / b), strict=True)
    assert any((x != y).any() for x, y in pairs)


def test_clean_row_of_the_corruption_table_is_the_clean_result(finished):
  """At severity 0 nothing is corrupted, so all that was measured agrees with metrics.json."""
  workdir, metrics = finished
  found = read(workdir / "evaluation" / "robustness.json")
  for row in metrics["ensembles"]:
    untouched, corrupted = (
      condition["sequences"][row["sequence"]] for condition in found["conditions"]
    )
    assert corrupted["ensemble_accuracy"] != untouched["ensemble_accuracy"]
    for values in (found["clean"]["sequences"][row["sequence"]], untouched):
      assert values["ensemble_accuracy"] == pytest.approx(row["ensemble_accuracy"], abs=1e-6)


def test_measured_further_without_training_again(finished, tmp_path, monkeypatch):
  workdir = tmp_path / "again"
  shutil.copytree(finished[0], workdir)
  before = {p: p.stat().st_mtime_ns for p in workdir.glob("*/weights/**/*") if p.is_file()}
  kept = (workdir / "evaluation" / "features.json").stat().st_mtime_ns
  # What is measured every time is that of before.
  with np.load(workdir / "evaluation" / "predictions.npz", allow_pickle=False) as saved:
    logits, held_out = saved["logits"], saved["validation_logits"]
  monkeypatch.setattr(measure.similarity_measure, "measure", lambda *_: (logits, {}))
  monkeypatch.setattr(measure.similarity_measure, "predict", lambda *_: held_out)
  monkeypatch.setattr(
    measure, "diversity", lambda *_, **__: read(finished[0] / "evaluation" / "diversity.json")
  )
  experiment.run(mixed_config(corruption__severities=(3,)), workdir)
  found = read(workdir / "evaluation" / "robustness.json")
  assert [condition["severity"] for condition in found["conditions"]] == [3]
  assert found["settings"]["severities"] == [3]
  assert {p: p.stat().st_mtime_ns for p in before} == before
  assert (workdir / "evaluation" / "features.json").stat().st_mtime_ns == kept
  with pytest.raises(UserError, match=r"objective.weight \(0.2 there, 0.3 now\)"):
    experiment.run(mixed_config(objective__weight=0.3), workdir)


def test_killed_while_members_were_saved_ends_the_same(finished, tmp_path):
  """One member of the group is there, the other is not: the group goes on from its checkpoint."""
  workdir = tmp_path / "killed"
  shutil.copytree(finished[0], workdir)
  shutil.rmtree(workdir / "evaluation")
  shutil.rmtree(workdir / "gncl" / "checkpoints" / "10")
  (workdir / "member_1" / "member.json").unlink()
  experiment.train(mixed_config(), workdir)
  for name in ("member_0", "member_1"):
    for a, b in zip(weights(workdir / name), weights(finished[0] / name), strict=True):
      np.testing.assert_array_equal(a, b)


def test_other_programs_find_members_trained_jointly(finished):
  assert [member.name for member in find_members([str(finished[0])])] == NAMES


def test_diverging_objective_is_told(tmp_path, monkeypatch):
  fresh = joint.init_joint_state

  def broken(*arguments):
    state = fresh(*arguments)
    return state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))

  monkeypatch.setattr(joint, "init_joint_state", broken)
  config = mixed_config(ensemble__baseline=False, ensemble__compare=())
  with pytest.raises(TrainingDivergedError, match="gncl: the loss is not finite"):
    experiment.run(config, tmp_path / "run")


@pytest.mark.parametrize(
  "sizes, expected",
  [
    (
      {"objective__name": "sequential", "ensemble__size": 3, "ensemble__compare": ("gncl",)},
      {"baseline": 3, "dissimilar": 3, "gncl": 3},
    ),
    (
      {"objective__name": "independent", "ensemble__compare": ()},
      {"baseline": 2, "independent": 2},
    ),
    (
      {"ensemble__baseline": False, "ensemble__compare": ("independent", "attribution")},
      {"gncl": 2, "independent": 2, "attribution": 2},
    ),
  ],
)
def test_plans_have_every_ensemble_at_the_same_size(tmp_path, sizes, expected):
  config = tiny_config(**sizes)
  plans, sequences = make_plan(config, tmp_path)
  assert {name: len(members) for name, members in sequences.items()} == expected
  assert len({plan.name for plan in plans}) == len(plans)
  assert sorted(plan.name for plan in plans) == sorted(member_names(config))


def test_taps_of_the_dissimilarity_do_not_matter_to_members_trained_together():
  check_config(tiny_config(dissim__taps=(17,)))
  with pytest.raises(UserError, match="tiny has taps 0..2"):
    check_config(tiny_config(dissim__taps=(17,), objective__name="sequential"))


@pytest.mark.parametrize(
  "overrides, expected",
  [
    ({"objective__name": "gnlc"}, "did you mean 'gncl'?"),
    ({"objective__weight": -1.0}, "objective.weight=-1.0: must be a finite number of at least 0"),
    ({"objective__weight": 1.5}, "objective.weight=1.5: balanced needs a share in 0..1"),
    ({"ensemble__compare": ("gncl",)}, "each objective may be trained once"),
    ({"ensemble__compare": ("balancd",)}, "did you mean 'balanced'?"),
    ({"ensemble__teachers": ("x",)}, "none can be of another run"),
    ({"ensemble__models": ("resnet8",)}, "ensemble.size=2 needs as many"),
    ({"ensemble__models": ("resnet8", "resnet9")}, "ensemble.models='resnet9'"),
    (
      {
        "ensemble__models": ("resnet14", "resnet8"),
        "objective__name": "sequential",
        "dissim__taps": (5,),
      },
      "dissim.taps=[5]: resnet8 has taps 0..3",
    ),
    (
      {
        "ensemble__models": ("resnet8", "resnet14"),
        "objective__name": "sequential",
        "dissim__taps": (5,),
        "dissim__match": "name",
      },
      "no tap is named 'block 5'",
    ),
    ({"dissim__match": "nme"}, "dissim.match='nme': choose one of depth, name"),
    ({"optimizer__name": "adam"}, "did you mean 'adamw'?"),
    ({"optimizer__warmup_epochs": 10.0, "train__epochs": 10}, "must be less than train.epochs=10"),
    ({"optimizer__b2": 1.0, "optimizer__name": "adamw"}, "optimizer.b2=1.0: adamw needs less"),
    ({"optimizer__momentum": 1.5}, "optimizer.momentum=1.5: must be a number in 0..1"),
    ({"model__stem": 16}, "model.stem=16: choose 0"),
    ({"model__patch_size": 2}, "model.patch_size=2: tiny has no patches"),
    ({"corruption__names": ("gausian_noise",)}, "did you mean 'gaussian_noise'?"),
    ({"corruption__severities": (-1,)}, "corruption.severities=-1: must be a finite number"),
    ({"corruption__severities": ()}, "corruption.severities=(): name at least one"),
    ({"attribution__method": "salience"}, "did you mean 'saliency'?"),
    ({"attribution__steps": 0}, "attribution.steps=0: must be a whole number of at least 1"),
    ({"features__shares": (1.5,)}, "features.shares=1.5: must be a number in 0..1"),
    ({"features__regularisation": 0.0}, "features.regularisation=0.0: must be a finite number"),
    ({"evaluate__ensemble_rule": "mean"}, "evaluate.ensemble_rule='mean'"),
  ],
)
def test_bad_config_is_told_before_anything_is_written(tmp_path, overrides, expected):
  with pytest.raises(UserError) as error:
    experiment.run(tiny_config(**overrides), tmp_path / "run")
  assert expected in str(error.value) and "\n" not in str(error.value)
  assert not (tmp_path / "run").exists()
