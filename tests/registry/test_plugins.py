"""Additions from outside: one of each kind, in configs, checks, help, results and the report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dissim_jax import plugins
from dissim_jax.errors import UserError

ROOT = Path(__file__).parents[2]
MODULE = "tests.outside.one_of_each"
FIELDS = {
  "data.name": "stripes",
  "model.name": "stem_only",
  "dissim.metric": "agreement",
  "dissim.options.agreement.scale": 0.5,
  "dissim.taps": 0,
  "corruption.names": "darker",
  "corruption.severities": 3,
  "transfer.attack": "shift",
  "transfer.images": 12,
  "train.epochs": 1,
  "train.batch_size": 20,
  "dtype": "float32",
  "ensemble.baseline": False,
}


def run(*arguments, devices=1, cwd=ROOT, path=ROOT):
  """A command in a process of its own, as users start it; `path` has modules of theirs."""
  flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
  environment = os.environ | {
    "XLA_FLAGS": flags,
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": f"{ROOT}:{path}",
  }
  environment["COLUMNS"] = "120"
  return subprocess.run(
    [sys.executable, "-m", *arguments],
    cwd=cwd,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )


def train(workdir, *flags, devices=1, path=ROOT, **changes):
  fields = FIELDS | changes
  settings = [f"--config.{field}={value}" for field, value in fields.items()]
  return run(
    "dissim_jax.main",
    "--config=digits_expvar",
    f"--workdir={workdir}",
    *settings,
    *flags,
    devices=devices,
    path=path,
  )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A run in which everything is from outside, on two devices."""
  workdir = tmp_path_factory.mktemp("outside") / "run"
  done = train(workdir, f"--plugins={MODULE}", devices=2)
  assert done.returncode == 0, done.stderr
  return workdir, done


def read(path):
  return json.loads(path.read_text())


def test_everything_from_outside_is_measured_and_reported(trained):
  workdir, done = trained
  folder = workdir / "evaluation"
  for row in read(folder / "metrics.json")["ensembles"]:
    assert 0 <= row["same_class"] <= 1
  diversity = read(folder / "diversity.json")
  assert all(
    "same_class" in sequence["uncalibrated"]["diversity"]
    for sequence in diversity["sequences"].values()
  )
  robust = read(folder / "robustness.json")
  assert [each["title"] for each in robust["corruptions"]] == ["Darker images"]
  page = (workdir / "report" / "report.html").read_text()
  for text in (
    "Same class",
    "Darker images",
    "Shift of all pixels",
    "Agreement of outsiders",
    "stem_only",
    "stripes",
  ):
    assert text in page, text
  assert "same %" in done.stdout
  log = [json.loads(line) for line in (workdir / "member_1" / "metrics.jsonl").open()]
  assert 0 < log[-1]["train_similarity"] <= 1


def test_a_member_remembers_its_modules_and_nothing_imports_them_by_itself(trained):
  workdir, _ = trained
  assert read(workdir / "member_1" / "member.json")["plugins"] == [MODULE]
  assert read(workdir / "config.json")["plugins"] == [MODULE]
  told = f"was made with modules that are not named here: give --plugins={MODULE}"
  for command in (
    ("dissim_jax.compare", f"--workdir={workdir}"),
    ("dissim_jax.main", f"--config={workdir}/config.json", f"--workdir={workdir}"),
  ):
    done = run(*command)
    assert done.returncode == 2 and told in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_commands_that_are_given_the_module_work(trained):
  workdir, _ = trained
  done = run("dissim_jax.report", f"--workdir={workdir}", f"--plugins={MODULE}")
  assert done.returncode == 0 and "same %" in done.stdout, done.stderr
  done = run(
    "dissim_jax.main",
    f"--config={workdir}/config.json",
    f"--workdir={workdir}",
    f"--plugins={MODULE}",
    "--config.train.epochs=0",
  )
  assert "error: train.epochs=0: must be" in done.stderr  # So the config was read.


def test_help_and_errors_know_what_was_added():
  done = run("dissim_jax.transfer", "--help", f"--plugins={MODULE}")
  assert "shift" in done.stdout
  done = run(
    "dissim_jax.main",
    "--config=digits_expvar",
    "--workdir=x",
    f"--plugins={MODULE}",
    "--config.dissim.options.agreement.scale=0",
  )
  assert done.returncode == 2
  told = "dissim.options.agreement.scale=0.0: must be a finite number above 0"
  assert told in done.stderr


def test_a_measure_that_ignores_its_axis_is_one_sentence_before_training(tmp_path):
  (tmp_path / "careless.py").write_text(
    "import jax.numpy as jnp\n"
    "from dissim_jax import plugins\n"
    "def product(z, z_hat, *, axis_name=None):\n"
    "  return jnp.mean(z * z_hat)\n"
    "plugins.register_measure('product', product, aligned=True)\n"
  )
  workdir = tmp_path / "run"
  done = train(
    workdir,
    f"--plugins={MODULE},careless",
    path=tmp_path,
    devices=2,
    **{"dissim.metric": "product", "dissim.options.agreement.scale": 1.0},
  )
  assert done.returncode == 2 and "Traceback" not in done.stderr
  last = done.stderr.strip().splitlines()[-1]
  assert last.startswith("error: dissim.metric='product': every device gets a number of its own")
  assert not workdir.exists()


def test_a_module_that_is_not_there_is_one_sentence():
  done = run("dissim_jax.main", "--plugins=no.such", "--config=digits_expvar", "--workdir=x")
  assert done.returncode == 2 and "Traceback" not in done.stderr
  assert "error: plugins='no.such': cannot be imported (ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize(
  "add, told",
  [
    (lambda: plugins.register_measure("cca", lambda z, z_hat: 0), "there is one of that name"),
    (
      lambda: plugins.register_measure("a b", lambda z, z_hat: 0),
      "a name is letters, digits and _",
    ),
    (
      lambda: plugins.register_measure("new", lambda z, z_hat: 0, options={"x": None}),
      "its function takes no 'x'",
    ),
    (lambda: plugins.register_metric("new", len, of="trio", takes=()), "of='trio' is none of pair"),
    (lambda: plugins.register_metric("new", len, of="pair", takes=("right",)), "none of 'right'"),
    (lambda: plugins.register_corruption("new", len, constants={"x": (1, 2)}), "x has 2 values"),
  ],
)
def test_what_cannot_be_registered(add, told):
  with pytest.raises(UserError, match="cannot be registered") as error:
    add()
  assert told in str(error.value)
