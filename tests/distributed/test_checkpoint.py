"""Checkpoints of training: what is damaged is never gone on from."""

import logging
import shutil

import jax
import numpy as np
import pytest

from dissim_jax.distributed import devices
from dissim_jax.distributed.checkpoint import Checkpoints

LIKE = {"weights": np.zeros((40, 25), np.float32), "step": np.int32(0)}


def state(step):
  drawn = np.random.default_rng(step).normal(size=(40, 25)).astype(np.float32)
  return {"weights": drawn, "step": np.int32(step)}


def restored(member):
  checkpoints = Checkpoints(member / "checkpoints", 2)
  tree = checkpoints.restore(LIKE)
  checkpoints.close()
  return tree


def same(a, b):
  return all(np.array_equal(a[name], b[name]) for name in LIKE)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  member = tmp_path_factory.mktemp("saved") / "member_0"
  checkpoints = Checkpoints(member / "checkpoints", 2)
  for step in (1, 2, 3):
    checkpoints.save(step, devices.replicate(state(step), devices.make_mesh()))
  checkpoints.close()
  return member


@pytest.fixture
def member(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / "member_0")


def test_the_newest_is_read_on_any_number_of_devices(member):
  assert same(restored(member), state(3))
  like = devices.replicate(LIKE, devices.make_mesh(jax.devices()[:2]))
  checkpoints = Checkpoints(member / "checkpoints", 2)
  assert same(checkpoints.restore(like), state(3))
  checkpoints.close()


def test_a_flipped_bit_is_never_trained_on(saved, tmp_path, caplog):
  rng, aside = np.random.default_rng(0), 0
  files = [path for path in (saved / "checkpoints" / "3").rglob("*") if path.is_file()]
  sizes = np.array([path.stat().st_size for path in files], float)
  for attempt in range(25):
    member = shutil.copytree(saved, tmp_path / str(attempt))
    path = files[rng.choice(len(files), p=sizes / sizes.sum())]
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    (member / path.relative_to(saved)).write_bytes(content)
    with caplog.at_level(logging.WARNING):
      tree = restored(member)
    if not same(tree, state(3)):
      aside += 1
      assert same(tree, state(2)) and (member / "checkpoints" / "unreadable-3").exists()
  assert aside > 5 and "its checksum is another one" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"\0" * 50, b"[]", b'{"3": 1}', b'{"x": "y"}'])
def test_damaged_checksums_lose_no_more_than_one_state(content, member):
  file = member / "checkpoints.json"
  file.unlink() if content is None else file.write_bytes(content)
  assert same(restored(member), state(2 if content == b'{"3": 1}' else 3))


def test_checksums_of_states_that_are_gone_are_dropped(member):
  checkpoints = Checkpoints(member / "checkpoints", 2)
  checkpoints.save(4, state(4))
  checkpoints.close()
  text = (member / "checkpoints.json").read_text()
  assert [f'"{step}"' in text for step in (1, 2, 3, 4)] == [False, True, True, True]
