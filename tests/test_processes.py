"""Several processes train as one, stop together, and write once."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from dissim_jax import parallel, processes, sequence
from dissim_jax.errors import BusyError, UserError
from tests import tiny

ROOT = Path(__file__).parents[1]
# One step an epoch: the log has the loss of every step.
SETTINGS = {
  "train.batch_size": 100, "train.epochs": 20, "train.checkpoint_every_epochs": 20,
  "ensemble.baseline": False, "dtype": "float32", "augment.crop_padding": 1,
}  # fmt: skip


def start(workdir, *more):
  """A process of `dissim_jax.main` with one device."""
  environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
  settings = [f"--config.{field}={value}" for field, value in SETTINGS.items()]
  command = [sys.executable, "-m", "dissim_jax.main", "--config=tests/tiny.py", *settings,
             f"--workdir={workdir}", *more]
  return subprocess.Popen(
    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )  # fmt: skip


def start_two(workdir):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  together = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2")
  return [start(workdir, *together, f"--process_id={i}") for i in range(2)]


def log(workdir, member):
  try:
    text = (workdir / member / "metrics.jsonl").read_text()
  except OSError:
    return []
  return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for_epoch(workdir, member, epoch, running):
  limit = time.monotonic() + 120
  while len(log(workdir, member)) < epoch and time.monotonic() < limit:
    assert all(process.poll() is None for process in running), running[0].communicate()[0]
    time.sleep(0.02)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """One process's run; two processes', told to stop and started again; what the first ones said."""
  folder = tmp_path_factory.mktemp("processes")
  config = tiny.get_config()
  config.update_from_flattened_dict(SETTINGS)
  sequence.train(config, folder / "one")
  first = start_two(folder / "two")
  wait_for_epoch(folder / "two", "member_1", 3, first)
  first[1].send_signal(signal.SIGTERM)  # One is told, both stop.
  stopped = [(p.communicate(timeout=120)[0], p.returncode) for p in first]
  saved = sorted(int(p.name) for p in (folder / "two" / "member_1" / "checkpoints").glob("[0-9]*"))
  again = start_two(folder / "two")
  ended = [(p.communicate(timeout=240)[0], p.returncode) for p in again]
  assert [code for _, code in ended] == [0, 0], ended
  return folder, stopped, saved, ended


def test_two_processes_give_the_losses_of_one(trained):
  folder, *_ = trained
  for member in ("member_0", "member_1"):
    one, two = (log(folder / name, member) for name in ("one", "two"))
    assert [row["step"] for row in two] == list(range(1, 21))
    names = ["train_loss", "train_cross_entropy"] + ["train_similarity"] * (member == "member_1")
    for name in names:
      # The penalty is near 0 towards the end: compared on the scale of the loss.
      scale = np.array([row["train_loss"] for row in one])
      difference = np.array([a[name] - b[name] for a, b in zip(one, two, strict=True)])
      assert np.max(np.abs(difference) / scale) < 1e-4, (member, name)


def test_one_is_told_to_stop_and_both_stop_at_the_same_step(trained):
  _, stopped, saved, _ = trained
  assert [code for _, code in stopped] == [75, 75], stopped
  told = [output.strip().splitlines()[-1] for output, _ in stopped]
  assert told[0] == told[1] and "member_1: told to stop, saved after step" in told[0]
  step = int(told[0].partition("step ")[2].partition(";")[0])
  assert saved == [step] and 3 <= step < 20


def test_results_are_written_once_by_the_first(trained):
  folder, _, _, ended = trained
  assert "report:" in ended[0][0] and "report:" not in ended[1][0]
  assert "R²" not in ended[1][0]
  assert (folder / "two" / "report" / "report.html").is_file()
  metrics = json.loads((folder / "two" / "evaluation" / "metrics.json").read_text())
  assert [member["name"] for member in metrics["members"]] == ["member_0", "member_1"]


def test_every_device_gets_its_own_examples_and_no_others():
  mesh = parallel.make_mesh()  # four devices
  rng = np.random.default_rng(0)
  images, rows = rng.integers(0, 256, (50, 3, 2, 1), np.uint8), rng.permutation(48).reshape(4, 12)
  labels = np.arange(50)
  (sent, sent_labels), own = parallel.spread((images, labels), rows, mesh)
  assert sent.shape == (48, 3, 2, 1) and own.shape == rows.shape
  for device, shard in enumerate(sent.addressable_shards):
    local_rows = np.asarray(own.addressable_shards[device].data)
    wanted = rows[:, 3 * device : 3 * device + 3]
    np.testing.assert_array_equal(np.asarray(shard.data)[local_rows], images[wanted])
    own_labels = np.asarray(sent_labels.addressable_shards[device].data)
    np.testing.assert_array_equal(own_labels[local_rows], wanted)


@pytest.mark.parametrize(
  "given, told",
  [
    ((None, 2, 0), "--coordinator is missing"),
    (("host:1", None, 0), "--num_processes is missing"),
    (("host:1", 2, None), "--process_id is missing"),
    (("host:1", 2, 2), "--process_id=2: must be below --num_processes=2"),
    (("host", 2, 0), "--coordinator='host': must be HOST:PORT"),
  ],
)
def test_flags_of_several_processes_are_checked(given, told):
  with pytest.raises(UserError, match=told.replace("(", r"\(")):
    processes.connect(*given)


def test_a_process_alone_connects_to_nothing(monkeypatch):
  monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
  assert not processes.connect(None, None, None)
  assert not processes.connect("nobody:1", 1, 0)
  assert processes.is_first() and jax.process_count() == 1


@pytest.mark.parametrize(
  "gpus, tasks, own, expected",
  [
    (None, "2", 0, None),  # no GPUs
    ("4", "1", 0, [0, 1, 2, 3]),
    ("4", "2(x3)", 1, [2, 3]),
    ("4", "4,2", 3, [3]),
    ("1", "2", 1, None),  # Slurm's own choice
  ],
)
def test_tasks_of_a_node_share_its_gpus(gpus, tasks, own, expected):
  environment = {"SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_LOCALID": str(own)}
  environment |= {"SLURM_GPUS_ON_NODE": gpus} if gpus else {}
  assert processes._own_gpus(environment) == expected


def test_error_of_the_first_is_raised_at_once_when_alone():
  def busy():
    raise BusyError("in use")

  with pytest.raises(BusyError, match="in use"):
    processes.first_does(busy)
