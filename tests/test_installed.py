"""The program outside a checkout: a wheel, in a folder with packages of the same names."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dissim_jax import console

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  """A folder with what a wheel holds."""
  folder = tmp_path_factory.mktemp("installed")
  uv = Path(sys.executable).with_name("uv")
  if not uv.exists() and not os.environ.get("CI"):
    pytest.skip("uv is not installed")
  # In a copy: what an earlier build left in a checkout would be in the wheel, too.
  ignored = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.egg-info", "__pycache__")
  source = shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=ignored)
  command = [uv, "build", "--quiet", "--wheel", "--out-dir", folder, source]
  subprocess.run(command, check=True, capture_output=True)
  (wheel,) = folder.glob("*.whl")
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(folder / "site")
  return folder / "site"


@pytest.fixture
def elsewhere(tmp_path):
  """A folder with packages that have the names of ours."""
  for name in ("configs", "launch"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not ours')")
  return tmp_path


def run(installed, folder, *arguments):
  """What a command of the installed package says, in a folder."""
  environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": ""}
  return subprocess.run(
    [sys.executable, "-m", *arguments],
    cwd=folder,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )


def test_a_wheel_has_configs_launchers_and_templates(installed):
  names = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
  for top in ("configs", "launch"):
    ours = {f"dissim_jax/{path.relative_to(ROOT)}" for path in (ROOT / top).rglob("*.py")}
    assert ours <= names
  assert "dissim_jax/launch/clusters/example.toml" in names
  assert any(name.endswith("page.html.j2") for name in names)
  assert not any(name.startswith(("configs", "launch", "tests")) for name in names)


@pytest.mark.parametrize("config", ["digits_expvar", str(ROOT / "configs" / "digits_expvar.py")])
def test_a_config_is_found_by_name_and_by_path(installed, elsewhere, config):
  done = run(
    installed,
    elsewhere,
    "dissim_jax.main",
    f"--config={config}",
    "--workdir=run",
    "--config.train.epochs=0",
  )
  assert done.returncode == 2 and not (elsewhere / "run").exists()
  assert "error: train.epochs=0: must be a whole number of at least 1" in done.stderr


def test_a_misspelt_config_is_told(installed, elsewhere):
  done = run(installed, elsewhere, "dissim_jax.main", "--config=digit_expvar", "--workdir=run")
  assert done.returncode == 2
  assert "there is no such file, did you mean 'digits_expvar'?" in done.stderr


def test_a_sweep_is_found_by_name(installed, elsewhere):
  done = run(installed, elsewhere, "dissim_jax.launch.local", "--sweep=digits_table1", "--dry_run")
  assert done.returncode == 0, done.stderr
  assert "63 models" in done.stdout and not (elsewhere / "runs").exists()


def test_an_old_sweep_that_imports_launch_still_runs_in_a_checkout(tmp_path):
  sweep = tmp_path / "mine.py"
  sweep.write_text(
    "from launch.sweep import Run\ndef get_sweep():\n  yield Run('a', 'configs/digits_expvar.py')\n"
  )
  done = subprocess.run(
    [sys.executable, "-m", "launch.local", f"--sweep={sweep}", "--dry_run"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert "2 models" in done.stdout or "3 models" in done.stdout


def test_console_scripts_are_the_modules(monkeypatch):
  told = []
  monkeypatch.setattr(console.runpy, "run_module", lambda name, **_: told.append(name))
  for command in (
    console.train,
    console.compare,
    console.stitch,
    console.transfer,
    console.analyse,
    console.report,
    console.collect,
  ):
    command()
  monkeypatch.setattr(sys, "argv", ["dissim-launch", "slurm", "--status"])
  console.launch()
  assert sys.argv == ["dissim-launch", "--status"]
  assert told == [
    f"dissim_jax.{name}"
    for name in (
      "main",
      "compare",
      "stitch",
      "transfer",
      "analyse",
      "report",
      "collect",
      "launch.slurm",
    )
  ]


@pytest.mark.parametrize(
  "flag, code, told",
  [
    ("--help", 0, "Writes the report of a finished run"),
    ("--nothing=1", 2, "error: --nothing: there is no such flag"),
  ],
)
def test_a_console_script_has_the_flags_and_the_help_of_its_module(flag, code, told):
  command = [sys.executable, "-c", "from dissim_jax import console; console.report()", flag]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == code and told in done.stdout + done.stderr


def test_console_launch_asks_for_an_engine(monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["dissim-launch", "somewhere"])
  with pytest.raises(SystemExit) as end:
    console.launch()
  assert end.value.code == 2
  assert "error: 'somewhere': say where, local or slurm" in capsys.readouterr().err
