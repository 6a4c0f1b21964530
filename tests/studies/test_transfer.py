"""Attack transfer between members: the measure, a run's report of it, and the command line."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console
from absl import flags
from PIL import Image

from dissim_jax import command_line, experiment, transfer
from dissim_jax.attacks import Attack, perturb
from dissim_jax.config.blocks import complete
from dissim_jax.configs import default
from dissim_jax.data import load
from dissim_jax.data.augment import normalise
from dissim_jax.data.examples import balanced_part
from dissim_jax.errors import BusyError, UserError
from dissim_jax.experiment import measure as measuring
from dissim_jax.files.atomic import read_json, write_json
from dissim_jax.files.workdir import locked
from dissim_jax.members import store
from dissim_jax.members.find import find_all
from dissim_jax.members.member import Member, classifier
from dissim_jax.models import init_variables
from dissim_jax.models.components import Components
from dissim_jax.studies.pool import measure as pool_measure
from dissim_jax.studies.pool import page as pool_page
from dissim_jax.studies.pool import store as pool_store
from dissim_jax.studies.transfer.attacked import attack_member, logits_on, predictions_on
from dissim_jax.studies.transfer.measure import (
  log_similarity,
  one_sided_log_similarity,
  pair_arrays,
  transferability,
)
from tests import tiny

SHAPE, BATCH, COUNT = (8, 8, 1), 16, 40
CONFIG = {
  "seed": 3,
  "data": {
    "name": "digits",
    "dir": "",
    "validation": 0,
    "split_seed": 0,
    "train_per_class": 10,
    "images_per_class": 0,
    "image_size": 32,
    "mean": [0.5],
    "std": [0.5],
  },
  "dtype": "float32",
  "ensemble": {"teachers": []},
}
FACTS = {
  "model": "tiniest",
  "width_multiplier": 1.0,
  "num_classes": 10,
  "image_shape": [*SHAPE],
  "mean": [0.5],
  "std": [0.5],
  "data": "digits",
  "teachers": [],
  "objective": "sequential",
  "parameters": 1,
  "stem": 8,
  "patch_size": 0,
}
QUICK = {"epsilon": "0.1", "step_size": 0.03, "iterations": 4, "images": COUNT, "batch_size": BATCH}
ATTACK = Attack("pgd", 0.1, 0.03, 4)
FLOOR = 0.01


@functools.cache
def dataset():
  return load(default.get_config().data)


@functools.cache
def network():
  """The architecture of all members, its fresh variables, and what its head sees."""
  model = store.build_model(FACTS, jnp.float32)
  last = len(model.layers) - 1
  apply = jax.jit(lambda variables, x: model.apply(variables, x, last, method="represent"))
  return model, init_variables(model, jax.random.key(0), SHAPE), apply


@functools.cache
def fitted(seed):
  """Random weights, and a head by least squares: it knows digits a little."""
  model, variables, represent = network()
  rng, data = np.random.default_rng(seed), dataset()
  noisy = lambda x: x + rng.normal(0.0, 0.3, x.shape).astype(np.float32)  # noqa: E731
  variables = variables | {"params": jax.tree.map(noisy, variables["params"])}
  images = normalise(data.train_images, [0.5], [0.5])
  features = np.maximum(represent(variables, images), 0).mean((1, 2))
  features = np.c_[features, np.ones(len(features))]
  solution = np.linalg.lstsq(features, 10 * np.eye(10)[data.train_labels], rcond=None)[0]
  head = {"kernel": solution[:-1], "bias": solution[-1]}
  dense = {name: jnp.asarray(value, jnp.float32) for name, value in head.items()}
  return variables | {"params": variables["params"] | {"head": {"dense": dense}}}


def member(seed):
  """A member as the study takes it."""
  return Member(f"m{seed}", network()[0], fitted(seed), (0.5,), (0.5,))


@functools.cache
def test_set():
  used = balanced_part(dataset().test_labels, COUNT)
  return dataset().test_images[used], dataset().test_labels[used]


test_set.__test__ = False


def save(folder, seed, config=None, **facts):
  """A finished member of a run."""
  store.save_member(folder, fitted(seed), FACTS | facts)
  write_json(folder.parent / "config.json", CONFIG | (config or {}))
  return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Runs `a` of two members and `b` of one, whose config says that it also uses one of `a`."""
  root = tmp_path_factory.mktemp("runs")
  first = save(root / "a" / "member_0", 0)
  save(root / "a" / "independent_1", 1, teachers=["../member_0"])
  save(root / "b" / "member_1", 2, {"seed": 4, "ensemble": {"teachers": [str(first)]}})
  (root / "a" / "checkpoints" / "member_9").mkdir(parents=True)
  write_json(root / "a" / "checkpoints" / "member_9" / "member.json", FACTS)
  (root / "c").mkdir()
  write_json(root / "c" / "config.json", CONFIG)  # Not finished.
  return root


def measure(folders, out, **kwargs):
  return pool_measure.run([str(folder) for folder in folders], str(out), **(QUICK | kwargs))


def read(folder):
  """`transfer.json` and the arrays."""
  with np.load(folder / "transfer.npz", allow_pickle=False) as file:
    return read_json(folder / "transfer.json"), {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def pool(runs, tmp_path_factory):
  """All three members, measured at once."""
  return measure([runs], tmp_path_factory.mktemp("out") / "new" / "pool", command="a command")


@pytest.fixture
def attacked(monkeypatch):
  """How many members have been attacked since."""
  count = []
  real = pool_measure.attack_member
  monkeypatch.setattr(pool_measure, "attack_member", lambda *args: count.append(1) or real(*args))
  return count


def loop_similarity(wrong_ab, wrong_ba, floor):
  """Eq. 1 image by image."""
  total = sum(int(x) + int(y) for x, y in zip(wrong_ab, wrong_ba, strict=True))
  return np.log(max(floor, 100 * total / (2 * len(wrong_ab))))


@pytest.mark.parametrize("seed", range(5))
def test_the_measure_against_a_loop(seed):
  rng = np.random.default_rng(seed)
  count = rng.integers(1, 30)
  ab, ba = rng.random((2, count)) < rng.random()
  found = log_similarity(ab.sum(), ba.sum(), count, FLOOR)
  assert found == pytest.approx(loop_similarity(ab, ba, FLOOR), abs=1e-12)
  assert found == log_similarity(ba.sum(), ab.sum(), count, FLOOR)
  one = one_sided_log_similarity(ab.sum(), count, FLOOR)
  assert one == pytest.approx(np.log(max(FLOOR, 100 * ab.mean())), abs=1e-12)


def test_ends_of_the_measure():
  assert log_similarity(7, 7, 7, FLOOR) == pytest.approx(np.log(100))
  assert log_similarity(0, 0, 7, FLOOR) == pytest.approx(np.log(FLOOR))
  assert one_sided_log_similarity(0, 7, 0.5) == pytest.approx(np.log(0.5))
  assert np.isnan(log_similarity(0, 0, 0, FLOOR))
  assert log_similarity(3, 3, 100, FLOOR) > log_similarity(3, 2, 100, FLOOR)


def test_pairs_against_a_loop():
  rng, count = np.random.default_rng(0), 50
  right = rng.random((4, count)) < 0.6
  labels = rng.integers(0, 3, count)
  said = np.where(rng.random((4, 4, count)) < 0.5, labels, rng.integers(0, 3, (4, 4, count)))
  said[np.broadcast_to(~right[:, None], said.shape)] = -1
  said[0, 3] = -1  # Not computed in one direction.
  said[1, 2], said[2, 1] = -1, -1  # In none.
  found = pair_arrays(said, right, labels, FLOOR)
  for s in range(4):
    for t in range(4):
      both = [n for n in range(count) if right[s, n] and right[t, n]]
      fooled = [[said[i, j, n] != labels[n] for n in both] for i, j in ((s, t), (t, s))]
      assert found["counts"][s, t] == len(both)
      if {s, t} == {1, 2}:
        assert np.isnan(found["similarity"][s, t]) and np.isnan(found["fooled"][s, t])
        continue
      if {s, t} == {0, 3}:
        expected = np.log(100 * np.mean(fooled[s == 0]))
      else:
        expected = loop_similarity(*fooled, FLOOR)
      assert found["similarity"][s, t] == pytest.approx(expected, abs=1e-12)
      share = np.nan if (s, t) == (0, 3) else np.mean(fooled[0])
      np.testing.assert_allclose(found["fooled"][s, t], share)
  assert found["computed"].sum() == 16 - 3


answer = jax.jit(lambda model, images: model(images))
# Other batches than those of the program, of the same size.
WINDOWS = [slice(24, 40), slice(8, 24), slice(0, 16)]


def answers_to(model, images):
  """Logits of all images."""
  found = np.zeros((COUNT, 10), np.float32)
  for window in WINDOWS:
    found[window] = answer(model, images[window])
  return found


@functools.cache
def by_hand(seed):
  """A member's clean logits and adversarial images."""
  model, (images, labels) = classifier(member(seed)), test_set()
  unit = images.astype(np.float32) / 255
  clean, found, indices = answers_to(model, unit), unit.copy(), np.arange(COUNT)
  right = clean.argmax(-1) == labels
  for window in WINDOWS:
    found[window] = perturb(
      ATTACK, model, unit[window], labels[window], attacked=right[window], indices=indices[window]
    )
  return clean, found


def answers(seeds):
  """Clean logits `[M, N, K]`, and all logits on all adversarial images `[M, M, N, K]`."""
  models = [classifier(member(seed)) for seed in seeds]
  clean, images = zip(*map(by_hand, seeds), strict=True)
  return np.stack(clean), np.array([[answers_to(model, x) for model in models] for x in images])


def test_a_member_is_attacked_batch_by_batch():
  images, labels = test_set()
  model = classifier(member(0))
  clean, expected = by_hand(0)
  right = clean.argmax(-1) == labels
  found = attack_member(model, images, labels, ATTACK, BATCH, right)
  np.testing.assert_allclose(found, expected, atol=0.0301)  # A sign of a gradient near 0.
  assert np.mean(np.abs(found - expected) > 1e-5) < 0.01
  np.testing.assert_array_equal(found[~right], (images[~right] / np.float32(255)))
  np.testing.assert_allclose(logits_on(model, images, BATCH), clean, atol=1e-4)
  assert predictions_on(model, images, BATCH).dtype == np.int16
  np.testing.assert_array_equal(predictions_on(model, images, BATCH), clean.argmax(-1))


def test_members_of_one_architecture_share_a_program():
  one, other = classifier(member(0)), classifier(member(1))
  assert jax.tree.structure(one) == jax.tree.structure(other)
  assert one.func == other.func and hash(one.func) == hash(other.func)


SEQUENCES = {"all": ["m0", "m1", "m2"], "back": ["m2", "m0"]}


@pytest.fixture(scope="module")
def study():
  """Of three members, as a run's evaluation asks for it."""
  people = [member(seed) for seed in range(3)]
  return transferability(
    people, SEQUENCES, *test_set(), attack=ATTACK, floor=FLOOR, batch_size=BATCH, rule="logits"
  )


def test_pairs_of_a_run(study):
  result, _ = study
  labels = test_set()[1]
  clean, logits = answers(range(3))
  right, wrong = clean.argmax(-1) == labels, logits.argmax(-1) != labels
  assert [(row["a"], row["b"]) for row in result["pairs"]] == [
    ("m0", "m1"),
    ("m0", "m2"),
    ("m1", "m2"),
  ]
  for row in result["pairs"]:
    i, j = int(row["a"][1]), int(row["b"][1])
    both = right[i] & right[j]
    assert row["images"] == both.sum() > 10
    assert row["a_to_b"] == pytest.approx(wrong[i, j][both].mean(), abs=0.051)
    assert row["b_to_a"] == pytest.approx(wrong[j, i][both].mean(), abs=0.051)
    own = 100 * (row["a_to_b"] + row["b_to_a"]) / 2
    assert row["similarity"] == pytest.approx(np.log(own))
  for i, name in enumerate(result["members"]):
    assert result["accuracy"][name] == pytest.approx(right[i].mean())
    assert result["white_box"][name] == pytest.approx(wrong[i, i][right[i]].mean(), abs=0.051)
  assert result["attack"]["name"] == "pgd" and result["images"] == COUNT


def test_unrelated_members_are_less_similar_than_a_member_and_itself(study):
  result, _ = study
  most = max(max(row["a_to_b"], row["b_to_a"]) for row in result["pairs"])
  assert min(result["white_box"].values()) > most + 0.3


def test_ensembles_of_a_run(study):
  result, _ = study
  labels = test_set()[1]
  clean, logits = answers(range(3))
  rows = {(r["sequence"], r["size"], r["source"]): r for r in result["ensembles"]}
  assert len(rows) == len(result["ensembles"]) == 3 * 5
  for (name, size, source), row in rows.items():
    chosen = [int(m[1]) for m in SEQUENCES[name][:size]]
    assert row["members"] == SEQUENCES[name][:size]
    s = int(source[1])
    before = clean[chosen].mean(0).argmax(-1) == labels
    after = logits[s, chosen].mean(0).argmax(-1) == labels
    both = before & (clean[s].argmax(-1) == labels)
    assert row["clean"] == pytest.approx(before.mean())
    assert row["attacked"] == pytest.approx(after.mean(), abs=0.051)
    assert row["kept"] == pytest.approx(after[both].mean(), abs=0.051)
  assert rows["all", 3, "m0"]["kept"] > rows["all", 1, "m0"]["kept"]


def test_images_to_look_at(study):
  _, arrays = study
  assert arrays["original"].dtype == np.uint8 and arrays["original"].shape == (8, *SHAPE)
  change = arrays["adversarial"] - arrays["original"].astype(np.float32) / 255
  assert arrays["adversarial"].dtype == np.float32 and change.shape == (3, 8, *SHAPE)
  assert 0.09 < np.abs(change).max() <= 0.1 + 1e-6
  for i in range(3):
    said = predictions_on(classifier(member(i)), arrays["adversarial"][i], BATCH)
    np.testing.assert_array_equal(said, arrays["predictions"][i])
    clean = predictions_on(classifier(member(i)), arrays["original"], BATCH)
    np.testing.assert_array_equal(clean, arrays["labels"])


def test_blind_members_are_not_fooled_and_nothing_is_divided_by_zero():
  images, labels = test_set()
  model, variables, _ = network()
  head = {"kernel": jnp.zeros((32, 10)), "bias": jnp.zeros(10).at[4].set(1.0)}
  blind = variables | {"params": variables["params"] | {"head": {"dense": head}}}
  known = np.full_like(labels, 4)
  people = [Member("blind", model, blind, (0.5,), (0.5,)), member(1)]
  result, _ = transferability(
    people,
    {"s": ["blind"]},
    images,
    known,
    attack=ATTACK,
    floor=FLOOR,
    batch_size=BATCH,
    rule="probs",
  )
  assert result["white_box"]["blind"] == 0 and result["pairs"][0]["b_to_a"] == 0
  none, _ = transferability(
    people,
    {"s": ["blind"]},
    images,
    known + 1,
    attack=ATTACK,
    floor=FLOOR,
    batch_size=BATCH,
    rule="probs",
  )
  assert none["pairs"][0]["similarity"] is None and none["white_box"]["blind"] is None
  assert none["ensembles"][0]["kept"] is None
  json.dumps(none, allow_nan=False)


def test_finding_members(runs):
  found = find_all([runs, runs / "a" / "member_0"], "--members")
  assert [each.name for each in found] == ["a/member_0", "a/independent_1", "b/member_1"]
  assert [each.run.name for each in found] == ["a", "a", "b"]
  assert [each.config.seed for each in found] == [3, 3, 4]
  assert [each.name for each in find_all([runs / "b"], "--members")] == ["a/member_0", "b/member_1"]
  with pytest.raises(UserError, match="--members=.*c: it has no finished member"):
    find_all([runs, runs / "c"], "--members")


def test_files_of_a_pool(pool, runs):
  facts, arrays = read(pool)
  assert facts.keys() == {
    "attack",
    "floor",
    "images",
    "data",
    "members",
    "one_sided",
    "command",
    "seconds",
    "environment",
  }
  assert facts["attack"] == {
    "name": "pgd",
    "epsilon": 0.1,
    "step_size": 0.03,
    "iterations": 4,
    "random_start": True,
    "momentum": 1.0,
    "seed": 0,
  }
  assert facts["images"] == COUNT and facts["one_sided"] == [] and facts["command"] == "a command"
  assert facts["data"] == complete(CONFIG)["data"]
  row = facts["members"][1]
  assert row.keys() == {
    "name",
    "folder",
    "run",
    "model",
    "width_multiplier",
    "stem",
    "patch_size",
    "image_shape",
    "num_classes",
    "objective",
    "teachers",
    "parameters",
    "accuracy",
    "seed",
    "index",
    "components",
    "config",
  }
  assert (row["name"], row["index"], row["seed"]) == ("a/independent_1", 1, 3)
  assert row["teachers"] == [str(runs / "a" / "member_0")]
  assert Components(**row["components"]).input_resolution == "8"
  assert facts["members"][2]["config"]["seed"] == 4
  images, labels = test_set()
  clean, logits = answers(range(3))
  right = clean.argmax(-1) == labels
  assert arrays.keys() == {
    "names",
    "labels",
    "logits",
    "predictions",
    "similarity",
    "counts",
    "fooled",
  }
  assert arrays["names"].tolist() == [each["name"] for each in facts["members"]]
  np.testing.assert_array_equal(arrays["labels"], labels)
  np.testing.assert_allclose(arrays["logits"], clean, atol=1e-4)
  assert arrays["predictions"].dtype == np.int16 and arrays["similarity"].dtype == np.float64
  said = np.where(right[:, None], logits.argmax(-1), -1)
  assert np.mean(arrays["predictions"] != said) < 0.02
  np.testing.assert_array_equal(arrays["predictions"] == -1, said == -1)
  np.testing.assert_array_equal(arrays["similarity"], arrays["similarity"].T)
  assert (arrays["similarity"].diagonal() > arrays["similarity"].mean(1)).all()
  assert [each["accuracy"] for each in facts["members"]] == pytest.approx(right.mean(1))


def test_the_command_line_and_a_run_say_the_same(pool, study):
  _, arrays = read(pool)
  for row in study[0]["pairs"]:
    i, j = int(row["a"][1]), int(row["b"][1])
    assert row["similarity"] == pytest.approx(arrays["similarity"][i, j], abs=1e-9)
    assert row["images"] == arrays["counts"][i, j]


def same(one, other):
  for key, values in read(one)[1].items():
    np.testing.assert_array_equal(read(other)[1][key], values, err_msg=key)


def test_a_member_that_is_added_is_the_only_one_attacked(runs, pool, tmp_path, attacked):
  out = measure([runs / "a"], tmp_path / "out")
  assert len(attacked) == 2
  assert read(out)[1]["names"].tolist() == ["member_0", "independent_1"]
  pool_measure.run([str(runs / "b" / "member_1")], str(out), batch_size=BATCH)  # As in the folder.
  assert len(attacked) == 3
  same(out, pool)
  assert len(list((out / "images").glob("*.npz"))) == 3
  pool_measure.run([], str(out), batch_size=BATCH)  # Nothing to do.
  assert len(attacked) == 3
  same(out, pool)


@pytest.mark.parametrize("kwargs", [{"one_sided": True}, {"keep_images": False}])
def test_one_sided(runs, pool, tmp_path, attacked, kwargs):
  out = measure([runs / "a"], tmp_path / "out", **kwargs)
  assert (out / "images").exists() == kwargs.get("keep_images", True)
  measure([runs / "b" / "member_1"], out, **kwargs)
  facts, arrays = read(out)
  names = ["a/member_0", "a/independent_1", "b/member_1"]
  assert facts["one_sided"] == [[names[2], names[0]], [names[2], names[1]]]
  whole = read(pool)[1]
  assert (arrays["predictions"][:2, 2] == -1).all()
  np.testing.assert_array_equal(arrays["predictions"][2], whole["predictions"][2])
  assert np.isnan(arrays["fooled"][:2, 2]).all() and len(attacked) == 3
  one = np.log(np.maximum(FLOOR, 100 * arrays["fooled"][2, :2]))
  np.testing.assert_allclose(arrays["similarity"][2, :2], one)
  np.testing.assert_array_equal(arrays["similarity"], arrays["similarity"].T)
  assert arrays["similarity"][0, 1] == whole["similarity"][0, 1]
  if "one_sided" in kwargs:
    measure([], out)  # The images are there: both sides can be had.
    assert len(attacked) == 3
    same(out, pool)


@pytest.mark.parametrize("keep_images", [True, False])
def test_killed_half_way(runs, pool, tmp_path, monkeypatch, attacked, keep_images):
  real, out = pool_store.write_row, tmp_path / "out"

  def killed(*args):
    if len(attacked) == 2:
      raise KeyboardInterrupt
    real(*args)

  monkeypatch.setattr(pool_store, "write_row", killed)
  with pytest.raises(KeyboardInterrupt):
    measure([runs], out, keep_images=keep_images)
  assert not (out / "transfer.json").exists() and not (out / "transfer.npz").exists()
  monkeypatch.setattr(pool_store, "write_row", real)
  measure([runs], out, keep_images=keep_images)
  assert len(attacked) == (3 if keep_images else 4)
  same(out, pool)


def test_damaged_and_outdated_files(runs, pool, tmp_path, attacked, caplog):
  out = measure([runs / "a"], tmp_path / "out")
  path = next((out / "images").glob("*member_0*"))
  path.write_bytes(path.read_bytes()[:1000])
  measure([runs / "b" / "member_1"], out)
  assert len(attacked) == 4 and "cannot be read" in caplog.text and path.name in caplog.text
  same(out, pool)
  for path in (out / "rows").glob("*independent_1*"):
    path.write_text("")
  measure([], out)
  assert len(attacked) == 4  # Its images are still there.
  same(out, pool)


def test_a_member_that_was_trained_again(runs, tmp_path, attacked):
  shutil.copytree(runs / "a", tmp_path / "a")
  out = measure([tmp_path / "a"], tmp_path / "out")
  shutil.rmtree(tmp_path / "a" / "member_0" / "weights")
  save(tmp_path / "a" / "member_0", 2, parameters=2)
  measure([], out)
  assert len(attacked) == 3
  fresh = measure([tmp_path / "a"], tmp_path / "fresh")
  same(out, fresh)


def image_folder(folder):
  """Two classes of 16x12 pictures, told apart by where they are bright."""
  rng = np.random.default_rng(0)
  for split in ("train", "test"):
    for label in range(2):
      (folder / split / f"class_{label}").mkdir(parents=True)
      for n in range(12):
        pixels = rng.integers(0, 120, (16, 12, 3))
        pixels[:, 6 * label : 6 * label + 6] += 70
        picture = Image.fromarray(pixels.astype(np.uint8))
        picture.save(folder / split / f"class_{label}" / f"{n}.png")


def pillow_resize(images, side):
  """Bilinear with antialiasing, channel by channel."""
  sized = [
    [
      np.asarray(Image.fromarray(c).resize((side, side), Image.Resampling.BILINEAR))
      for c in np.moveaxis(image, -1, 0)
    ]
    for image in images
  ]
  return np.moveaxis(np.array(sized), 1, -1)


def test_members_of_other_resolution(tmp_path, monkeypatch):
  """Each is attacked at its own, here by noise, and sees the others' images at its own."""

  def noise(model, images, *_):
    change = np.random.default_rng(0).uniform(-0.3, 0.3, images.shape)
    return np.clip(images / 255 + change, 0, 1).astype(np.float32)

  monkeypatch.setattr(pool_measure, "attack_member", noise)
  image_folder(tmp_path / "pictures")
  facts = FACTS | {
    "num_classes": 2,
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "data": "image_folder",
    "width_multiplier": 0.25,
  }
  people = {}
  for side in (8, 12):
    own = facts | {"image_shape": [side, side, 3]}
    data = CONFIG["data"] | {
      "name": "image_folder",
      "dir": str(tmp_path / "pictures"),
      "image_size": side,
      "mean": [0.5] * 3,
      "std": [0.5] * 3,
    }
    model = store.build_model(own, jnp.float32)
    variables = tiny.drawn(model, own["image_shape"], side)
    store.save_member(tmp_path / f"run_{side}" / "member_0", variables, own)
    write_json(tmp_path / f"run_{side}" / "config.json", CONFIG | {"data": data})
    people[side] = classifier(Member("", model, variables, (0.5,) * 3, (0.5,) * 3))
  folders = [tmp_path / f"run_{side}" for side in (8, 12)]
  out = measure(folders, tmp_path / "out", images=100, epsilon="64/255")
  facts, arrays = read(out)
  assert facts["images"] == 24 and facts["attack"]["epsilon"] == 64 / 255
  assert [each["image_shape"][0] for each in facts["members"]] == [8, 12]
  found = find_all(folders, "")
  first, second = (load(each.config.data) for each in found)
  position = {int(index): row for row, index in enumerate(second.test_origin.index)}
  same = second.test_images[[position[int(index)] for index in first.test_origin.index]]
  small, large = (
    pool_store.read_images(out, each, pool_store.identity(each, facts["attack"], images))
    for each, images in zip(found, (first.test_images, same), strict=True)
  )
  assert small.shape == (24, 8, 8, 3) and large.shape == (24, 12, 12, 3)
  for source, target, images in ((0, 1, pillow_resize(small, 12)), (1, 0, pillow_resize(large, 8))):
    there = arrays["predictions"][source, source] >= 0
    said = np.asarray(answer(people[images.shape[1]], images)).argmax(-1)
    np.testing.assert_array_equal(arrays["predictions"][source, target][there], said[there])


def test_the_table_fits_a_terminal(pool, tmp_path):
  console = rich.console.Console(file=(tmp_path / "table").open("w"), width=80)
  pool_measure.print_table(pool, console)
  console.file.close()
  text = (tmp_path / "table").read_text()
  assert max(map(len, text.splitlines())) <= 80
  assert all(word in text for word in ("a/independent_1", "white-box %", "similarity"))


OUT, RUNS = "{out}", "{runs}"
WRONG = [
  ({"epsilon": "-1/255"}, "--epsilon=-0.0039.*: must be a number in 0..1"),
  ({"epsilon": "eight"}, "--epsilon=eight: must be a number or a fraction such as 8/255"),
  ({"epsilon": "1/0"}, "--epsilon=1/0: must be a number or a fraction"),
  ({"attack": "pdg"}, "--attack='pdg': choose one of fgsm, momentum_pgd, pgd, did you mean 'pgd'"),
  ({"iterations": 0}, "--iterations=0: must be a whole number of at least 1"),
  ({"iterations": 10**30}, f"--iterations={10**30}: must be at most 2147483647"),
  ({"step_size": "0"}, "--step_size=0.0: must be a number above 0"),
  ({"images": 0}, "--images=0: must be an integer >= 1"),
  ({"floor": 0.0}, "--floor=0.0: must be a number above 0"),
  ({"batch_size": 0}, "--batch_size=0: must be an integer >= 1"),
  ({"members": []}, "--members: only none is given, at least two members are needed"),
  ({"members": ["{runs}/a/member_0"]}, "--members: only member_0 is given, at least two"),
  ({"members": ["{runs}/nothing"]}, "--members=.*nothing: it has no finished member"),
  (
    {"members": [RUNS, "{tmp}/classes"]},
    r"members of different data sets: .*a/member_0 \(digits, "
    r"10 classes, 1 channels\) and .*classes/member_0 \(digits, 7 classes, 1 channels\)",
  ),
  (
    {"members": [RUNS, "{tmp}/set"]},
    r"different data sets: .*a/member_0 \(digits.* and "
    r".*set/member_0 \(svhn",
  ),
  (
    {"members": [RUNS, "{tmp}/split"]},
    r"member_0 and .*split/member_0 have other test images .* "
    r"\(data.split_seed is 0 and 1\)",
  ),
  (
    {"members": [RUNS, "{tmp}/wrong"]},
    "a/member_0 and .*wrong/member_0: there is no image that both get right among 40",
  ),
  ({"out": "{tmp}/file/there"}, "--out=.*file/there: .* a folder is needed"),
  ({"out": RUNS + "/a"}, "--out=.*a: is the folder of a run, choose another"),
]


@pytest.fixture(scope="module")
def odd(runs, tmp_path_factory):
  """Members that do not fit to those of `runs`."""
  root = tmp_path_factory.mktemp("odd")
  for name, facts in (("classes", {"num_classes": 7}), ("set", {"data": "svhn"})):
    write_json(root / name / "config.json", CONFIG)
    write_json(root / name / "member_0" / "member.json", FACTS | facts)
  data = CONFIG["data"] | {"split_seed": 1}
  write_json(root / "split" / "config.json", CONFIG | {"data": data})
  write_json(root / "split" / "member_0" / "member.json", FACTS)
  save(root / "wrong" / "member_0", 0)
  variables = fitted(0)
  dense = {k: -v for k, v in variables["params"]["head"]["dense"].items()}
  variables = variables | {"params": variables["params"] | {"head": {"dense": dense}}}
  store.save_member(root / "wrong" / "member_0", variables, FACTS)
  (root / "file").write_text("")
  return root


@pytest.mark.parametrize("given, message", WRONG, ids=[str(given) for given, _ in WRONG])
def test_what_is_wrong_is_told_in_one_sentence(runs, odd, tmp_path, given, message):
  fill = lambda text: text.format(runs=runs, tmp=odd, out=tmp_path / "out")  # noqa: E731
  kwargs = QUICK | {"members": [RUNS], "out": OUT} | given
  kwargs |= {"members": [fill(text) for text in kwargs["members"]], "out": fill(kwargs["out"])}
  with pytest.raises(UserError, match=message) as raised:
    pool_measure.run(**kwargs)
  assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  "given, message",
  [
    ({"epsilon": "0.2"}, "--epsilon=0.2: the folder was made with 0.1; choose another --out"),
    ({"attack": "fgsm"}, "--attack=fgsm: the folder was made with pgd"),
    ({"random_start": False}, "--random_start=False: the folder was made with True"),
    ({"images": 30}, "--images=30: the folder was made with 40"),
    ({"floor": 0.02}, "--floor=0.02: the folder was made with 0.01"),
  ],
)
def test_settings_other_than_those_of_the_folder(pool, given, message):
  before = (pool / "transfer.json").read_bytes()
  with pytest.raises(UserError, match=message):
    pool_measure.run([], str(pool), **given)
  assert (pool / "transfer.json").read_bytes() == before


def test_one_process_at_a_time(runs, tmp_path):
  measured = lambda: measure([runs / "a"], tmp_path / "out")  # noqa: E731
  with locked(tmp_path / "out"), pytest.raises(BusyError, match="--out=.*another process"):
    measured()
  measured()


def test_the_program(runs, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(pool_page, "write_page", lambda folder: folder / "analysis.html")
  values = flags.FlagValues()
  holders = transfer.define_flags(values)
  out = tmp_path / "out"
  values(
    [
      "transfer",
      f"--members={runs / 'a'}",
      f"--out={out}",
      f"--images={COUNT}",
      "--epsilon=8/255",
      "--iterations=1",
      f"--batch_size={BATCH}",
      "--norandom_start",
    ]
  )
  transfer.main(["transfer"], holders)
  printed = capsys.readouterr()
  assert "independent_1" in printed.out and f"page: {out / 'analysis.html'}" in printed.out
  assert "attacked 2/2" in printed.err
  attack = read(out)[0]["attack"]
  assert (attack["epsilon"], attack["random_start"], attack["iterations"]) == (8 / 255, False, 1)
  defaults = pool_measure.run.__kwdefaults__
  assert holders.keys() | {"command"} == {"members", "out"} | defaults.keys()
  plain = transfer.define_flags(flags.FlagValues())
  for name in plain.keys() & defaults.keys():
    assert plain[name].default == defaults[name], name


def test_bad_input_ends_the_program_with_exit_code_2(runs, odd, tmp_path, capsys):
  values = flags.FlagValues()
  holders = transfer.define_flags(values)
  values(
    [
      "transfer",
      f"--members={runs / 'a'}",
      f"--members={odd / 'classes'}",
      f"--out={tmp_path / 'out'}",
    ]
  )
  with pytest.raises(SystemExit) as stop:
    command_line.guarded(lambda argv: transfer.main(argv, holders))(["transfer"])
  told = capsys.readouterr().err
  assert stop.value.code == 2 and not (tmp_path / "out").exists()
  assert told.count("\n") == 1 and told.startswith("error: members of different data sets")


def test_a_run_is_measured_further(tmp_path, monkeypatch):
  """Members that are there already are attacked when the run is started again."""
  config = default.get_config()
  config.update_from_flattened_dict(
    {
      "model.name": "tiniest",
      "model.width_multiplier": 1.0,
      "dissim.weight": 0.0,
      "dissim.taps": (1,),
      "transfer.attack": "pgd",
      "transfer.epsilon": 0.1,
      "transfer.step_size": 0.03,
      "transfer.iterations": 4,
      "transfer.images": COUNT,
      "train.batch_size": 20,
      "data.train_per_class": 170,
    }
  )
  # Nothing else is measured here.
  nothing = np.zeros((2, len(load(config.data).test_labels), 10), np.float32)
  monkeypatch.setattr(measuring.similarity_measure, "measure", lambda *_: (nothing, {}))
  monkeypatch.setattr(measuring, "diversity", lambda *_, **__: {})
  for seed in range(2):
    facts = FACTS | {"epochs": 1, "train_seconds": 1.0}
    store.save_member(tmp_path / "run" / f"member_{seed}", fitted(seed), facts)
  plain = json.loads(json.dumps(config.to_dict()))
  write_json(tmp_path / "run" / "config.json", plain | {"transfer": {"attack": "none"}})
  experiment.run(config, tmp_path / "run")
  found = read_json(tmp_path / "run" / "evaluation" / "transferability.json")
  assert found["settings"]["attack"] == "pgd" and found["attack"]["epsilon"] == 0.1
  assert found["members"] == ["member_0", "member_1"] and len(found["pairs"]) == 1
  assert found["ensembles"][-1]["sequence"] == "baseline" and found["images"] == COUNT
  with np.load(tmp_path / "run" / "evaluation" / "transferability.npz") as file:
    assert file["adversarial"].shape == (2, 8, *SHAPE)
  config.transfer.epsilon = -1.0
  with pytest.raises(UserError, match="transfer.epsilon=-1.0: must be a number in 0..1"):
    experiment.run(config, tmp_path / "run")
  config.transfer.update({"epsilon": 0.1, "attack": "pdg"})
  with pytest.raises(UserError, match="transfer.attack='pdg': choose one of .*'pgd'"):
    experiment.run(config, tmp_path / "run")
