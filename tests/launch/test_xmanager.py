"""Sweeps as XManager experiments: order, limits, failures, names, and going on.

Most tasks are small Python programs instead of trainings; they write the file that says "done".
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rich.console
import slurm_cluster
from absl import flags

try:
  import xmanager.xm  # noqa: F401
except ImportError:
  if os.environ.get("CI"):
    pytest.fail("CI needs the extra `xmanager`", pytrace=False)
  pytest.skip("needs the extra `xmanager`", allow_module_level=True)

from dissim_jax.errors import UserError
from dissim_jax.files.atomic import write_json
from dissim_jax.launch import progress, sbatch, worker, xm_slurm, xm_units
from dissim_jax.launch.options import Request
from dissim_jax.launch.tasks import Task

CHECKOUT = Path(__file__).resolve().parents[2]
XMANAGER = [str(Path(sys.executable).with_name("xmanager")), "launch"]
# Notes when it begins and ends, and writes the file of a finished run. A child first waits until
# two children have begun.
WORK = """
import pathlib, sys, time
folder, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
with (folder / "events").open("a") as events:
  print("begin", sys.argv[3], time.time(), file=events, flush=True)
  time.sleep(seconds)
  for _ in range(60_000):
    begun = (folder / "events").read_text().count("begin child/")
    if begun > 1 or not sys.argv[3].startswith("child/"):
      break
    time.sleep(0.02)
  print("end", sys.argv[3], time.time(), file=events, flush=True)
if (folder / "broken").exists() and sys.argv[3] == (folder / "broken").read_text():
  sys.exit("this one is broken")
report = folder / "runs" / sys.argv[3] / "report" / "report.html"
report.parent.mkdir(parents=True, exist_ok=True)
report.write_text(repr(sys.argv[4:]))
"""
HOSTILE = [
  "a b'c",
  'q"; touch PWNED; "',
  "$(touch PWNED)",
  "`touch PWNED`",
  "--log=x",
  "*",
  "%s\\n",
]
TINY = {
  "train.epochs": 1,
  "ensemble.baseline": False,
  "ensemble.size": 1,
  "model.name": "stem_alone",
  "dissim.taps": (0,),
}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
  """XManager's record goes to a temporary folder; it is found once a process."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    patch.chdir(CHECKOUT)
    flags.FLAGS.mark_as_parsed()
    yield Path(os.environ["HOME"])
    flags.FLAGS.unparse_flags()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
  """A real Slurm."""
  if slurm_cluster.missing():
    told = f"needs the programs {', '.join(slurm_cluster.missing())}"
    pytest.fail(told, pytrace=False) if os.environ.get("CI") else pytest.skip(told)
  with slurm_cluster.SlurmCluster(tmp_path_factory.mktemp("slurm")) as cluster:
    with pytest.MonkeyPatch.context() as patch:
      patch.setenv("SLURM_CONF", str(cluster.conf))
      patch.setenv("PATH", cluster.environment()["PATH"])
      yield cluster


def work(folder, name, needs=(), seconds=0.0, words=()):
  return Task(name, "run", ("-c", WORK, str(folder), str(seconds), name, *words), tuple(needs))


def launch(folder, tasks, parallel=1):
  """The last states."""
  asked = Request("small", tasks, folder / "runs")
  console = rich.console.Console(file=(folder / "console").open("w"))
  engine = xm_units.local(tasks, folder / "runs", "", parallel)
  return xm_units.run(asked, engine, console)


def events(folder):
  """(what, name, seconds) in order."""
  rows = [line.split() for line in (folder / "events").read_text().splitlines()]
  return [(row[0], " ".join(row[1:-1]), float(row[-1])) for row in rows]


def most_at_once(rows):
  count = most = 0
  for what, _, _ in sorted(rows, key=lambda row: row[2]):
    count += 1 if what == "begin" else -1
    most = max(most, count)
  return most


def test_parents_come_first_and_no_more_run_than_allowed(tmp_path, home):
  tasks = [work(tmp_path, "root")]
  tasks += [work(tmp_path, f"child/{i}", ["root"]) for i in range(4)]
  tasks += [work(tmp_path, "last", ["child/0", "child/3"])]
  found = launch(tmp_path, tasks, parallel=2)
  assert set(found.values()) == {progress.DONE}
  rows = events(tmp_path)
  begin = {name: seconds for what, name, seconds in rows if what == "begin"}
  end = {name: seconds for what, name, seconds in rows if what == "end"}
  for task in tasks:
    assert all(end[parent] <= begin[task.name] for parent in task.needs)
  assert most_at_once(rows) == 2
  assert (home / ".xmanager" / "experiments.sqlite3").is_file()


def test_failed_run_stops_its_children_only_and_the_same_command_goes_on(tmp_path):
  (tmp_path / "broken").write_text("bad")
  tasks = [
    work(tmp_path, name, needs)
    for name, needs in (
      ("bad", ()),
      ("good", ()),
      ("child", ("bad",)),
      ("grandchild", ("child",)),
      ("fine", ("good",)),
    )
  ]
  found = launch(tmp_path, tasks)
  assert found == {
    "bad": progress.FAILED,
    "good": progress.DONE,
    "child": progress.BLOCKED,
    "grandchild": progress.BLOCKED,
    "fine": progress.DONE,
  }
  root = tmp_path / "runs"
  assert progress.exit_code(tasks[0], root) == 1
  assert progress.last_line(tasks[0], root) == "this one is broken"
  assert "failed bad: this one is broken" in (tmp_path / "console").read_text()
  (tmp_path / "broken").unlink()
  before = len(events(tmp_path))
  assert set(launch(tmp_path, tasks).values()) == {progress.DONE}
  again = [name for what, name, _ in events(tmp_path)[before:] if what == "begin"]
  assert again == ["bad", "child", "grandchild"]
  assert "failed" not in (tmp_path / "console").read_text()


def test_run_that_another_process_is_finishing_is_waited_for(tmp_path):
  program = """
import fcntl, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / "report").mkdir(parents=True)
with (folder / ".lock").open("w") as lock:
  fcntl.flock(lock, fcntl.LOCK_EX)
  print("locked", flush=True)
  for _ in range(60_000):
    if "elsewhere a" in pathlib.Path(sys.argv[2]).read_text(): break
    time.sleep(0.02)
  (folder / "report" / "report.html").touch()
"""
  (tmp_path / "console").touch()
  command = [sys.executable, "-c", program, str(tmp_path / "runs" / "a"), str(tmp_path / "console")]
  tasks = [work(tmp_path, "a"), work(tmp_path, "b", ["a"])]
  (tmp_path / "runs").mkdir()
  write_json(tmp_path / "runs" / "sweep.json", {"sweep": "small", "tasks": []})
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
    assert other.stdout.readline() == "locked\n"
    assert set(launch(tmp_path, tasks).values()) == {progress.DONE}
  assert "elsewhere a" in (tmp_path / "console").read_text()
  assert {name for _, name, _ in events(tmp_path)} == {"b"}


def test_names_and_arguments_arrive_as_they_are_and_execute_nothing(tmp_path):
  tasks = [work(tmp_path, name, words=(name, "--", "-x", "", "$HOME")) for name in HOSTILE]
  found = launch(tmp_path, tasks, parallel=3)
  assert found == dict.fromkeys(HOSTILE, progress.DONE)
  for name in HOSTILE:
    written = (tmp_path / "runs" / name / "report" / "report.html").read_text()
    assert written == repr([name, "--", "-x", "", "$HOME"])
    assert (tmp_path / "runs" / "launch" / name / "exit_code").read_text() == "0\n"
  assert not list(CHECKOUT.glob("PWNED")) and not list(tmp_path.rglob("PWNED"))


def test_process_may_ask_to_be_started_again_and_a_killed_one_failed(tmp_path, monkeypatch):
  monkeypatch.setattr("dissim_jax.launch.worker._RETRY", 0.0)
  log, code, marker = tmp_path / "log", tmp_path / "code", tmp_path / "marker"
  program = f"import pathlib, sys; p = pathlib.Path({str(marker)!r}); print('x'); "
  program += "sys.exit(0 if p.exists() else (p.touch(), 75)[1])"
  assert worker.main([f"--log={log}", f"--exit_code={code}", "--", "-c", program]) == 0
  assert log.read_text() == "x\nx\n" and code.read_text() == "0\n"
  program = "import os; os.kill(os.getpid(), 9)"
  assert worker.main([f"--log={log}", f"--exit_code={code}", "--", "-c", program]) == 137
  assert code.read_text() == "-9\n"


def xmanager_launch(script, *arguments, home):
  """A process of the command line, as a user types it."""
  return subprocess.Popen(
    [*XMANAGER, str(script), "--", *arguments],
    cwd=CHECKOUT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    env={**os.environ, "HOME": str(home)},
  )


def test_dry_run_tells_the_plan_and_creates_no_experiment(tmp_path):
  process = xmanager_launch(
    "launch/xm.py",
    "--sweep=configs/sweeps/wald_table1.py",
    f"--root={tmp_path / 'runs'}",
    "--dry_run",
    home=tmp_path,
  )
  out, err = process.communicate()
  assert process.returncode == 0, err
  assert "25 runs, 105 models to train" in out
  assert not (tmp_path / "runs").exists() and not (tmp_path / ".xmanager").exists()


def test_mistakes_are_told_in_a_sentence(tmp_path):
  process = xmanager_launch("launch/xm.py", "--sweeep=x", home=tmp_path)
  told = "error: --sweeep: there is no such flag, did you mean 'sweep'?\n"
  assert process.communicate()[1] == told
  assert process.returncode == 2


def test_real_run_on_this_machine_and_what_is_left_on_slurm(tmp_path, home, slurm):
  good = "it's; $(touch PWNED)"
  sweep, root, cluster = tmp_path / "tiny.py", tmp_path / "the runs", tmp_path / "cluster.toml"
  sweep.write_text(f"""
from dissim_jax.launch.sweep import Run
TINY = {TINY}
BAD = {{"data.name": "image_folder", "data.dir": "/nowhere"}}
def get_sweep():
  yield Run({good!r}, "tests/tiny.py", TINY)
  yield Run("bad", "tests/tiny.py", TINY | BAD)
""")
  given = ("launch/xm.py", f"--sweep={sweep}", f"--root={root}")
  process = xmanager_launch(*given, f"--only={good}", home=home)
  out, err = process.communicate()
  assert process.returncode == 0, err
  assert (root / good / "report" / "report.html").is_file() and "dissim_jax.collect" in out
  cluster.write_text('partition = "low"\npoll_seconds = 0.5\n')
  process = xmanager_launch(*given, "--engine=slurm", f"--cluster={cluster}", home=home)
  out, err = process.communicate()
  assert process.returncode == 1, err
  assert "1 failed: bad; see " in err and "Traceback" not in err
  assert "/nowhere" in (root / "launch" / "bad" / "output.log").read_text()
  assert [path.name for path in (root / "launch" / "slurm").glob("*.sbatch")] == ["000-bad.sbatch"]
  assert not list(CHECKOUT.glob("PWNED")) and not list(tmp_path.rglob("PWNED"))


def test_slurm_work_units_wait_for_their_parents_and_show_failures(tmp_path, slurm):
  (tmp_path / "broken").write_text("bad")
  tasks = [work(tmp_path, name, seconds=0.2) for name in ("a $(touch PWNED)", "b", "bad")]
  tasks += [work(tmp_path, "child", ["a $(touch PWNED)", "b"]), work(tmp_path, "late", ["bad"])]
  asked = Request("small", tasks, tmp_path / "runs")
  cluster = sbatch.Cluster(partition="low", poll_seconds=0.3)
  console = rich.console.Console(file=(tmp_path / "console").open("w"))
  found = xm_units.run(asked, xm_slurm.submitted(tasks, asked.root, cluster, nodes=1), console)
  assert list(found.values()) == [
    progress.DONE,
    progress.DONE,
    progress.FAILED,
    progress.DONE,
    progress.BLOCKED,
  ]
  order = [(what, name) for what, name, _ in events(tmp_path)]
  begin = order.index(("begin", "child"))
  assert all(order.index(("end", parent)) < begin for parent in tasks[3].needs)
  assert ("begin", "late") not in order
  assert not list(CHECKOUT.glob("PWNED")) and not list(tmp_path.rglob("PWNED"))


def test_slurm_job_that_failed_fails_its_work_unit(tmp_path, monkeypatch):
  """A controller that does not answer changes nothing, if it does again."""
  answers = []

  def states(tasks, root):
    if answers[0] is None:
      answers.pop(0)
      raise UserError("no answer")
    return {"a": answers.pop(0)}

  monkeypatch.setattr(xm_slurm.slurm, "states", states)

  async def end(state):
    answers[:] = ["queued", progress.RUNNING, None, None, state]
    await xm_slurm.Handle("a", xm_slurm.Queue([], tmp_path, 0.01)).wait()

  asyncio.run(end(progress.DONE))
  assert not answers
  for state in (progress.FAILED, progress.BLOCKED):
    with pytest.raises(RuntimeError, match=f"'a' ended as {state}"):
      asyncio.run(end(state))
  monkeypatch.setattr(xm_slurm, "_PATIENCE", -1.0)
  with pytest.raises(UserError, match="no answer"):
    asyncio.run(end(progress.DONE))


def test_stopped_launcher_stops_its_processes_which_have_time_to_finish(tmp_path):
  program = "import signal, sys, time; "
  program += "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit(75))); "
  program += "print('ready', flush=True); time.sleep(1200)"
  script, folder = tmp_path / "launch_one.py", tmp_path / "runs" / "launch" / "long"
  script.write_text(f"""
import pathlib
import rich.console
from xmanager import xm
from dissim_jax import command_line
from dissim_jax.launch import options, tasks, xm_units
def launch(argv):
  todo, root = [tasks.Task("long", "run", ("-c", {program!r}))], pathlib.Path({str(tmp_path)!r})
  asked = options.Request("one", todo, root / "runs")
  xm_units.run(asked, xm_units.local(todo, asked.root, "", 1), rich.console.Console())
main = command_line.guarded(launch)
""")
  path = {"PYTHONPATH": str(CHECKOUT)}
  with (tmp_path / "told").open("w") as told:
    process = subprocess.Popen(
      [*XMANAGER, str(script)],
      cwd=CHECKOUT,
      stdout=told,
      stderr=told,
      env={**os.environ, **path, "HOME": str(tmp_path)},
    )
  until(lambda: (folder / "output.log").is_file() and (folder / "output.log").read_text())
  process.send_signal(signal.SIGTERM)
  assert process.wait(1200) == 130
  assert "the same command goes on" in (tmp_path / "told").read_text()
  until(lambda: (folder / "exit_code").is_file() and (folder / "exit_code").read_text())
  assert (folder / "exit_code").read_text() == "75\n"


def until(condition):
  deadline = time.monotonic() + 1200
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.1)
