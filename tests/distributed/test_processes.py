"""Several processes train as one, stop together, and write once."""

import concurrent.futures
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from dissim_jax import experiment
from dissim_jax.distributed import devices, processes
from dissim_jax.errors import BusyError, UserError
from tests import tiny
from tests.one_of_two import STEPS, TOLD

ROOT = Path(__file__).parents[2]
# One step an epoch: the log has the loss of every step.
SETTINGS = {
  "train.batch_size": 100,
  "train.epochs": STEPS,
  "train.checkpoint_every_epochs": STEPS,
  "ensemble.baseline": False,
  "dtype": "float32",
  "augment.crop_padding": 1,
  "model.name": "stem_alone",
  "dissim.taps": (0,),
}
DEADLINE = 1200  # seconds; not reached, however busy the machine


def start_two(workdir):
  """Two processes of one device each; see `tests/one_of_two.py`."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=1"
  settings = [f"--config.{field}={value}" for field, value in SETTINGS.items()]
  command = [
    sys.executable,
    "-m",
    "tests.one_of_two",
    "--config=tests/tiny.py",
    *settings,
    f"--workdir={workdir}",
    f"--coordinator=127.0.0.1:{port}",
    "--num_processes=2",
  ]
  return [
    subprocess.Popen(
      [*command, f"--process_id={i}"],
      cwd=ROOT,
      env={**os.environ, "XLA_FLAGS": flags},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for i in range(2)
  ]


def log(workdir, member):
  text = (workdir / member / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """The folders of one process's run and of two processes', told to stop; what these said."""
  folder = tmp_path_factory.mktemp("processes")
  two = start_two(folder / "two")
  config = tiny.get_config()
  config.update_from_flattened_dict(SETTINGS)
  experiment.train(config, folder / "one")
  # Both are read from at once: one that waits to write would hold up the other.
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    told = list(pool.map(lambda process: process.communicate(timeout=DEADLINE)[0], two))
  assert [process.returncode for process in two] == [0, 0], "\n".join(told)
  return folder, told


def test_two_processes_give_the_losses_of_one(trained):
  folder, _ = trained
  for member in ("member_0", "member_1"):
    one, two = (log(folder / name, member) for name in ("one", "two"))
    assert [row["step"] for row in two] == list(range(1, STEPS + 1))
    names = ["train_loss", "train_cross_entropy"] + ["train_similarity"] * (member == "member_1")
    for name in names:
      # The penalty is near 0 towards the end: compared on the scale of the loss.
      scale = np.array([row["train_loss"] for row in one])
      difference = np.array([a[name] - b[name] for a, b in zip(one, two, strict=True)])
      assert np.max(np.abs(difference) / scale) < 1e-4, (member, name)


def test_one_is_told_to_stop_and_both_stop_at_the_same_step(trained):
  folder, outputs = trained
  told = [next(line for line in text.splitlines() if "told to stop" in line) for text in outputs]
  assert told[0] == told[1] and "member_1: told to stop, saved after step" in told[0]
  assert all("exit code 75" in text for text in outputs)
  step = int(told[0].partition("step ")[2].partition(";")[0])
  checkpoints = (folder / "two" / "member_1" / "checkpoints").glob("[0-9]*")
  assert sorted(int(path.name) for path in checkpoints) == [step, STEPS]
  assert TOLD - STEPS <= step < STEPS


def test_results_are_written_once_by_the_first(trained):
  folder, (first, second) = trained
  assert "report:" in first and "report:" not in second
  assert "R²" not in second
  assert (folder / "two" / "report" / "report.html").is_file()
  metrics = json.loads((folder / "two" / "evaluation" / "metrics.json").read_text())
  assert [member["name"] for member in metrics["members"]] == ["member_0", "member_1"]


def test_every_device_gets_its_own_examples_and_no_others():
  mesh = devices.make_mesh()  # four devices
  rng = np.random.default_rng(0)
  images, rows = rng.integers(0, 256, (50, 3, 2, 1), np.uint8), rng.permutation(48).reshape(4, 12)
  labels = np.arange(50)
  (sent, sent_labels), own = devices.spread((images, labels), rows, mesh)
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
