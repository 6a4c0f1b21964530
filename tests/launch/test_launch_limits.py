"""What a site allows, and what a sweep would train twice."""

import json
from pathlib import Path

import pytest
from absl import flags

from dissim_jax.errors import UserError
from dissim_jax.launch import local, options, sbatch, sharing, slurm, sweep, tasks
from dissim_jax.launch.sweep import Run
from dissim_jax.launch.tasks import Task

DIGITS = "configs/digits_expvar.py"


@pytest.mark.parametrize("largest, sizes", [(1000, [1000, 500]), (500, [500] * 3), (7000, [1500])])
def test_arrays_are_as_large_as_the_cluster_file_says(largest, sizes, tmp_path):
  (tmp_path / "cluster.toml").write_text(f"max_array = {largest}\n")
  cluster = sbatch.read_cluster(tmp_path / "cluster.toml")
  found = slurm.groups([Task(str(i), "run", ()) for i in range(1500)], cluster.max_array)
  assert [len(group) for group in found] == sizes
  assert [task.name for group in found for task in group] == list(map(str, range(1500)))


def test_submitted_scripts_hold_no_more_runs_than_that(tmp_path, monkeypatch):
  calls = []
  monkeypatch.setattr(slurm.squeue, "call", lambda words: calls.append(words) or f"{len(calls)}\n")
  many = [Task(f"r{i}", "run", ("-m", "x")) for i in range(5)]
  submitted = slurm.submit(many, tmp_path, sbatch.Cluster(max_array=2))
  arrays = [[word for word in words if word.startswith("--array")] for words in calls]
  assert arrays == [["--array=0-1"], ["--array=0-1"], []]
  assert list(submitted.values()) == ["1_0", "1_1", "2_0", "2_1", "3"]


@pytest.mark.parametrize("value", ["0", "-1", "1.5", '"500"', "true", "nan"])
def test_array_limits_that_cannot_be_are_told(value, tmp_path):
  (tmp_path / "cluster.toml").write_text(f"max_array = {value}\n")
  with pytest.raises(UserError, match="max_array=.*: must be (a whole number|at least 1)"):
    sbatch.read_cluster(tmp_path / "cluster.toml")


def told(*runs):
  return sharing.sentences(tasks.make_tasks(sweep.check(list(runs)), Path("/r")))


ALONE = {"ensemble.baseline": False}


def test_a_first_member_that_runs_train_alike_is_told_once():
  runs = [Run(f"tap_{tap}", DIGITS, {**ALONE, "dissim.taps": (tap,)}) for tap in (1, 2, 3, 4)]
  (sentence,) = told(*runs)
  assert sentence == (
    "4 runs train the same first member (tap_1/member_0, tap_2/member_0, tap_3/member_0, …): "
    "teachers=('tap_1/member_0',) in the others would train it once"
  )


# What changes the first member, and what does not.
OTHERS = {
  "seed": 1,
  "data.split_seed": 1,
  "train.epochs": 3,
  "optimizer.momentum": 0.5,
  "augment.flip": True,
  "model.width_multiplier": 0.5,
  "dtype": "bfloat16",
  "ensemble.models": ("resnet8", "resnet14"),
}
SAME = {
  "dissim.weight": 0.0,
  "dissim.metric": "lincka",
  "ensemble.size": 3,
  "evaluate.ensemble_rule": "logits",
  "corruption.names": ("fog",),
  "data.resident_gib": 1.0,
  "train.steps_per_dispatch": 2,
  "ensemble.models": ("resnet14", "resnet20"),
  "objective.name": "distill",
  "stitch.epochs": 3,
}


@pytest.mark.parametrize("field", OTHERS)
def test_other_first_members_are_not_shared(field):
  assert told(Run("a", DIGITS, ALONE), Run("b", DIGITS, {**ALONE, field: OTHERS[field]})) == []


@pytest.mark.parametrize("field", SAME)
def test_what_concerns_later_members_alone_does_not_hide_it(field):
  assert len(told(Run("a", DIGITS), Run("b", DIGITS, {field: SAME[field]}))) == 1


def test_a_member_that_is_shared_is_no_news():
  first = ("a/member_0",)
  assert told(Run("a", DIGITS, ALONE), *(Run(n, DIGITS, ALONE, teachers=first) for n in "bc")) == []


def test_the_one_that_others_can_take_is_named():
  # Members trained together take none from elsewhere, but the independent one beside them is there.
  joint = {"objective.name": "gncl"}
  (sentence,) = told(Run("a", DIGITS, ALONE), Run("b", DIGITS, joint))
  assert "teachers=('b/independent_0',)" in sentence
  assert told(Run("b", DIGITS, joint), Run("c", DIGITS, {"objective.name": "balanced"})) == []


def test_the_launcher_says_it_also_where_it_changes_nothing(tmp_path, capsys):
  (tmp_path / "mine.py").write_text(
    f"from launch.sweep import Run\ndef get_sweep():\n  for tap in (1, 2):\n"
    f"    yield Run(f'tap_{{tap}}', {DIGITS!r}, {{'dissim.taps': (tap,)}})\n"
  )
  values = flags.FlagValues()
  holders = local.define_flags(values)
  values(["launch", f"--sweep={tmp_path}/mine.py", f"--root={tmp_path}/root"])
  options.request(holders)
  assert capsys.readouterr().err.startswith("note: 2 runs train the same first member (tap_1/")


def test_sweeps_of_the_papers_train_no_first_member_twice():
  for name in ("wald_table1", "digits_categories", "digits_zoo"):
    entries = sweep.load(f"configs/sweeps/{name}.py")
    assert sharing.sentences(tasks.make_tasks(entries, Path("/r"))) == []


def test_plans_of_tasks_are_json(tmp_path):
  task = tasks.make_tasks([Run("a", DIGITS, {"seed": 10**30})], Path("/r"))[0]
  assert json.loads(json.dumps(dict(task.config)))["seed"] == 10**30
