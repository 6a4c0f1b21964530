"""Folders whose names are no UTF-8 (file names are bytes), from the command line to the page."""

import os
import subprocess
import sys

import pytest

from dissim_jax.distributed.checkpoint import _plain
from dissim_jax.files.atomic import encoded

ODD = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize("name", [ODD, "a[b]*", "plain"])
def test_orbax_is_given_a_path_that_it_can_write_to(tmp_path, name):
  folder = tmp_path / name
  folder.mkdir()
  with _plain(folder) as path:
    str(path).encode("utf-8")
    assert not set("*?[]\\") & set(str(path)) and (path == folder) == (name == "plain")
    (path / "file").write_text("written")
  assert (folder / "file").read_text() == "written"


def test_pages_can_be_written():
  assert encoded(f"{ODD} é") == b"caf\\udce9 \xc3\xa9"


def test_programs_print_the_bytes_of_a_path():
  code = (
    "import os, sys; from dissim_jax.command_line import guarded; "
    "guarded(lambda argv: print(os.fsdecode(bytes(argv))))(b'caf\\xe9')"
  )
  environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
  told = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
  assert told.stdout == b"caf\xe9\n", told.stderr
