"""Which Python `make` takes: stand-ins for Pythons on PATH, of pyenv and of uv."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "find_python"
BROKEN = "exit 127"  # as a shim of pyenv whose Python is not there
REAL = f'exec "{sys.executable}" "$@"'
HERE = "{}.{}".format(*sys.version_info[:2])


def says(minor, patch=0):
  """A Python that is asked with `-c CHECK NAME WANTED` and says what Python 3.minor.patch says.

  Whether it fits is for the check to say, so a stand-in answers what is wanted alone.
  """
  return f'case "$4" in any|*3.{minor}*) echo "3{minor:03}{patch:03} $3";; esac'


@pytest.fixture
def find(tmp_path):
  """find(argument, files) -> the finished process; files are scripts in a home of their own."""

  def run(argument, files):
    for name, text in files.items():
      path = tmp_path / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(f"#!/bin/sh\n{text}\n")
      path.chmod(0o755)
    tools = tmp_path / "tools"  # what the script itself needs, without the Pythons beside them
    tools.mkdir()
    for tool in ("sh", "sort", "head", "cut"):
      (tools / tool).symlink_to(shutil.which(tool))
    environment = {"PATH": f"{tmp_path / 'bin'}:{tools}", "HOME": str(tmp_path)}
    done = subprocess.run(
      ["/bin/sh", SCRIPT, *argument], env=environment, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout.strip().removeprefix(f"{tmp_path}/"), done.stderr

  return run


UV = ".local/share/uv/python/cpython-3.13-linux/bin/python3"
FOUND = {
  "the newest on PATH": (
    {"bin/python3.12": says(12), "bin/python3.11": says(11)},
    "bin/python3.12",
  ),
  "past a shim that does not start": (
    {"bin/python3.14": BROKEN, "bin/python3": BROKEN, "bin/python3.11": says(11)},
    "bin/python3.11",
  ),
  "of pyenv": (
    {"bin/python3.11": says(11), ".pyenv/versions/3.13.1/bin/python": says(13, 1)},
    ".pyenv/versions/3.13.1/bin/python",
  ),
  "of uv": ({"bin/python3.12": says(12), UV: says(13)}, UV),
  "the newest patch": (
    {
      ".pyenv/versions/3.13.2/bin/python": says(13, 2),
      ".pyenv/versions/3.13.10/bin/python": says(13, 10),
    },
    ".pyenv/versions/3.13.10/bin/python",
  ),
  "a real one": ({"bin/python3": REAL}, "bin/python3"),
  "in a folder with a space": (
    {".pyenv/versions/3.13 mine/bin/python": says(13)},
    ".pyenv/versions/3.13 mine/bin/python",
  ),
}


@pytest.mark.parametrize("case", FOUND)
def test_found(find, case):
  files, expected = FOUND[case]
  assert find([], files) == (0, expected, "")


def test_none(find):
  code, found, told = find([], {"bin/python3.14": BROKEN, "bin/python3": says(10)})
  assert (code, found) == (1, "")
  assert told.count("\n") == 1 and "No Python 3.11 to 3.14 was found" in told and "PYTHON=" in told


@pytest.mark.parametrize(
  "argument, expected",
  [("3.12", "bin/python3.12"), (HERE, "bin/python"), ("python", "python")],
)
def test_chosen(find, argument, expected):
  files = {"bin/python3.12": says(12), "bin/python3.10": says(10), "bin/python": REAL}
  if argument == HERE:
    del files["bin/python3.12"]
  assert find([argument], files) == (0, expected, "")


@pytest.mark.parametrize("argument", ["3.10", "3.15", "python3.14", "nowhere"])
def test_chosen_and_not_to_be_had(find, argument):
  code, found, told = find([argument], {"bin/python3.14": BROKEN, "bin/python3": REAL})
  assert (code, found) == (1, "") and argument in told and told.count("\n") == 1
