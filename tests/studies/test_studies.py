"""Stitching experiments of a whole run, and the stitch command, at a tiny size."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from dissim_jax import experiment
from dissim_jax.config.check import check_config
from dissim_jax.errors import UserError
from dissim_jax.registry.stitching import EXPERIMENTS
from dissim_jax.studies.stitching import measure as stitching_measure
from dissim_jax.studies.stitching import one_pair, pair
from tests import tiny

TINY = {
  "train.epochs": 8,
  "stitch.epochs": 2,
  "stitch.decay_epochs": (1,),
  "stitch.batch_size": 40,
  "stitch.taps": (1,),
  "stitch.starts": 2,
  "stitch.connected_points": 3,
  "stitch.connected_accuracy": 0.0,
  "stitch.l1_direct": (0.01, 2.0),
  "stitch.l1_task": (0.0, 1.0),
  "stitch.ranks": (2, 500),
  "stitch.experiments": ("all",),
  "stitch.widths": (0.125, 0.25),
}


def tiny_config(**overrides):
  config = tiny.get_config()
  config.update_from_flattened_dict(
    TINY | {key.replace("__", "."): value for key, value in overrides.items()}
  )
  return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A run of two members at two widths with every experiment done on them."""
  workdir = tmp_path_factory.mktemp("runs") / "run"
  config = tiny_config(dissim__weight=0.0)
  metrics = experiment.run(config, workdir)
  assert metrics["sequences"] == {"baseline": ["member_0", "member_1"]}  # Lambda is 0.
  stitching_measure.run(config, workdir, experiment.run)
  return config, workdir


def results(workdir, experiment, name="member_0-member_1"):
  return json.loads((workdir / "stitching" / experiment / f"{name}.json").read_text())


def test_every_experiment_leaves_its_file(finished):
  _, workdir = finished
  found = workdir.rglob("stitching/*/*.json")
  files = {str(path.relative_to(workdir / "stitching")) for path in found}
  pair = "member_0-member_1"
  assert files == {
    "low_cka/member_0-member_0.json",
    f"width/{pair}-x0.125.json",
    f"width/{pair}-x0.25.json",
    *(f"{name}/{pair}.json" for name in EXPERIMENTS if name not in ("low_cka", "width")),
  }
  for path in workdir.rglob("stitching/*/*.json"):
    values = json.loads(path.read_text())
    assert values["taps"] == [1] and values["tap_names"] == ["block 1"]
    assert values["num_train"] == 100 and values["settings"]["epochs"] == 2
    assert values["environment"]["platform"] == "cpu"


def test_matching_has_every_method_and_their_matrices(finished):
  _, workdir = finished
  values = results(workdir, "matching")
  methods = values["results"]["methods"]
  assert set(methods) == {"identity", "least_squares", "linear", "orthogonal", "task_loss"}
  for rows in methods.values():
    assert len(rows["accuracy"]) == 1
    assert math.isclose(
      rows["relative_accuracy"][0], rows["accuracy"][0] / values["target_accuracy"], rel_tol=1e-4
    )
  # On the test images, which the fit has not seen.
  assert methods["least_squares"]["r2"][0] > methods["orthogonal"]["r2"][0]
  with np.load(workdir / "stitching/matching/member_0-member_1.npz", allow_pickle=False) as arrays:
    assert arrays["task_loss/1/kernel"].shape == (8, 8)
    assert not np.array_equal(arrays["task_loss/1/kernel"], arrays["least_squares/1/kernel"])
    assert np.array_equal(arrays["identity/1/kernel"], np.eye(8))


def test_curves_have_a_value_for_the_start_and_every_epoch(finished):
  _, workdir = finished
  (indices,) = results(workdir, "indices")["results"]["taps_by_epoch"]
  assert {"lincka", "r2", "cca", "svcca", "cross_entropy"} <= set(indices)
  assert all(len(values) == 3 for values in indices.values())
  assert all(0 < value <= 1 for name in ("lincka", "cca", "svcca") for value in indices[name])
  start = results(workdir, "matching")["results"]["methods"]["least_squares"]
  assert indices["r2"][0] == pytest.approx(start["r2"][0], rel=1e-4)
  assert indices["r2"][-1] != indices["r2"][0]
  (own,) = results(workdir, "low_cka", "member_0-member_0")["results"]["taps_by_epoch"]
  assert own["relative_accuracy"][0] == 1 and own["lincka"][0] == pytest.approx(1, abs=1e-5)
  assert own["lincka"][-1] < own["lincka"][0]


def test_starts_and_paths(finished):
  _, workdir = finished
  (starts,) = results(workdir, "initialisation")["results"]["starts_by_tap"]
  assert {name: len(rows) for name, rows in starts.items()} == {"random": 2, "least_squares": 2}
  found = results(workdir, "connectivity")["results"]
  (paths,) = found["paths_by_tap"]
  assert found["shares"] == [0, 0.5, 1] and paths["kept"] == 2
  ends = [row["relative_accuracy"] for row in starts["random"]]
  assert [paths["curves"][0][0], paths["curves"][0][-1]] == pytest.approx(ends)
  assert ends[0] != ends[1]  # Or the order would not show.


def test_strong_l1_is_sparser_and_ranks_that_do_not_exist_are_left_out(finished):
  _, workdir = finished
  (sparsity,) = results(workdir, "sparsity")["results"]["by_tap"]
  weak, strong = (row["sparsity"] for row in sparsity["direct"])
  assert weak < strong == 1
  (low_rank,) = results(workdir, "low_rank")["results"]["by_tap"]
  assert results(workdir, "low_rank")["results"]["ranks_by_tap"] == [[2]]
  assert len(low_rank["least_squares"]) == len(low_rank["task_loss"]) == 1


def test_another_width_is_a_run_of_its_own(finished):
  _, workdir = finished
  facts = json.loads((workdir / "width_0.125" / "member_1" / "member.json").read_text())
  assert facts["width_multiplier"] == 0.125
  assert results(workdir, "width", "member_0-member_1-x0.125")["width"] == 0.125
  assert not (workdir / "width_0.25").exists()  # The run itself has this width.


def test_what_is_done_is_not_done_again_and_the_rest_gives_the_same(finished, tmp_path):
  config, workdir = finished
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  kept = copy / "stitching" / "low_rank" / "member_0-member_1.json"
  lost = copy / "stitching" / "matching" / "member_0-member_1.json"
  stamp, before = kept.stat().st_mtime_ns, lost.read_text()
  lost.unlink()
  stitching_measure.run(config, copy, experiment.run)
  assert kept.stat().st_mtime_ns == stamp
  assert lost.read_text() == before


def test_results_of_other_settings_are_not_replaced(finished):
  config, workdir = finished
  other = tiny_config(dissim__weight=0.0, stitch__learning_rate=0.5)
  with pytest.raises(UserError, match=r"stitch.learning_rate \(0.001 there, 0.5 now\)"):
    stitching_measure.run(other, workdir, experiment.run)
  fewer = tiny_config(dissim__weight=0.0, stitch__experiments=("matching",))
  stitching_measure.run(fewer, workdir, experiment.run)  # What is chosen is not a setting.


def test_default_pairs_are_the_first_member_and_every_other():
  config = tiny_config(ensemble__size=3)
  assert stitching_measure.pairs(config) == [
    ("member_0", name) for name in ("member_1", "member_2", "independent_1", "independent_2")
  ]
  config.stitch.pairs = ("member_1:member_0,member_0:member_0",)  # As on a command line.
  assert stitching_measure.pairs(config) == [("member_1", "member_0"), ("member_0", "member_0")]


@pytest.mark.parametrize(
  "field, value, told",
  [
    ("experiments", ("matchin",), "stitch.experiments='matchin': choose one of .*'matching'"),
    ("pairs", ("member_0",), "stitch.pairs='member_0': must be source:target"),
    ("pairs", ("member_0:member_9",), "stitch.pairs='member_9': choose one of"),
    ("taps", (4,), r"stitch.taps=4: tiniest has taps 0..1"),
    ("labels", "softer", "stitch.labels='softer': choose one of hard, soft"),
    ("start", "zero", "stitch.start='zero': choose one of"),
    ("epochs", 0, "stitch.epochs=0: must be a whole number"),
    ("ranks", (0,), "stitch.ranks=0: must be a whole number of at least 1"),
    ("widths", (-1.0,), "stitch.widths=-1.0: must be a number above 0 and up to 100"),
    ("connected_points", 1, "stitch.connected_points=1: must be a whole number of at least 2"),
  ],
)
def test_settings_that_cannot_be_used(field, value, told):
  config = tiny_config()
  config.stitch[field] = value
  with pytest.raises(UserError, match=told):
    check_config(config)


# --- The command ---------------------------------------------------------------------------------


def members(workdir):
  return str(workdir / "member_0"), str(workdir / "member_1")


def test_command_prints_and_saves(finished, tmp_path, capsys):
  _, workdir = finished
  rows = one_pair.run(
    *members(workdir),
    taps="1,0",
    methods="least_squares,reduced_rank,sparse",
    rank=2,
    l1=0.1,
    out=str(tmp_path),
  )
  assert [(row["source_tap"], row["method"]) for row in rows[:3]] == [
    (1, "least_squares"),
    (1, "reduced_rank"),
    (1, "sparse"),
  ]
  saved = results(workdir, "matching")["results"]["methods"]["least_squares"]
  assert rows[0]["accuracy"] == pytest.approx(saved["accuracy"][0])
  text = capsys.readouterr().out
  assert "tap 1 (block 1)" in text and max(map(len, text.splitlines()[1:-1])) <= 80
  assert json.loads((tmp_path / "stitch.json").read_text())["rows"] == rows
  with np.load(tmp_path / "stitch.npz", allow_pickle=False) as arrays:
    assert np.linalg.matrix_rank(arrays["reduced_rank/1-1/kernel"]) == 2


def test_command_stitches_a_member_to_itself(finished):
  _, workdir = finished
  for row in one_pair.run(*[members(workdir)[0]] * 2, taps="1", methods="least_squares,identity"):
    assert row["agreement"] > 0.99  # But for ties of an almost untrained network.


def test_command_resizes_when_asked(finished):
  _, workdir = finished
  kwargs = {"taps": "0", "target_tap": 1, "methods": "least_squares"}
  with pytest.raises(UserError, match="source is 8x8 and tap 1 of the target 4x4.*--resize"):
    one_pair.run(*members(workdir), **kwargs)
  (row,) = one_pair.run(*members(workdir), resize=True, **kwargs)
  assert row["accuracy"] > 0


def test_batches_of_stitches_are_shared_by_the_devices(tmp_path):
  assert [pair._batch_size(128, n, 4) for n in (50_000, 101, 128)] == [128, 100, 128]
  with pytest.raises(UserError, match="stitch.batch_size=50: must be a multiple of the 4 devices"):
    pair._batch_size(50, 1000, 4)
  with pytest.raises(UserError, match="stitch.batch_size=50: must be a multiple of the 4 devices"):
    experiment.run(tiny_config(stitch__batch_size=50), tmp_path / "run")
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  "kwargs, told",
  [
    ({"methods": "least_square"}, "methods='least_square': choose .*'least_squares'"),
    ({"taps": "9"}, r"--tap=9: the source has taps 0..1"),
    ({"taps": "two"}, r"--tap=two: the source has taps 0..1; give numbers or all"),
    ({"taps": "1", "target_tap": 7}, r"--target_tap=7: the target has taps 0..1"),
    ({"target_tap": 1}, "--target_tap: it needs one --tap"),
    ({"methods": "reduced_rank"}, "rank=0: reduced_rank needs a rank"),
    ({"methods": "reduced_rank", "rank": 99, "taps": "1"}, "rank=99: at tap 1 .* 1..8"),
    ({"l1": -1.0}, "l1=-1.0: must be a finite number"),
  ],
)
def test_command_refuses(finished, kwargs, told):
  _, workdir = finished
  with pytest.raises(UserError, match=told):
    one_pair.run(*members(workdir), **kwargs)


def test_command_refuses_members_that_do_not_belong_together(finished, tmp_path):
  _, workdir = finished
  other = tmp_path / "other"
  shutil.copytree(workdir, other)
  config = json.loads((other / "config.json").read_text())
  config["data"]["split_seed"] = 7
  (other / "config.json").write_text(json.dumps(config))
  with pytest.raises(UserError, match="members of different data sets: data.split_seed is 0 .* 7"):
    one_pair.run(members(workdir)[0], members(other)[1])
  with pytest.raises(UserError, match="--target: .* is not the folder of a run"):
    one_pair.run(members(workdir)[0], str(Path(tmp_path) / "nothing" / "member_0"))
