"""Weights of members in a file that any program can read, and its checksum."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from dissim_jax.distributed import devices
from dissim_jax.distributed.checkpoint import load_weights
from dissim_jax.errors import UserError
from dissim_jax.members import store, weights
from dissim_jax.models import MODELS, variable_shapes
from tests import tiny

SHAPE = (8, 8, 1)
FACTS = {
  "model": "tiny",
  "width_multiplier": 0.25,
  "num_classes": 10,
  "teachers": [],
  "image_shape": list(SHAPE),
  "mean": [0.5],
  "std": [0.5],
  "data": "digits",
}


def variables(seed=0, model="tiny"):
  return tiny.drawn(store.build_model(FACTS | {"model": model}, jnp.float32), SHAPE, seed)


def load(folder):
  return store.load_member("m", folder, "float32", devices.make_mesh(), "--workdir").variables


def same(a, b):
  leaves = [jax.tree.leaves_with_path(jax.device_get(tree)) for tree in (a, b)]
  assert [path for path, _ in leaves[0]] == [path for path, _ in leaves[1]]
  return all(np.array_equal(x, y) for (_, x), (_, y) in zip(*leaves, strict=True))


@pytest.fixture
def folder(tmp_path):
  store.save_member(tmp_path / "m", variables(), FACTS)
  return tmp_path / "m"


def test_any_program_can_read_them(folder):
  arrays = safetensors.numpy.load_file(folder / "weights.safetensors")
  saved = variables()
  assert len(arrays) == len(jax.tree.leaves(saved))
  for path, array in jax.tree.leaves_with_path(saved):
    name = ".".join(key.key for key in path)
    assert arrays[name].dtype == np.float32 and np.array_equal(arrays[name], array)
  assert same(load(folder), saved)
  assert same(load_weights(folder / "weights", variable_shapes_of("tiny")), saved)


def variable_shapes_of(model):
  return variable_shapes(store.build_model(FACTS | {"model": model}, jnp.float32), SHAPE)


@pytest.mark.parametrize("name", [*(name for name in MODELS if "mini" in name), "resnet8"])
def test_every_family_is_read_as_it_was_written(name, tmp_path):
  saved = variables(model=name)
  file = tmp_path / "weights.safetensors"
  digest = weights.write(file, saved)
  assert same(weights.read(file, variable_shapes_of(name), digest), saved)
  assert weights.write(tmp_path / "again", saved) == digest


def test_no_flipped_bit_is_loaded(folder):
  file = folder / "weights.safetensors"
  content, rng = file.read_bytes(), np.random.default_rng(0)
  for place in [0, 8, len(content) - 1, *rng.integers(0, len(content), 40)]:
    changed = bytearray(content)
    changed[place] ^= 1 << int(rng.integers(8))
    file.write_bytes(changed)
    with pytest.raises(UserError, match="weights.safetensors' cannot be used: .*checksum"):
      load(folder)
  file.write_bytes(content)
  load(folder)


@pytest.mark.parametrize(
  ("damage", "reason"),
  [
    (lambda file, other: file.unlink(), "No such file"),
    (lambda file, other: file.write_bytes(b""), "checksum"),
    (lambda file, other: file.write_bytes(file.read_bytes()[:-1]), "checksum"),
    (lambda file, other: file.write_bytes(bytes(file.stat().st_size)), "checksum"),
    (lambda file, other: shutil.copy(other, file), "checksum"),
  ],
  ids=["gone", "empty", "short", "zeros", "of another member"],
)
def test_damage_is_one_sentence(damage, reason, folder, tmp_path):
  weights.write(tmp_path / "other", variables(1))
  damage(folder / "weights.safetensors", tmp_path / "other")
  with pytest.raises(UserError, match=reason) as told:
    load(folder)
  assert "\n" not in str(told.value) and str(folder) in str(told.value)


@pytest.mark.parametrize(
  ("change", "reason"),
  [
    (lambda tree: tree["params"].pop("head"), "it lacks 'params.head"),
    (lambda tree: tree.update(more={"x": np.zeros(1)}), "it has the unknown 'more.x'"),
    (lambda tree: tree["params"]["head"].update(extra=np.zeros(1)), "unknown 'params.head.extra'"),
  ],
)
def test_weights_of_another_network_name_what_differs(change, reason, tmp_path):
  tree = {"params": {"head": {"bias": np.zeros(3)}}, "batch_stats": {}}
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, np.float32), tree)
  change(tree)
  digest = weights.write(tmp_path / "file", tree)
  with pytest.raises(ValueError, match=reason):
    weights.read(tmp_path / "file", shapes, digest)


def test_a_member_without_the_file_is_read_from_the_folder_of_orbax(folder):
  """As members were written before there was the file."""
  (folder / "weights.safetensors").unlink()
  facts = json.loads((folder / "member.json").read_text())
  del facts["weights_sha256"]
  (folder / "member.json").write_text(json.dumps(facts))
  assert same(load(folder), variables())
  shutil.rmtree(folder / "weights")
  with pytest.raises(UserError, match="cannot be read"):
    load(folder)
