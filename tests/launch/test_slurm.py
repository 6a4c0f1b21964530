"""Sweeps on a real Slurm of one node, which the tests start themselves."""

import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import rich.console
import slurm_cluster
from absl import flags

from dissim_jax import experiment
from dissim_jax.distributed.checkpoint import load_weights
from dissim_jax.errors import UserError
from dissim_jax.files.atomic import write_json
from dissim_jax.launch import commands, progress, sbatch, slurm, slurm_jobs, squeue
from dissim_jax.launch.sweep import load
from dissim_jax.launch.table import LiveTable
from dissim_jax.launch.tasks import Task, make_tasks

CHECKOUT = Path(__file__).parents[2]
FAST = {"poll_seconds": 0.2, "signal_seconds": 30}
# Works for a while and then has results; told to stop, it saves how far it is and says so. While a
# file `hold` lies beside its folder it gets no further than half.
WORK = """
import os, pathlib, signal, sys, time
folder, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
rank = os.environ.get("SLURM_PROCID", "0") if "SLURM_STEP_ID" in os.environ else "alone"
folder.mkdir(parents=True, exist_ok=True)
saved, hold = folder / f"saved_{rank}", folder.parent / "hold"
stopped = False
def stop(*_):
  global stopped
  stopped = True
signal.signal(signal.SIGTERM, stop)
done = float(saved.read_text()) if saved.exists() else 0
print("from", done, "rank", rank, flush=True)
while done < seconds:
  if stopped:
    saved.write_text(str(done))
    sys.exit(75)
  time.sleep(0.1)
  if done + 0.1 < seconds / 2 or not hold.exists():
    done += 0.1
  print("begun", flush=True)
(folder / "report").mkdir(exist_ok=True)
(folder / "report" / "report.html").touch()
"""
# Fails, as soon as there is no file of the name it is given.
FAIL = (
  "-c",
  "import os, sys, time\n"
  "while os.path.exists(*sys.argv[1:] or ['']): time.sleep(0.05)\n"
  "print('error: no such luck'); sys.exit(2)",
)


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory):
  """The Slurm of this module; its programs find it by the environment."""
  missing = slurm_cluster.missing()
  if missing or os.geteuid() != 0:
    told = f"needs {', '.join(missing) or 'root'}"
    pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
  with slurm_cluster.SlurmCluster(tmp_path_factory.mktemp("slurm")) as started:
    with pytest.MonkeyPatch.context() as patch:
      for name, value in started.environment().items():
        patch.setenv(name, value)
      yield started


def working(root, name, seconds=0.1, needs=()):
  return Task(name, "run", ("-c", WORK, str(root / name), str(seconds)), tuple(needs))


def wait(tasks, root):
  """The last states."""
  with LiveTable(tasks, root, rich.console.Console(file=io.StringIO())) as table:
    return slurm.wait(tasks, root, 0.2, table)


def wait_for(condition, patience=1200):
  limit = time.monotonic() + patience
  while not condition():
    assert time.monotonic() < limit, squeue.jobs()
    time.sleep(0.05)


def wait_for_start(tasks, root):
  logs = [progress.log_file(task, root) for task in tasks]
  wait_for(lambda: all(path.exists() and "begun" in path.read_text() for path in logs))


def push_aside(cluster, seconds=1):
  """A job that needs the whole node, now."""
  cluster.call(
    "sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap", f"sleep {seconds}"
  )


def log(task, root):
  return progress.log_file(task, root).read_text().splitlines()


def test_arrays_dependencies_failures_and_hostile_names(tmp_path):
  root = tmp_path / "ro ot; touch MARK"
  hostile = ["$(touch MARK) `touch MARK`", 'it\'s "q"; touch MARK; #', "-%A\\%j && touch MARK"]
  parents = [working(root, name) for name in hostile]
  bad, free = Task("bad", "run", (*FAIL, str(root / "hold"))), working(root, "free")
  child = working(root, "child", needs=hostile)
  orphan, grandchild = Task("orphan", "run", FAIL, ("bad",)), Task("g", "run", FAIL, ("orphan",))
  tasks = [*parents, bad, free, child, orphan, grandchild]
  root.mkdir()
  (root / "hold").touch()  # Nothing ends before the second call.
  jobs = slurm.submit(tasks, root, sbatch.Cluster(**FAST))
  arrays = {name: job.split("_")[0] for name, job in jobs.items()}
  assert len({arrays[task.name] for task in [*parents, bad, free]}) == 1  # one array
  assert "_" not in jobs["child"] and len(set(arrays.values())) == 4
  again = slurm.submit(tasks, root, sbatch.Cluster(**FAST))
  assert not again, "what is in the queue is left there"
  (root / "hold").unlink()
  found = wait(tasks, root)
  assert found == dict.fromkeys([*hostile, "free", "child"], "done") | {
    "bad": "failed",
    "orphan": "blocked",
    "g": "blocked",
  }
  assert progress.failure(bad, root) == "error: no such luck" and log(free, root)
  report = "report/report.html"
  ended = max((root / name / report).stat().st_mtime for name in hostile)
  assert (progress.log_file(child, root)).stat().st_mtime > ended
  assert not [path for top in (tmp_path, CHECKOUT) for path in top.rglob("MARK")]

  fixed = [
    *parents,
    Task("bad", "run", working(root, "bad").argv),
    free,
    child,
    working(root, "orphan", needs=["bad"]),
  ]
  again = slurm.submit(fixed, root, sbatch.Cluster(**FAST))
  assert set(again) == {"bad", "orphan"}
  assert set(wait(fixed, root).values()) == {"done"}


def test_preempted_runs_go_on_where_they_were(tmp_path, cluster):
  """Of a partition without grace Slurm itself starts them again, else the script asks for it."""
  roots = {name: tmp_path / name for name in ("low", "grace")}
  tasks = {name: [working(root, "two", 4)] for name, root in roots.items()}
  tasks["low"] += [
    working(roots["low"], "three", 4),
    working(roots["low"], "child", needs=["two", "three"]),
  ]
  for root in roots.values():
    root.mkdir()
    (root / "hold").touch()
  for name, count in (("low", 1), ("grace", 2)):  # All CPUs of the node.
    asked = sbatch.Cluster(partition=name, processes_per_node=count, **FAST)
    slurm.submit(tasks[name], roots[name], asked)
  wait_for_start(tasks["low"][:2], roots["low"])
  wait_for_start(tasks["grace"], roots["grace"])
  push_aside(cluster)
  seen = set()

  def ended():
    found = [slurm.states(some, roots[name]) for name, some in tasks.items()]
    seen.update(*(states.values() for states in found))
    return all(state == "done" for states in found for state in states.values())

  def all_saved():
    return ended() or sum(len([*root.glob("t*/saved_*")]) for root in roots.values()) == 4

  wait_for(all_saved)
  for root in roots.values():
    (root / "hold").unlink()
  wait_for(ended)
  assert {"running", "requeued", "waiting", "done"} <= seen and "failed" not in seen
  for name, task in (("grace", "two"), ("low", "two"), ("low", "three")):
    lines = [line.split() for line in log(Task(task, "run", ()), roots[name]) if "from" in line]
    ranks = {"grace": ["0", "1"], "low": ["alone"]}[name]
    assert sorted(line[3] for line in lines) == sorted(2 * ranks)
    again = [float(line[1]) for line in lines[len(ranks) :]]
    assert all(0 < start < 4 for start in again), "went on, did not begin anew"


def test_cancelled_and_lost_jobs_are_told(tmp_path, cluster, capsys):
  tasks = [
    working(tmp_path, "stopped", 60),
    working(tmp_path, "killed", 60),
    working(tmp_path, "after", needs=["stopped"]),
    working(tmp_path, "fine"),
  ]
  jobs = slurm.submit(tasks, tmp_path, sbatch.Cluster(**FAST))
  wait_for_start(tasks[:2], tmp_path)
  cluster.call("scancel", jobs["stopped"])
  cluster.call("scancel", "--signal=KILL", "--full", jobs["killed"])
  found = wait(tasks, tmp_path)
  write_json(tmp_path / "sweep.json", {"sweep": "s", "tasks": [*map(dataclasses.asdict, tasks)]})
  called("--status", f"--root={tmp_path}")
  shown = capsys.readouterr().out
  assert "1 done, 2 failed, 1 blocked" in shown and "CANCELLED" in shown
  assert found == {"stopped": "failed", "killed": "failed", "after": "blocked", "fine": "done"}
  assert log(tasks[0], tmp_path)[-1] == f"Slurm: job {jobs['stopped']} CANCELLED"
  assert progress.failure(tasks[1], tmp_path).startswith(f"Slurm: job {jobs['killed']} ")
  before = log(tasks[0], tmp_path)
  assert slurm.states(tasks, tmp_path) == found and log(tasks[0], tmp_path) == before

  known = slurm_jobs.read(tmp_path)
  slurm_jobs.write(tmp_path, known | {"fine": {"job": "99999", "name": known["fine"]["name"]}})
  (tmp_path / "fine" / "report" / "report.html").unlink()
  progress.exit_file(tasks[3], tmp_path).unlink()
  assert slurm.states(tasks, tmp_path)["fine"] == "failed"
  assert progress.failure(tasks[3], tmp_path).endswith("no longer in the queue and did not finish")


def test_a_job_of_that_number_but_of_another_name_is_not_ours(tmp_path):
  tasks = [working(tmp_path, "a", 60), working(tmp_path, "b", needs=["a"])]
  held = sbatch.Cluster(options=("--hold",), **FAST)
  jobs = slurm.submit(tasks, tmp_path, held)
  assert slurm.states(tasks, tmp_path) == {"a": "queued", "b": "waiting"}
  known = slurm_jobs.read(tmp_path)
  slurm_jobs.write(tmp_path, known | {"a": {"job": jobs["a"], "name": "other"}})
  assert slurm.states(tasks, tmp_path) == {"a": "failed", "b": "blocked"}
  again = slurm.submit(tasks, tmp_path, held)
  assert set(again) == {"a", "b"}, "what waits for a job that is gone must not stay in the queue"
  assert squeue.jobs()[jobs["b"]].state == "CANCELLED"
  squeue.call(["scancel", jobs["a"], *again.values()])


def test_options_of_the_cluster_file_reach_slurm_as_they_are(tmp_path):
  odd = "a \"b\" c # d \\ e 'f' $HOME %j;g"
  asked = sbatch.Cluster(
    options=(f"--comment={odd}", "--hold"),
    gres="gpu:1",
    time=7,
    mem="100M",
    cpus_per_task=2,
    python="my python",
    setup="echo 'set up'; exit 3",
    **FAST,
  )
  task = working(tmp_path, "a")
  number = slurm.submit([task], tmp_path, asked)["a"]
  told = squeue.call(["scontrol", "show", "job", number])
  assert f"Comment={odd}" in told and "gres:gpu:1" in told and "TimeLimit=00:07:00" in told
  assert "CPUs/Task=2" in told and "MinMemoryNode=100M" in told and "Reason=JobHeldUser" in told
  assert slurm.states([task], tmp_path)["a"] == "queued"
  squeue.call(["scontrol", "release", number])
  assert wait([task], tmp_path)["a"] == "failed" and "set up" in log(task, tmp_path)


def test_what_sbatch_refuses_is_told_and_earlier_jobs_are_kept(tmp_path):
  tasks = [working(tmp_path, "a"), working(tmp_path, "b", needs=["a"])]
  with pytest.raises(UserError, match="sbatch failed: .*[Pp]artition.*nosuch"):
    slurm.submit(tasks, tmp_path, sbatch.Cluster(partition="nosuch"))
  assert slurm.states(tasks, tmp_path) == {"a": "ready", "b": "waiting"}
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="sbatch: there is no such program"):
      slurm.submit(tasks, tmp_path, sbatch.Cluster())


SWEEP = """
from dissim_jax.launch.sweep import Run

TINY = {
  "augment.crop_padding": 1, "train.checkpoint_every_epochs": 1000, "ensemble.baseline": False,
  "model.name": "stem_alone", "dissim.taps": (0,),
}

def get_sweep():
  yield Run("it's first", "tests/tiny.py", {**TINY, "ensemble.size": 1, "train.epochs": 3})
  yield Run("second; `touch MARK`", "tests/tiny.py", {**TINY, "train.epochs": 30},
            teachers=("it's first/member_0",))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """The folder of a sweep's and a cluster's file."""
  folder = tmp_path_factory.mktemp("sweep")
  (folder / "two.py").write_text(SWEEP)
  (folder / "cluster.toml").write_text("poll_seconds = 0.3\nsignal_seconds = 30\n")
  return folder


@pytest.fixture(scope="module")
def sweep(files):
  """The same, with the results as one process gets them undisturbed."""
  for task in make_tasks(load(files / "two.py"), files, ["seed=3"]):
    words = [word.partition("=") for word in task.argv if word.startswith("--config.")]
    values = {field.removeprefix("--config."): value for field, _, value in words}
    _, config = commands.for_run(task.name, "tests/tiny.py", values, files / task.name)
    experiment.run(config, files / task.name)
  return files


def losses(member):
  rows = [json.loads(line) for line in (member / "metrics.jsonl").read_text().splitlines()]
  assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
  return [row["train_loss"] for row in rows]


def weights(member):
  return [np.asarray(x) for x in jax.tree.leaves(load_weights(member / "weights", None))]


def logits(run):
  with np.load(run / "evaluation" / "predictions.npz", allow_pickle=False) as saved:
    return saved["logits"]


def launch(*arguments):
  return subprocess.Popen(
    [sys.executable, "-m", "dissim_jax.launch.slurm", *arguments],
    cwd=CHECKOUT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )


def test_a_preempted_sweep_ends_as_one_that_was_left_alone(tmp_path, sweep, cluster, capsys):
  root = tmp_path / "my runs"
  given = [f"--sweep={sweep}/two.py", f"--cluster={sweep}/cluster.toml", "--override=seed=3"]
  process = launch(*given, f"--root={root}", "--wait")
  try:
    name = "second; `touch MARK`"
    rows = root / name / "member_1" / "metrics.jsonl"
    wait_for(lambda: process.poll() is not None or (rows.exists() and rows.read_text()))
    assert process.poll() is None, process.communicate()
    number = slurm_jobs.read(root)[name]["job"]
    cluster.call("scancel", "--full", "--signal=STOP", number)  # Preemption says CONT, then TERM.
    epochs = len(rows.read_text().splitlines())
    push_aside(cluster)
    printed, errors = process.communicate(timeout=1200)
  finally:
    process.kill()
  assert process.returncode == 0, (printed, errors)
  assert squeue.jobs()[number].restarts == 1 and "requeued" in printed and "2 done" in printed
  assert epochs < 30, "stopped in the middle"
  for member in ("it's first/member_0", f"{name}/member_1"):
    assert losses(root / member) == losses(sweep / member)
    for own, expected in zip(weights(root / member), weights(sweep / member), strict=True):
      np.testing.assert_array_equal(own, expected)
  np.testing.assert_array_equal(logits(root / name), logits(sweep / name))
  called("--status", f"--root={root}")
  shown = capsys.readouterr().out
  assert "it's first" in shown and "2 done" in shown
  assert not list(tmp_path.rglob("MARK")) and not list(CHECKOUT.glob("MARK"))


def test_two_processes_of_srun_train_as_one(tmp_path, sweep):
  [task, _] = make_tasks(load(sweep / "two.py"), tmp_path, ["seed=3"])
  setup = "unset XLA_FLAGS"  # One device for each.
  slurm.submit([task], tmp_path, sbatch.Cluster(processes_per_node=2, setup=setup, **FAST))
  assert wait([task], tmp_path) == {task.name: "done"}, log(task, tmp_path)
  member = f"{task.name}/member_0"
  np.testing.assert_allclose(losses(tmp_path / member), losses(sweep / member), rtol=1e-4)
  assert "--ntasks=2" in next(slurm_jobs.folder(tmp_path).glob("*.sbatch")).read_text()


def called(*arguments):
  """The launcher, in this process."""
  values = flags.FlagValues()
  holders = slurm.define_flags(values)
  values(["launch.slurm", *arguments])
  slurm.main(["launch.slurm"], holders)


@pytest.mark.parametrize(
  "arguments, told",
  [
    (["--sweep=two.py"], "--cluster is missing"),
    (["--sweep=two.py", "--cluster=bad.toml"], "did you mean 'partition'?"),
    (["--cluster=cluster.toml"], "--sweep is missing"),
    (["--status", "--root=none"], "no sweep was started there"),
  ],
)
def test_wrong_flags_are_told_in_a_sentence(files, monkeypatch, arguments, told):
  monkeypatch.chdir(files)
  (files / "bad.toml").write_text("partitoin = 'x'\n")
  with pytest.raises(UserError, match=re.escape(told)):
    called(*arguments)


def test_a_dry_run_shows_the_scripts_and_writes_nothing(tmp_path, files, capsys):
  root = tmp_path / "new"
  given = (f"--sweep={files}/two.py", f"--cluster={files}/cluster.toml", f"--root={root}")
  called(*given, "--dry_run")
  shown = capsys.readouterr().out
  assert "#SBATCH --signal=B:USR1@30" in shown and "2 runs, 2 models" in shown
  assert "--job-name=001-second-touch-MARK" in shown and "# after it's first" in shown
  assert not root.exists()
