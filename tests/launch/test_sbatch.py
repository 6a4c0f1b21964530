"""Cluster files, and scripts that do what they should in a plain shell, without any Slurm."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dissim_jax.errors import UserError
from dissim_jax.launch import sbatch, slurm, squeue
from dissim_jax.launch.tasks import Task

EXAMPLE = Path(__file__).parents[2] / "launch" / "clusters" / "example.toml"
HOSTILE = (
  "a b",
  "semi; touch MARK;",
  "$(touch MARK)",
  "`touch MARK`",
  'it\'s "quoted"',
  "-rf",
  "~",
  "*",
  "50%A%j_%a",
  "back\\slash\\",
  "${HOME}",
  "a && touch MARK",
  "#SBATCH --hold",
  "@ROOT@ @JOB@",
  "!!",
  "é漢",
  ")\ntouch MARK\n(",
  "> MARK",
)
PRINT = "import json, sys; print(json.dumps(sys.argv[1:]))"


def printing(name, *words):
  return Task(name, "run", ("-c", PRINT, *words))


def written(tmp_path, tasks, root, **cluster):
  """The script of the tasks; beside it, programs that only note how they were called."""
  script = tmp_path / "job.sbatch"
  script.write_text(sbatch.render(tasks, root, sbatch.Cluster(**cluster)))
  for name in ("scontrol", "scancel", "squeue"):
    program = tmp_path / name
    program.write_text(f'#!/bin/sh\necho "{name} $*" >>"{tmp_path}/called"\necho found\n')
    program.chmod(0o755)
  return script


def start(script, element=None, **environment):
  environment |= {"PATH": f"{script.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
  if element is not None:
    environment |= {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": str(element)}
  return subprocess.Popen(["bash", script], env=environment, cwd=script.parent)


def called(tmp_path):
  path = tmp_path / "called"
  return path.read_text().splitlines() if path.exists() else []


def test_every_word_arrives_as_it_is_and_nothing_is_executed(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  root = tmp_path / "ro ot; touch MARK $(touch MARK)"
  names = [name for name in HOSTILE if name.isprintable()]
  script = written(tmp_path, [printing(name, *HOSTILE) for name in names], root)
  assert subprocess.run(["bash", "-n", script]).returncode == 0
  for i, name in enumerate(names):
    assert start(script, i).wait() == 0
    folder = root / "launch" / name
    assert json.loads((folder / "output.log").read_text()) == list(HOSTILE)
    assert (folder / "exit_code").read_text() == "0\n"
  assert not list(tmp_path.rglob("MARK")) and not called(tmp_path)


def test_a_single_task_needs_no_array_and_its_exit_code_is_kept(tmp_path):
  task = Task("bad", "run", ("-c", "import sys; print('error: no'); sys.exit(2)"))
  script = written(tmp_path, [task], tmp_path / "root", setup="set -eu; false || echo ready")
  folder = tmp_path / "root" / "launch" / "bad"
  folder.mkdir(parents=True)
  (folder / "exit_code").write_text("75\n")
  assert start(script).wait() == 2
  assert (folder / "output.log").read_text() == "ready\nerror: no\n"
  assert (folder / "exit_code").read_text() == "2\n" and not called(tmp_path)


# Says that it listens and that it was told to stop, and ends when it is let go.
LISTEN = """
import pathlib, signal, sys, time
folder, code = pathlib.Path(sys.argv[1]), int(sys.argv[2])
def stop(*_):
  (folder / "told").touch()
  while not (folder / "go").exists(): time.sleep(0.01)
  sys.exit(code)
signal.signal(signal.SIGTERM, stop)
(folder / "ready").touch()
time.sleep(1200)
"""


def wait_for(path):
  """However busy the machine."""
  limit = time.monotonic() + 1200
  while not path.exists():
    assert time.monotonic() < limit, path
    time.sleep(0.01)


@pytest.mark.parametrize(
  "signals, code, requeued",
  [
    ((signal.SIGUSR1,), 75, True),
    ((signal.SIGTERM,), 75, False),
    ((signal.SIGUSR1, signal.SIGUSR1), 75, True),
    ((signal.SIGUSR1, signal.SIGTERM), 75, False),
    ((signal.SIGUSR1,), 3, False),
  ],
)
def test_a_warning_becomes_a_checkpoint_and_a_requeue(tmp_path, signals, code, requeued):
  task = Task("x", "run", ("-c", LISTEN, str(tmp_path), str(code)))
  left = tmp_path / "root" / "launch" / "x" / "exit_code"
  left.parent.mkdir(parents=True)
  left.write_text("1\n")
  process = start(written(tmp_path, [task, task], tmp_path / "root"), 1)
  wait_for(tmp_path / "ready")
  for number in signals:
    process.send_signal(number)
    wait_for(tmp_path / "told")
  (tmp_path / "go").touch()
  assert process.wait() == code
  # Of an array it must be the element: its job number alone can mean the whole array.
  assert called(tmp_path) == (["scontrol requeue 5_1"] if requeued else [])
  assert left.exists() != requeued and (requeued or left.read_text() == f"{code}\n")


def test_a_process_that_cannot_listen_yet_is_started_again(tmp_path):
  task = Task("x", "run", ("-c", "import time; open('ready', 'w').close(); time.sleep(1200)"))
  (tmp_path / "at").mkdir()
  script = tmp_path / "job.sbatch"
  script = written(tmp_path, [task], tmp_path / "root", setup=f"cd {tmp_path}/at; cd() {{ :; }}")
  process = start(script)
  wait_for(tmp_path / "at" / "ready")
  process.send_signal(signal.SIGUSR1)
  assert process.wait() == 75 and called(tmp_path) == ["scontrol requeue 7"]


def test_exit_75_by_itself_is_tried_again(tmp_path):
  task = Task("x", "run", ("-c", "raise SystemExit(75)"))
  assert start(written(tmp_path, [task], tmp_path / "root")).wait() == 75
  assert called(tmp_path) == ["scontrol requeue 7"]


def test_several_processes_are_one_step_of_srun():
  tasks = [printing("a"), printing("b")]
  cluster = sbatch.Cluster(processes_per_node=4, cpus_per_task=3, gres="gpu:4")
  text = sbatch.render(tasks, Path("/root"), cluster, nodes=2)
  assert "srun --ntasks=8 --ntasks-per-node=4 --cpus-per-task=3 " in text
  lines = text.splitlines()
  assert {"#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=4", "#SBATCH --gres=gpu:4"} <= {*lines}
  comparison = sbatch.render([Task("c", "comparison", ("-m", "x"))], Path("/root"), cluster, 2)
  assert "srun" not in comparison and "#SBATCH --nodes=1" in comparison


def test_the_command_line_says_array_dependency_and_output():
  script = Path("/r t/launch/slurm/003-x.sbatch")
  words = sbatch.command(script, 3, Path("/r t"), ["4", "5_6"])
  assert words[0] == "sbatch" and words[-1] == str(script) and "--parsable" in words
  assert {
    "--array=0-2",
    "--dependency=afterok:4:5_6",
    "--kill-on-invalid-dep=yes",
    "--job-name=003-x",
    "--output=/r t/launch/slurm/%A_%a.out",
  } <= set(words)
  words = sbatch.command(script, 1, Path("/r%j"))
  assert "--output=/dev/null" in words
  assert not [word for word in words if word.startswith(("--array", "--depend", "--kill"))]


def test_labels_are_harmless():
  for name in HOSTILE + ("seed_0/baseline", "x" * 190):
    label = sbatch.label([printing(name), printing("b")])
    assert label.endswith("-and-1-more") and len(label) < 80
    assert set(label) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    assert label[0] not in "-."


def test_tasks_with_the_same_parents_are_one_array():
  tasks = [
    Task("a", "run", ()),
    Task("b", "run", ()),
    Task("c", "run", (), ("a", "b")),
    Task("d", "run", (), ("b", "a")),
    Task("e", "comparison", (), ("a", "b")),
    Task("f", "run", (), ("a",)),
  ]
  names = [[task.name for task in group] for group in slurm.groups(tasks, 1000)]
  assert names == [["a", "b"], ["c", "d"], ["e"], ["f"]]
  many = slurm.groups([Task(str(i), "run", ()) for i in range(1500)], 1000)
  assert [len(group) for group in many] == [1000, 500]


def test_the_example_cluster_file_can_be_read():
  cluster = sbatch.read_cluster(EXAMPLE)
  assert (cluster.gres, cluster.time, cluster.cpus_per_task) == ("gpu:1", "12:00:00", 8)
  assert cluster.python == sys.executable and cluster.options == () and cluster.setup == ""


@pytest.mark.parametrize(
  "text, told",
  [
    ("partitoin = 'x'", "partitoin: there is no such key, did you mean 'partition'?"),
    ("partition = 3", "partition=3: must be a text"),
    ("time = 12:00:00", "time=datetime.time(12, 0): must be a text in quotes"),
    ("mem = true", "mem=True: must be"),
    ("cpus_per_task = '3'", "must be a whole number"),
    ("cpus_per_task = -1", "must be at least 0"),
    ("processes_per_node = 0", "must be at least 1"),
    ("processes_per_node = true", "must be a whole number"),
    ("poll_seconds = 0", "at least 0.1"),
    ("signal_seconds = 70000", "must be at most 65535"),
    ("python = ''", "must not be empty"),
    ('account = "a\\n#SBATCH --hold"', "must not hold line breaks"),
    ("setup = 3", "must be a list of texts or one text"),
    ("options = '--x'", "must be a list"),
    ("options = ['x']", "is no option of sbatch"),
    ("options = ['--array=1']", "sets this option"),
    ("options = ['--time 3']", "give it as time = …"),
    ("a = ", "is not TOML"),
    ("[slurm]\npartition = 'x'", "slurm: there is no such key"),
  ],
)
def test_bad_cluster_files_are_refused_in_a_sentence(tmp_path, text, told):
  path = tmp_path / "cluster.toml"
  path.write_text(text)
  with pytest.raises(UserError) as caught:
    sbatch.read_cluster(path)
  assert told in str(caught.value) and str(path) in str(caught.value)
  assert "\n" not in str(caught.value)


def test_a_missing_cluster_file_is_told(tmp_path):
  with pytest.raises(UserError, match="cannot be read: No such file"):
    sbatch.read_cluster(tmp_path / "none.toml")


def test_what_slurm_prints_is_read():
  text = "12_0|PENDING|Dependency|0|000-a|\n13|RUNNING|None|2|001-b|\nslurm_load: noise\n"
  found = squeue.parse(text)
  assert found == {
    "12_0": squeue.Job("12_0", "PENDING", "Dependency", 0, "000-a"),
    "13": squeue.Job("13", "RUNNING", "None", 2, "001-b"),
  }
  assert not found["13"].ended
  found = squeue.parse_accounted("12_0|PREEMPTED|a\n12_0|CANCELLED by 1000|a\n14|TIMEOUT|b\n")
  assert [job.state for job in found.values()] == ["CANCELLED", "TIMEOUT"]
  assert all(job.ended for job in found.values())


def test_jobs_do_not_inherit_what_another_job_was_told():
  given = {
    "SLURM_JOB_ID": "1",
    "SLURM_CONF": "/x",
    "SBATCH_PARTITION": "p",
    "SQUEUE_FORMAT": "f",
    "HOME": "/h",
  }
  assert squeue.environment(given) == {"SLURM_CONF": "/x", "HOME": "/h"}
