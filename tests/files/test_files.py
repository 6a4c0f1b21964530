"""Files that are written whole or not at all, locks, and folders left by a killed process."""

import os
import subprocess
import sys

import numpy as np
import pytest

from dissim_jax.configs import default
from dissim_jax.files import atomic, layout
from dissim_jax.files.workdir import check_workdir


def test_a_file_is_as_it_was_until_the_new_one_is_whole(tmp_path):
  path = tmp_path / "new" / "file"
  atomic.write_bytes(path, b"old")
  with pytest.raises(RuntimeError), atomic.whole(path) as file:
    file.write(b"ne")
    file.flush()
    assert path.read_bytes() == b"old"
    raise RuntimeError
  assert path.read_bytes() == b"old" and len(list(path.parent.iterdir())) == 1
  atomic.write_bytes(path, b"new")
  assert path.read_bytes() == b"new" and len(list(path.parent.iterdir())) == 1


def test_two_writers_of_one_file_do_not_mix(tmp_path):
  with atomic.whole(tmp_path / "file") as one, atomic.whole(tmp_path / "file") as other:
    one.write(b"a" * 10)
    other.write(b"b")
  assert (tmp_path / "file").read_bytes() == b"a" * 10


def test_json_and_arrays_come_back(tmp_path):
  atomic.write_json(tmp_path / "x.json", {"a": [1, 2.5, None]})
  assert atomic.read_json(tmp_path / "x.json") == {"a": [1, 2.5, None]}
  arrays = {"a/b": np.arange(6.0).reshape(2, 3), "names": np.array(["x", "yz"])}
  atomic.write_arrays(tmp_path / "x.npz", arrays)
  with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
    assert set(found) == set(arrays)
    for name, array in arrays.items():
      np.testing.assert_array_equal(found[name], array)


def test_python_objects_are_not_written(tmp_path):
  with pytest.raises(TypeError, match="things holds Python objects"):
    atomic.write_arrays(tmp_path / "x.npz", {"things": np.array([{}, None])})
  assert not list(tmp_path.iterdir())


def test_the_users_permissions_are_kept(tmp_path):
  before = os.umask(0o027)
  try:
    atomic.write_bytes(tmp_path / "file", b"")
  finally:
    os.umask(before)
  assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_files_removed_afterwards_are_those_that_are_not_written(tmp_path):
  atomic.write_together(tmp_path, {"a": b"1", "b": b"2"})
  atomic.write_together(tmp_path, {"b": b"3"}, stale=("a", "b", "never there"))
  assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"b": b"3"}


def test_a_lock_is_held_until_the_process_ends(tmp_path):
  path = tmp_path / "lock"
  assert not atomic.is_held(path)
  with atomic.exclusive(path):
    code = f"from dissim_jax.files import atomic; print(atomic.is_held({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
  assert not atomic.is_held(path)


def test_a_process_killed_while_it_wrote_its_config_leaves_a_new_folder(tmp_path):
  (tmp_path / layout.LOCK).touch()
  atomic.part_of(tmp_path / layout.CONFIG).write_text('{"seed": ')
  assert not check_workdir(default.get_config(), tmp_path)
