"""Whole experiments at a tiny size: files, reuse, resume, and every kind of bad input."""

import errno
import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from dissim_jax import command_line, experiment
from dissim_jax.distributed import preemption
from dissim_jax.distributed.checkpoint import Checkpoints, load_weights, save_weights
from dissim_jax.errors import BusyError, Stopped, UserError
from dissim_jax.files.workdir import locked
from dissim_jax.members.plan import make_plan
from dissim_jax.pages.run import write_report
from dissim_jax.train.loop import TrainingDivergedError
from tests import tiny

DIGITS = "--config=configs/digits_expvar.py"
DEADLINE = 1200  # seconds; not reached, however busy the machine
TINY = {"train.epochs": 3, "train.checkpoint_every_epochs": 1}


def tiny_config(**overrides):
  config = tiny.get_config()
  config.update_from_flattened_dict(
    TINY | {key.replace("__", "."): value for key, value in overrides.items()}
  )
  return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished experiment: member_0, member_1 and independent_1."""
  workdir = tmp_path_factory.mktemp("runs") / "finished"
  metrics = experiment.run(tiny_config(), workdir, "a command")
  return workdir, metrics


def weights(directory):
  """The parameters in a member's folder, as a flat list of arrays."""
  return [np.asarray(x) for x in jax.tree.leaves(load_weights(directory / "weights", None))]


def test_run_leaves_every_file_of_the_workdir(finished):
  workdir, metrics = finished
  for name in ("member_0", "member_1", "independent_1"):
    assert (workdir / name / "member.json").exists()
    lines = (workdir / name / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert list((workdir / name / "tensorboard").glob("events*"))
  values = json.loads((workdir / "member_1" / "metrics.jsonl").read_text().splitlines()[-1])
  assert {"train_similarity", "r2_least_squares", "learning_rate", "seconds"} <= set(values)
  assert "train_similarity" not in (workdir / "member_0" / "metrics.jsonl").read_text()
  assert metrics["sequences"] == {
    "baseline": ["member_0", "independent_1"],
    "dissimilar": ["member_0", "member_1"],
  }
  page = Path(write_report(str(workdir))).read_text()
  assert "a command" in page and "<svg" not in page.split("<img")[0]


def test_images_that_are_too_small_for_the_network_are_refused(tmp_path):
  config = tiny_config(model__name="tiny10")
  told = "model.name='tiny10': images of 8x8 are too small, nothing is left of them at tap 3"
  with pytest.raises(UserError, match=told):
    experiment.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_saved_predictions_give_the_saved_numbers(finished):
  workdir, metrics = finished
  with np.load(workdir / "evaluation" / "predictions.npz", allow_pickle=False) as saved:
    logits, labels, names = saved["logits"], saved["labels"], list(saved["members"])
  assert logits.shape == (3, 297, 10) and names == ["member_0", "member_1", "independent_1"]
  right = logits.argmax(-1) == labels
  for i, member in enumerate(metrics["members"]):
    assert member["accuracy"] == pytest.approx(right[i].mean(), abs=1e-6)
  row = next(r for r in metrics["ensembles"] if r["sequence"] == "dissimilar")
  exponent = np.exp(logits - logits.max(-1, keepdims=True))
  probs = (exponent / exponent.sum(-1, keepdims=True))[[0, 1]].mean(0)
  assert row["ensemble_accuracy"] == pytest.approx((probs.argmax(-1) == labels).mean(), abs=1e-6)
  assert row["error_inconsistency"] == pytest.approx((right[0] != right[1]).mean(), abs=1e-6)


def test_saved_similarity_covers_all_pairs(finished):
  with np.load(finished[0] / "evaluation" / "similarity.npz", allow_pickle=False) as saved:
    arrays = dict(saved)
  assert len([key for key in arrays if key.startswith("lincka/")]) == 6
  own = arrays["lincka/member_0/member_0"]
  np.testing.assert_allclose(np.diag(own), 1.0, atol=1e-5)
  np.testing.assert_allclose(own, own.T, atol=1e-6)
  for key in ("r2/member_0/member_1", "r2/member_1/member_0", "lincka_position/member_0/member_1"):
    assert arrays[key].shape == (2,) and (arrays[key] > 0).all() and (arrays[key] <= 1).all()


def test_penalty_makes_another_member(finished):
  pairs = zip(*(weights(finished[0] / n) for n in ("member_1", "independent_1")), strict=True)
  assert any((a != b).any() for a, b in pairs)


def test_started_again_nothing_is_trained_again(finished):
  workdir, metrics = finished
  before = {p: p.stat().st_mtime_ns for p in workdir.glob("*/weights/**/*") if p.is_file()}
  again = experiment.run(tiny_config(), workdir)
  assert {p: p.stat().st_mtime_ns for p in before} == before
  assert again["ensembles"] == metrics["ensembles"]


def test_teachers_of_another_run_are_reused(finished, tmp_path):
  workdir, metrics = finished
  config = tiny_config(ensemble__teachers=(str(workdir / "member_0"),), ensemble__baseline=False)
  reused = experiment.run(config, tmp_path / "second")
  assert not (tmp_path / "second" / "member_0").exists()
  assert reused["members"][0]["reused_from"] == str(workdir / "member_0")
  assert reused["members"][0]["accuracy"] == metrics["members"][0]["accuracy"]
  for a, b in zip(
    weights(workdir / "member_1"), weights(tmp_path / "second" / "member_1"), strict=True
  ):
    np.testing.assert_array_equal(a, b)


def test_reused_members_keep_their_teachers(finished):
  """Also where another run trained them: their pair was regularised, and is shown so."""
  workdir = finished[0]
  both = (str(workdir / "member_0"), str(workdir / "member_1"))
  plans, _ = make_plan(tiny_config(ensemble__teachers=both, ensemble__size=3), workdir / "new")
  taught = {plan.name: [teacher.name for teacher in plan.teachers] for plan in plans}
  assert taught["member_1"] == ["member_0"] and taught["member_2"] == ["member_0", "member_1"]


@pytest.mark.parametrize(
  "overrides, expected",
  [
    ({"dissim__metric": "expvra"}, "did you mean 'expvar'?"),
    ({"model__name": "resnt34"}, "did you mean 'resnet34'?"),
    ({"data__name": "cifar11"}, "did you mean 'cifar10'?"),
    ({"dissim__projection__name": "learnt"}, "did you mean 'learned'?"),
    ({"dissim__taps": (17,)}, "dissim.taps=[17]: tiniest has taps 0..1"),
    ({"dissim__taps": (1, 1)}, "1 is named twice"),
    ({"dissim__taps": ()}, "name at least one of taps 0..1"),
    ({"dissim__weight": float("nan")}, "dissim.weight=nan: must be a finite number"),
    ({"train__epochs": 0}, "train.epochs=0: must be a whole number of at least 1"),
    ({"train__batch_size": 101}, "there are only 100 training images"),
    ({"train__batch_size": 50}, "must be a multiple of the 4 devices"),
    ({"data__mean": (0.5, 0.5)}, "images have 1 channel(s)"),
    ({"data__std": (0.0,)}, "must be a finite number above 0"),
    ({"data__mean": ("grey",)}, "data.mean='grey': must be a finite number"),
    ({"data__train_per_class": 174}, "train_per_class"),
    ({"augment__crop_fill": 300}, "augment.crop_fill=300"),
    ({"ensemble__teachers": ("nowhere",)}, "holds no finished member"),
    ({"ensemble__teachers": ("a", "b", "c")}, "ensemble.size=2 allows no more"),
    ({"data__name": "image_folder", "data__dir": "nowhere"}, "nowhere"),
  ],
)
def test_bad_config_is_told_before_anything_is_written(tmp_path, overrides, expected):
  with pytest.raises(UserError) as error:
    experiment.run(tiny_config(**overrides), tmp_path / "run")
  assert expected in str(error.value) and "\n" not in str(error.value)
  assert not (tmp_path / "run").exists()


def test_workdir_of_another_config_is_refused_and_untouched(finished):
  workdir = finished[0]
  before = {p: p.read_bytes() for p in workdir.rglob("*.json*")}
  with pytest.raises(UserError, match=r"weight \(1.0 there, 2.0 now\), seed \(0 there, 5"):
    experiment.run(tiny_config(dissim__weight=2.0, seed=5), workdir)
  assert {p: p.read_bytes() for p in workdir.rglob("*.json*")} == before


def test_workdir_with_other_files_is_refused(tmp_path):
  (tmp_path / "thesis.tex").write_text("mine")
  with pytest.raises(UserError, match="is not empty"):
    experiment.run(tiny_config(), tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_teachers_of_another_class_count_are_refused(finished, tmp_path):
  rng = np.random.default_rng(0)
  for split in ("train", "test"):
    for name in ("cat", "dog"):
      folder = tmp_path / "images" / split / name
      folder.mkdir(parents=True)
      for i in range(12):
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{i}.png")
  config = tiny_config(
    data__name="image_folder",
    data__dir=str(tmp_path / "images"),
    data__image_size=8,
    data__mean=(0.5,) * 3,
    data__std=(0.5,) * 3,
    ensemble__teachers=(str(finished[0] / "member_0"),),
  )
  with pytest.raises(UserError, match="num_classes=10, but image_folder here has 2"):
    experiment.run(config, tmp_path / "run")
  (tmp_path / "images" / "test" / "cat" / "3.png").write_bytes(b"no image")
  with pytest.raises(UserError, match="3.png"):
    experiment.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_diverging_loss_stops_at_the_last_good_checkpoint(finished, tmp_path):
  """The penalty comes in after the first epoch, and is far too large."""
  config = tiny_config(
    dissim__weight=3e38,
    dissim__warmup_start_epoch=1,
    ensemble__teachers=(str(finished[0] / "member_0"),),
  )
  with pytest.raises(TrainingDivergedError, match=r"member_1: .* at step ([6-9]|10) .*step 5 in"):
    experiment.run(config, tmp_path / "run")
  folder = tmp_path / "run" / "member_1"
  assert (folder / "checkpoints" / "5").exists() and not (folder / "checkpoints" / "10").exists()
  assert not (folder / "member.json").exists()


def interrupted(finished, tmp_path, drop_checkpoints=0):
  """A copy of the finished run as if it had been killed in the training of member_1."""
  workdir = tmp_path / "killed"
  shutil.copytree(finished[0], workdir)
  shutil.rmtree(workdir / "evaluation")
  for name in ("member.json", "weights"):
    path = workdir / "member_1" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  checkpoints = sorted((workdir / "member_1" / "checkpoints").iterdir(), key=lambda p: int(p.name))
  for path in checkpoints[len(checkpoints) - drop_checkpoints :]:
    shutil.rmtree(path)
  return workdir


def test_truncated_newest_checkpoint_is_skipped_with_a_warning(finished, tmp_path, caplog):
  workdir = interrupted(finished, tmp_path)
  newest = max((workdir / "member_1" / "checkpoints").iterdir(), key=lambda p: int(p.name))
  for path in newest.rglob("*"):
    if path.is_file() and path.stat().st_size > 100:
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with caplog.at_level(logging.WARNING):
    experiment.train(tiny_config(), workdir)
  assert "set aside" in caplog.text and (newest.parent / f"unreadable-{newest.name}").exists()
  for a, b in zip(weights(workdir / "member_1"), weights(finished[0] / "member_1"), strict=True):
    np.testing.assert_array_equal(a, b)
  lines = (workdir / "member_1" / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_killed_at_any_moment_and_resumed_is_the_same_run(finished, tmp_path):
  """kill -9 at two moments; the parameters are those of an uninterrupted run, bit for bit."""
  workdir = tmp_path / "killed"
  program = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r});"
    "from tests.experiment.test_sequence import tiny_config;"
    f"from dissim_jax import experiment; experiment.run(tiny_config(), {str(workdir)!r})"
  )
  rng = np.random.default_rng(int(time.time()))
  # A kill comes a random moment after a file of that stage has appeared.
  for stage in ("member_0/metrics.jsonl", "member_1/checkpoints/5"):
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    limit = time.monotonic() + DEADLINE
    while not (workdir / stage).exists() and process.poll() is None:
      assert time.monotonic() < limit
      time.sleep(0.005)
    assert process.poll() is None
    time.sleep(rng.uniform(0, 0.3))
    process.kill()
    process.wait()
  experiment.train(tiny_config(), workdir)
  for name in ("member_0", "member_1", "independent_1"):
    for a, b in zip(weights(workdir / name), weights(finished[0] / name), strict=True):
      np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("step", [2, 5, 15], ids=["in an epoch", "at its end", "at the last step"])
def test_told_to_stop_it_saves_the_step_and_goes_on_from_there(
  finished, tmp_path, monkeypatch, step
):
  config = tiny_config(
    ensemble__teachers=(str(finished[0] / "member_0"),),
    ensemble__baseline=False,
    train__checkpoint_every_epochs=3,
  )
  looks = itertools.count(1)
  monkeypatch.setattr(preemption, "asked", lambda: next(looks) == step)
  with pytest.raises(Stopped, match=f"member_1: told to stop, saved after step {step}"):
    experiment.train(config, tmp_path / "run")
  folder = tmp_path / "run" / "member_1"
  assert [int(path.name) for path in (folder / "checkpoints").iterdir()] == [step]
  monkeypatch.undo()
  experiment.train(config, tmp_path / "run")
  for a, b in zip(weights(folder), weights(finished[0] / "member_1"), strict=True):
    np.testing.assert_array_equal(a, b)
  assert measured(folder) == measured(finished[0] / "member_1")


def measured(folder):
  """The lines of a training's log without what the clock says."""
  rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
  return [
    {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows
  ]


@pytest.fixture
def default_signal():
  yield
  signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_signal_waits_for_the_step_in_progress(default_signal):
  with pytest.raises(Stopped), preemption.handled(), preemption.held():
    assert not preemption.asked()
    os.kill(os.getpid(), signal.SIGTERM)
    assert preemption.asked()  # The step goes on to here.
  os.kill(os.getpid(), signal.SIGTERM)  # Told again, the saving is not interrupted.
  with preemption.handled():
    assert not preemption.asked()


def test_signal_outside_of_a_training_stops_at_once_and_only_once(default_signal):
  with preemption.handled():
    with pytest.raises(Stopped):
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(5)
    os.kill(os.getpid(), signal.SIGTERM)
  with preemption.handled():
    pass
  assert signal.getsignal(signal.SIGTERM) != signal.SIG_IGN


@pytest.mark.parametrize("name", ["a\\b", "[red]x", "**", "a*?[!b] {c}; $(d) 'e'"])
def test_checkpoints_and_weights_in_a_folder_of_any_name(tmp_path, name):
  tree = {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3)}
  (tmp_path / name).mkdir()
  save_weights(tmp_path / name / "weights", tree)
  found = load_weights(tmp_path / name / "weights", tree)
  np.testing.assert_array_equal(found["kernel"], tree["kernel"])
  for step in (1, 2, 3):
    checkpoints = Checkpoints(tmp_path / name / "checkpoints", 2)
    checkpoints.save(step, {"kernel": tree["kernel"] + step})
    checkpoints.close()
  checkpoints = Checkpoints(tmp_path / name / "checkpoints", 2)
  np.testing.assert_array_equal(checkpoints.restore(tree)["kernel"], tree["kernel"] + 3)
  checkpoints.close()
  assert {path.name for path in (tmp_path / name / "checkpoints").iterdir()} == {"2", "3"}


def test_folder_in_use_is_left_alone(finished):
  before = sorted(finished[0].rglob("*"))
  with locked(finished[0]), pytest.raises(BusyError, match="another process works there"):
    experiment.run(tiny_config(), finished[0])
  assert sorted(finished[0].rglob("*")) == before


@pytest.mark.parametrize(
  "error, code, told",
  [
    (UserError("a field"), 2, "error: a field"),
    (BusyError("a folder"), 75, "error: a folder"),
    (Stopped("told to stop"), 75, "told to stop; the same command goes on from here"),
    (
      OSError(errno.ENOSPC, "No space left on device", "runs/x"),
      2,
      "error: runs/x cannot be written: No space left on device",
    ),
    (KeyboardInterrupt(), 130, "stopped; the same command goes on from the last checkpoint"),
  ],
)
def test_what_ends_a_program_is_a_sentence_and_an_exit_code(error, code, told, capsys):
  def program(argv):
    raise error

  with pytest.raises(SystemExit) as stop:
    command_line.guarded(program)([])
  assert (stop.value.code, capsys.readouterr().err) == (code, told + "\n")
