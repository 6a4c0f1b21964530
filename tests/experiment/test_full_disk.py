"""A disk that is full while a member is trained: one error that names the file, nothing lost."""

import errno
import subprocess

import numpy as np
import pytest
import safetensors.numpy

from dissim_jax import experiment
from tests import tiny


@pytest.fixture
def disk(tmp_path):
  """A small disk of its own, and a function that makes it larger."""
  folder = tmp_path / "disk"
  folder.mkdir()

  def mount(size, *options):
    command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", folder]
    return subprocess.run(command, capture_output=True, check=False).returncode

  if mount("300k"):
    pytest.skip("file systems cannot be mounted here")
  yield folder, lambda size: mount(size, "remount")
  subprocess.run(["umount", "-l", folder], check=True)


def config():
  config = tiny.get_config()
  config.train.epochs, config.train.checkpoint_every_epochs = 2, 1
  config.ensemble.baseline = False
  return config


def weights(workdir):
  files = sorted(workdir.glob("*/weights.safetensors"))
  return {file.parent.name: safetensors.numpy.load_file(file) for file in files}


def test_a_full_disk_is_one_error_and_with_room_the_run_goes_on(disk, tmp_path, capfd):
  folder, enlarge = disk
  with pytest.raises(OSError, match="No space left on device") as error:
    experiment.train(config(), folder / "run")
  assert error.value.errno == errno.ENOSPC and error.value.filename.startswith(str(folder / "run"))
  assert "Traceback" not in capfd.readouterr().err
  enlarge("20m")
  experiment.train(config(), folder / "run")
  experiment.train(config(), tmp_path / "other")
  one, other = weights(folder / "run"), weights(tmp_path / "other")
  assert one.keys() == other.keys() == {"member_0", "member_1"}
  for name, arrays in other.items():
    assert all(np.array_equal(one[name][key], array) for key, array in arrays.items())
