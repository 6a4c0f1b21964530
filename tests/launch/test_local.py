"""The pool of processes: what it starts, what it survives, and what it leaves behind."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import rich.console
from absl import flags

from dissim_jax import command_line, experiment
from dissim_jax.distributed.checkpoint import load_weights
from dissim_jax.launch import local, options, pool, progress
from dissim_jax.launch.options import Request
from dissim_jax.launch.table import LiveTable
from dissim_jax.launch.tasks import Task, save_plan
from tests.experiment.test_sequence import TINY, tiny_config

HOME = Path(__file__).parents[2]
# What every task of these tests does first: note that it began; `finish` writes the results.
BEGIN = """
import fcntl, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
lock = (folder / ".lock").open("a")
def note(text):
  with (folder / "notes").open("a") as file:
    print(text, time.time(), file=file)
def finish():
  note("end")
  (folder / "comparison.html").write_text("")
def wait_for(condition):
  for _ in range(60_000):
    if condition(): return
    time.sleep(0.02)
note("begin")
"""


def task(root, name, code="finish()", needs=()):
  """A task that runs a few lines of Python in its folder."""
  return Task(name, "comparison", ("-c", BEGIN + code, str(root / name)), needs)


def notes(root, name):
  """[(what, when)] that a task noted."""
  path = root / name / "notes"
  lines = path.read_text().splitlines() if path.exists() else []
  return [(line.split()[0], float(line.split()[1])) for line in lines]


def begins(root, name):
  return sum(what == "begin" for what, _ in notes(root, name))


def shown(tasks, root):
  """A table on no terminal: a line for every change."""
  return LiveTable(tasks, root, rich.console.Console(file=io.StringIO(), width=80))


def run(tasks, root, parallel=2, stop=None, environments=None, table=None):
  """The last states, and the lines that were shown."""
  table = table or shown(tasks, root)
  root.mkdir(parents=True, exist_ok=True)
  environments = environments or [{}] * parallel
  found = pool.run(tasks, root, environments, table, stop or threading.Event())
  return found, table._console.file.getvalue()


def flag_values(root, *arguments):
  values = flags.FlagValues()
  holders = local.define_flags(values)
  values(["launch", "--sweep=x.py", f"--root={root}", *arguments])
  return holders


def launch(monkeypatch, tasks, root, *arguments):
  """`launch.local` of tasks that are no sweep's."""
  monkeypatch.setattr(options, "request", lambda holders: Request("x", list(tasks), root))
  holders = flag_values(root, *arguments)
  command_line.guarded(lambda argv: local.main(argv, holders))(["launch"])


DEADLINE = 1200  # seconds; not reached, however busy the machine


def wait_for(condition):
  limit = time.monotonic() + DEADLINE
  while not condition():
    assert time.monotonic() < limit
    time.sleep(0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(pool, "_POLL", 0.02)
  monkeypatch.setattr(pool, "_RETRY", 0.2)


# Devices.


@pytest.mark.parametrize(
  "devices, parallel, visible, memory",
  [
    ([], 2, [None, None], None),
    (["0"], 1, ["0"], None),
    (["0", "1", "2", "3"], 2, ["0,1", "2,3"], None),
    (["4", "5", "6"], 2, ["4", "5"], None),
    (["0", "1"], 4, ["0", "1", "0", "1"], "0.450"),
    (["0", "1"], 3, ["0", "1", "0"], "0.450"),
    (["GPU-a"], 3, ["GPU-a"] * 3, "0.300"),
  ],
)
def test_devices_are_shared_out(devices, parallel, visible, memory, monkeypatch):
  monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
  found = local.slots(devices, parallel)
  assert [own.get("CUDA_VISIBLE_DEVICES") for own in found] == visible
  assert {own.get("XLA_PYTHON_CLIENT_MEM_FRACTION") for own in found} == {memory}
  monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.1")
  assert all("XLA_PYTHON_CLIENT_MEM_FRACTION" not in own for own in local.slots(devices, parallel))


def test_devices_are_found(monkeypatch, tmp_path):
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  monkeypatch.setenv("PATH", str(tmp_path))
  monkeypatch.setenv("JAX_PLATFORMS", "")
  assert local.find_devices("") == [] and local.find_devices("1, 3") == ["1", "3"]
  program = tmp_path / "nvidia-smi"
  program.write_text("#!/bin/sh\necho 0\necho 1\n")
  program.chmod(0o755)
  assert local.find_devices("") == ["0", "1"]
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert local.find_devices("") == []
  monkeypatch.setenv("JAX_PLATFORMS", "")
  for given, expected in (("2,5", ["2", "5"]), ("", []), ("-1", [])):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert local.find_devices("") == expected
  assert local.find_devices("7") == ["7"]
  program.write_text("#!/bin/sh\nexit 9\n")
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
  assert local.find_devices("") == []


# The pool.


def test_parents_come_first_and_no_more_run_than_are_allowed(tmp_path):
  together = 'wait_for(lambda: len(list(folder.parent.glob("b*/notes"))) > 1); finish()'
  tasks = [task(tmp_path, "a")]
  tasks += [task(tmp_path, f"b{i}", together, ("a",)) for i in range(4)]
  tasks.append(task(tmp_path, "c", needs=("b0", "b3")))
  found, told = run(tasks, tmp_path)
  assert set(found.values()) == {progress.DONE}
  when = {t.name: dict(notes(tmp_path, t.name)) for t in tasks}
  for t in tasks:
    assert all(when[need]["end"] <= when[t.name]["begin"] for need in t.needs)
  at_once = [
    sum(o["begin"] <= own["begin"] < o["end"] for o in when.values()) for own in when.values()
  ]
  assert max(at_once) == 2
  assert told.count("running") == told.count("done") == len(tasks)


def test_failed_run_blocks_its_children_alone_and_is_tried_again(tmp_path):
  mended = tmp_path / "mended"
  code = f"""
if not pathlib.Path({str(mended)!r}).exists(): sys.exit("error: [red]of mine[/]")
finish()"""
  tasks = [
    task(tmp_path, "bad", code),
    task(tmp_path, "child", needs=("bad",)),
    task(tmp_path, "grandchild", needs=("child",)),
    task(tmp_path, "other"),
    task(tmp_path, "others_child", needs=("other",)),
  ]
  found, told = run(tasks, tmp_path, parallel=1)
  assert list(found.values()) == ["failed", "blocked", "blocked", "done", "done"]
  assert "failed bad: error: [red]of mine[/]\n" in told
  assert progress.exit_code(tasks[0], tmp_path) == 1 and begins(tmp_path, "child") == 0
  mended.write_text("")
  found, _ = run(tasks, tmp_path)
  assert set(found.values()) == {progress.DONE}
  assert [begins(tmp_path, t.name) for t in tasks] == [2, 1, 1, 1, 1]


def test_process_that_ends_well_without_results_has_failed(tmp_path):
  (own,) = tasks = [task(tmp_path, "a", "print('hello')")]
  found, _ = run(tasks, tmp_path)
  assert found == {"a": progress.FAILED} and progress.exit_code(own, tmp_path) == 1
  log = progress.log_file(own, tmp_path).read_text()
  assert log == "hello\nerror: the process ended without its results\n"


def test_killed_worker_has_failed_and_the_next_launcher_does_it_alone(tmp_path):
  code = """
if len((folder / "notes").read_text().splitlines()) == 1: os.kill(os.getpid(), signal.SIGKILL)
finish()"""
  tasks = [task(tmp_path, "a", code), task(tmp_path, "b")]
  found, told = run(tasks, tmp_path)
  assert found == {"a": progress.FAILED, "b": progress.DONE}
  assert "failed a: killed by SIGKILL" in told
  found, _ = run(tasks, tmp_path)
  assert set(found.values()) == {progress.DONE}
  assert (begins(tmp_path, "a"), begins(tmp_path, "b")) == (2, 1)


def test_process_that_is_to_be_started_again_is(tmp_path):
  code = """
if len((folder / "notes").read_text().splitlines()) < 3: sys.exit(75)
finish()"""
  found, told = run([task(tmp_path, "a", code)], tmp_path)
  assert found == {"a": progress.DONE} and begins(tmp_path, "a") == 3
  assert "elsewhere a" in told and "failed" not in told


def test_ctrl_c_reaches_the_launcher_alone(tmp_path):
  own = task(tmp_path, "a", "print(os.getsid(0) == os.getpid()); finish()")
  run([own], tmp_path)
  assert progress.log_file(own, tmp_path).read_text() == "True\n"


def test_names_and_arguments_reach_the_process_as_they_are(tmp_path):
  name = "-a; touch x $(touch x) `touch x` 'q\" \\ %s é [red] /;"
  own = task(tmp_path, name, "finish(); print(sys.argv[1])")
  found, _ = run([own], tmp_path)
  assert found == {name: progress.DONE}
  assert progress.log_file(own, tmp_path).read_text() == f"{tmp_path}/{name}\n"
  assert not list(tmp_path.rglob("x")) and not Path("x").exists()


def test_process_of_a_killed_launcher_is_left_alone_and_counts(tmp_path):
  """It holds the lock of its folder, as `dissim_jax.main` does."""
  code = """
fcntl.flock(lock, fcntl.LOCK_EX); note("held")
wait_for((folder.parent / "seen").exists); finish()"""
  tasks = [
    task(tmp_path, "a", code),
    task(tmp_path, "child", needs=("a",)),
    task(tmp_path, "b"),
  ]
  orphan = subprocess.Popen([sys.executable, *tasks[0].argv])
  wait_for(lambda: len(notes(tmp_path, "a")) == 2)
  table = shown(tasks, tmp_path)

  def release():
    wait_for(lambda: table._console.file.getvalue())
    (tmp_path / "seen").touch()

  thread = threading.Thread(target=release)
  thread.start()
  found, told = run(tasks, tmp_path, parallel=1, table=table)
  thread.join()
  assert orphan.wait() == 0 and set(found.values()) == {progress.DONE}
  assert begins(tmp_path, "a") == 1 and told.startswith("elsewhere a\n")
  # The one slot was taken.
  assert notes(tmp_path, "b")[0][1] >= dict(notes(tmp_path, "a"))["end"]


def test_devices_of_a_killed_launchers_process_are_not_given_to_another(tmp_path):
  environments = local.slots(["0", "1", "2"], 3)
  first = pool.Pool(tmp_path, environments)
  tasks = [task(tmp_path, f"t{i}") for i in range(3)]
  for own, environment in zip(tasks, environments, strict=True):
    first.start(own, environment)
  first.stop()
  later = pool.Pool(tmp_path, environments)
  assert later.free([]) == environments
  assert later.free([tasks[1]]) == [environments[0], environments[2]]
  assert later.free([tasks[2], tasks[0]]) == [environments[1]]
  assert later.free(tasks) == [] == pool.Pool(tmp_path, [{}]).free(tasks)


@pytest.fixture
def heeded():
  """Signals as a program in a terminal has them: what nohup or a shell's & ignores is not."""
  usual = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
  }
  before = {number: signal.signal(number, handler) for number, handler in usual.items()}
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_told_to_stop_it_stops_its_processes_and_goes_on_later(
  tmp_path, monkeypatch, capsys, number
):
  trap = """
if (folder / "checkpoint").exists(): finish(); sys.exit()
def save(number, frame):
  (folder / "checkpoint").write_text("")
  sys.exit(75)
signal.signal(signal.SIGTERM, save)
note("ready")
time.sleep(1200)"""
  deaf = "wait_for(lambda: len((folder / 'notes').read_text().splitlines()) > 1); finish()"
  tasks = [
    task(tmp_path, "a", trap),
    task(tmp_path, "deaf", deaf),
    task(tmp_path, "b", needs=("a",)),
  ]

  def tell():
    wait_for(lambda: len(notes(tmp_path, "a")) == 2 and begins(tmp_path, "deaf"))
    os.kill(os.getpid(), number)

  thread = threading.Thread(target=tell)
  thread.start()
  with pytest.raises(SystemExit) as stop:
    launch(monkeypatch, tasks, tmp_path / ".", "--parallel=2")
  thread.join()
  told = capsys.readouterr()
  assert stop.value.code == 130
  assert told.err == "stopped; the same command goes on from the last checkpoint\n"
  assert [progress.exit_code(t, tmp_path) for t in tasks] == [75, 75, None]
  assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
  launch(monkeypatch, tasks, tmp_path / ".", "--parallel=2")
  assert "tables: python -m dissim_jax.collect --root=" in capsys.readouterr().out
  assert [begins(tmp_path, t.name) for t in tasks] == [2, 2, 1]


def test_signal_that_is_ignored_stays_so():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As nohup does.
  try:
    with local.told_to_stop() as stop:
      os.kill(os.getpid(), signal.SIGHUP)
      assert not stop.is_set()
  finally:
    signal.signal(signal.SIGHUP, before)


def test_failure_is_exit_code_1_with_the_log(tmp_path, monkeypatch, capsys):
  root = tmp_path / "a root"
  tasks = [task(root, "it's bad", "sys.exit('error: mine')"), task(root, "b")]
  with pytest.raises(SystemExit) as stop:
    launch(monkeypatch, tasks, root)
  told = capsys.readouterr()
  assert stop.value.code == 1 and "failed it's bad: error: mine\n" in told.out
  log = str(progress.log_file(tasks[0], root)).replace("'", "'\"'\"'")
  assert told.err == f"1 failed, see '{log}'; the same command tries the 1 that are left again\n"


def test_two_launchers_do_not_share_a_root(tmp_path, monkeypatch, capsys):
  tasks = [task(tmp_path, "a")]
  save_plan("x", tasks, tmp_path / "root")
  with local.alone(tmp_path / "root"), pytest.raises(SystemExit) as stop:
    launch(monkeypatch, tasks, tmp_path / "root")
  assert stop.value.code == 2 and begins(tmp_path, "a") == 0
  assert capsys.readouterr().err.endswith("another launcher works there\n")


def test_programs_are_compiled_once_for_all_processes(tmp_path, monkeypatch):
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  code = "(folder / 'cache').write_text(os.environ['JAX_COMPILATION_CACHE_DIR']); finish()"
  tasks = [task(tmp_path, "a", code), task(tmp_path, "b", code)]
  launch(monkeypatch, tasks, tmp_path, "--parallel=2")
  one, other = ((tmp_path / name / "cache").read_text() for name in "ab")
  assert one == other and not Path(one).exists()
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "mine")
  launch(monkeypatch, [*tasks, task(tmp_path, "c", code)], tmp_path)
  assert (tmp_path / "c" / "cache").read_text() == "mine"


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 100 KiB."""
  folder = tmp_path / "disk"
  folder.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
  try:
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
  except OSError as error:
    pytest.skip(f"mount: {error}")
  if made.returncode:
    pytest.skip(made.stderr)
  yield folder
  subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_is_one_sentence_and_loses_nothing(small_disk, monkeypatch, capsys):
  root = small_disk / "root"
  code = """
with (folder / "weights").open("wb", buffering=0) as file:
  while not (folder.parent / "a" / "enough").exists(): file.write(bytes(4096))
finish()"""
  tasks = [task(root, "a"), task(root, "b", code, ("a",)), task(root, "c", needs=("b",))]
  for _ in range(2):  # A second try on the full disk makes nothing worse.
    with pytest.raises(SystemExit) as stop:
      launch(monkeypatch, tasks, root)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.count("\n") == 1
    assert "No space left on device; the same command goes on when this is mended" in told
  (root / "b" / "weights").unlink()
  (root / "a" / "enough").write_text("")
  launch(monkeypatch, tasks, root)
  assert all((root / name / "comparison.html").exists() for name in "abc")
  assert (begins(root, "a"), begins(root, "c")) == (1, 1)


def test_first_start_on_a_full_disk_leaves_a_root_that_can_be_used(small_disk, monkeypatch, capsys):
  root, tasks = small_disk / "root", [task(small_disk / "root", "a")]
  with (small_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
    while True:
      file.write(bytes(4096))
  with pytest.raises(SystemExit) as stop:
    launch(monkeypatch, tasks, root)
  assert stop.value.code == 2 and "cannot be written (No space left" in capsys.readouterr().err
  (small_disk / "filler").unlink()
  launch(monkeypatch, tasks, root)
  assert begins(root, "a") == 1


# Trainings.

NAME = "-a; touch pwned; $(touch pwned) `touch pwned` 'q\" % {x}|&:smile: \\ [b] " + "é" * 60
SWEEP = f"""
from dissim_jax.launch.sweep import Run
def get_sweep():
  yield Run({NAME!r}, "tests/tiny.py", {TINY | {"ensemble.baseline": False}!r})
"""


def weights(folder):
  return [np.asarray(x) for x in jax.tree.leaves(load_weights(folder / "weights", None))]


def children(pid):
  return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_killed_with_a_worker_and_started_again_it_gives_the_same_results(
  tmp_path, monkeypatch, capsys
):
  """kill -9 of both in the middle; a long run name that a shell would execute."""
  (tmp_path / "mine.py").write_text(SWEEP)
  root = tmp_path / "it's a root"
  arguments = [f"--sweep={tmp_path / 'mine.py'}", f"--root={root}"]
  command = [sys.executable, "-m", "dissim_jax.launch.local", *arguments]
  # Small programs are shared by the processes too: they start sooner.
  environment = {**os.environ, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
  launcher = subprocess.Popen(command, cwd=HOME, env=environment, stdout=subprocess.DEVNULL)
  wait_for(lambda: (root / NAME / "member_0" / "metrics.jsonl").exists())
  (worker,) = children(launcher.pid)
  launcher.kill()
  os.kill(worker, signal.SIGKILL)
  launcher.wait()
  assert not (root / NAME / "report").exists()
  again = subprocess.run(
    command, cwd=HOME, env=environment, capture_output=True, text=True, timeout=DEADLINE
  )
  assert again.returncode == 0, again.stdout + again.stderr
  assert again.stdout.count("\nrunning ") + again.stdout.startswith("running ") == 1
  assert not list(HOME.glob("pwned*")) and not list(tmp_path.rglob("pwned"))

  config = tiny_config(ensemble__baseline=False)
  experiment.train(config, tmp_path / "undisturbed")
  for name in ("member_0", "member_1"):
    pairs = zip(weights(root / NAME / name), weights(tmp_path / "undisturbed" / name), strict=True)
    for a, b in pairs:
      np.testing.assert_array_equal(a, b)
    rows = (root / NAME / name / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2, 3]

  logs = {path: path.read_bytes() for path in root.rglob("output.log")}
  holders = local.define_flags(values := flags.FlagValues())
  values(["launch", *arguments])
  local.main(["launch"], holders)
  assert len(logs) == 1 and {path: path.read_bytes() for path in logs} == logs
