"""Comparisons against each measure on whole taps, and every way a request can be wrong."""

import csv
import functools
import io
import json
import re

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import rich.console
from absl import flags
from PIL import Image
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from dissim_jax import compare as program
from dissim_jax.config.blocks import complete
from dissim_jax.data import load
from dissim_jax.data.augment import normalise
from dissim_jax.data.examples import balanced_part
from dissim_jax.errors import UserError
from dissim_jax.files.atomic import read_json, write_json
from dissim_jax.members import find, store
from dissim_jax.members.member import Member, Subject
from dissim_jax.models import MODELS, variable_shapes
from dissim_jax.similarity import MEASURES, comoments
from dissim_jax.studies.similarity import all_pairs, compare
from dissim_jax.studies.similarity import choice as similarity_choice
from dissim_jax.studies.similarity import page as similarity_page
from dissim_jax.studies.similarity.choice import ChosenMeasure
from tests import tiny

N, BATCH, SHAPE = 45, 16, (8, 8, 1)
SCALES = {"member_0": ((0.5,), (0.5,)), "member_1": ((0.3,), (0.2,))}
CONFIG = {
  "data": {
    "name": "digits",
    "dir": "",
    "validation": 0,
    "split_seed": 0,
    "train_per_class": 10,
    "images_per_class": 0,
  },
  "dtype": "float32",
  "ensemble": {"teachers": []},
}
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
POSITION = [m.name for m in MEASURES.values() if m.samples == "position" and not m.aligned]
EXAMPLE = [m.name for m in MEASURES.values() if m.samples == "example"]
DEEP = FACTS | {"model": "tiny_deep"}  # With a tap of 2x2 positions.


@functools.cache
def variables_of(seed):
  return tiny.drawn(store.build_model(FACTS, jnp.float32), SHAPE, seed)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """A run of two members of their own normalisation."""
  folder = tmp_path_factory.mktemp("runs") / "run"
  write_json(folder / "config.json", CONFIG)
  for seed, (name, (mean, std)) in enumerate(SCALES.items()):
    facts = FACTS | {"mean": list(mean), "std": list(std)}
    store.save_member(folder / name, variables_of(seed), facts)
  return folder


@pytest.fixture(scope="module")
def images():
  """The N test images that are compared."""
  data = load(ml_collections.ConfigDict(CONFIG["data"]))
  return data.test_images[balanced_part(data.test_labels, N)]


@pytest.fixture(scope="module")
def taps(images):
  """All their taps, by member, from one call of each network."""
  model = store.build_model(FACTS, jnp.float32)
  apply = jax.jit(lambda variables, images: model.apply(variables, images)[1])
  return {
    name: apply(variables_of(seed), normalise(images, *scale))
    for seed, (name, scale) in enumerate(SCALES.items())
  }


def compared(images, measures, taps=(0, 1, 2), option=(), batch_size=BATCH, **kwargs):
  """What a run compares, without its files."""
  model = store.build_model(FACTS, jnp.float32)
  subjects = [
    Subject(Member(name, model, variables_of(seed), *scale), taps)
    for seed, (name, scale) in enumerate(SCALES.items())
  ]
  chosen = similarity_choice.choose(measures, option)
  batches = similarity_choice.split(images, batch_size, chosen)
  return all_pairs.compare(subjects, chosen, batches, **kwargs)


@pytest.fixture(scope="module")
def arrays(images):
  """Everything that needs no aligned channels, over several batches."""
  return compared(
    images,
    POSITION + ["lincka", "relative", "jaccard"],
    option=["jaccard.k=3", "svcca.variance=0.9"],
  )


OPTIONS = {"svcca": {"variance": 0.9}, "jaccard": {"k": 3}}


@functools.cache
def whole(names):
  """All measures as one compiled function of two arrays."""
  return jax.jit(lambda x, y: [MEASURES[n].function(x, y, **OPTIONS.get(n, {})) for n in names])


@pytest.mark.parametrize("tap, other", [(0, 1), (2, 2)])
def test_position_measures_are_those_of_the_whole_taps(arrays, taps, tap, other):
  x, y = taps["member_0"][tap], taps["member_1"][other]
  for first, second, i, j in ((x, y, "member_0", "member_1"), (y, x, "member_1", "member_0")):
    values = whole(tuple(POSITION))(first, second)
    place = (tap, other) if i == "member_0" else (other, tap)
    for name, value in zip(POSITION, values, strict=True):
      key = f"{name}/{i}/{j}"
      assert (key in arrays) == (i < j or not MEASURES[name].symmetric)
      if key in arrays:
        assert arrays[key][place] == pytest.approx(float(value), abs=1e-4), key


def test_a_member_with_itself(arrays, taps):
  x, y = taps["member_1"][:2]
  forward, backward = whole(tuple(POSITION))(x, y), whole(tuple(POSITION))(y, x)
  for name, there, back in zip(POSITION, forward, backward, strict=True):
    values = arrays[f"{name}/member_1/member_1"]
    assert values[0, 1] == pytest.approx(float(there), abs=1e-4)
    assert values[1, 0] == pytest.approx(float(back), abs=1e-4)
    np.testing.assert_allclose(values.diagonal(), 1.0, atol=1e-3)


def r2(x, y):
  """How well the second predicts the first, in float64."""
  x, y = (np.asarray(z, np.float64).reshape(-1, z.shape[-1]) for z in (x, y))
  return r2_score(x, LinearRegression().fit(y, x).predict(y))


def test_r2_says_how_well_the_second_predicts_the_first(arrays, taps):
  a, b = taps["member_0"][2], taps["member_1"][2]
  expected = [r2(a, b), r2(b, a)]
  found = [arrays[f"r2/{pair}"][2, 2] for pair in ("member_0/member_1", "member_1/member_0")]
  np.testing.assert_allclose(found, expected, atol=1e-4)
  assert abs(expected[0] - expected[1]) > 1e-3  # The directions can be told apart.


def hsic(x, y):
  """Eq. 13 of Wald et al. 2023, in float64."""
  k, m = (np.asarray(z, np.float64).reshape(len(z), -1) for z in (x, y))
  k, m = k @ k.T, m @ m.T
  np.fill_diagonal(k, 0), np.fill_diagonal(m, 0)
  n, one = len(k), np.ones(len(k))
  middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
  return (np.trace(k @ m) + middle - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))


def test_example_measures_are_accumulated_over_batches(arrays, taps):
  for i, j in ((2, 1), (0, 2)):
    x, y = taps["member_0"][i], taps["member_1"][j]
    parts = list(zip(*(np.array_split(np.asarray(z), 3) for z in (x, y)), strict=True))
    xy, xx, yy = (
      np.sum([hsic(*pair) for pair in pairs])
      for pairs in (parts, [(a, a) for a, _ in parts], [(b, b) for _, b in parts])
    )
    found = arrays["lincka/member_0/member_1"][i, j]
    assert found == pytest.approx(xy / np.sqrt(xx * yy), abs=1e-5)
  means = np.mean([whole(tuple(EXAMPLE))(a, b) for a, b in parts], axis=0)  # Of equal sizes.
  for name, expected in zip(EXAMPLE, means, strict=True):
    if name in ("relative", "jaccard"):
      assert arrays[f"{name}/member_0/member_1"][i, j] == pytest.approx(expected, abs=1e-5)


def test_example_measures_of_one_batch(images, taps):
  found = compared(images[:15], EXAMPLE, taps=(1, 2), option=["jaccard.k=3"])
  values = whole(tuple(EXAMPLE))(taps["member_0"][1][:15], taps["member_1"][2][:15])
  for name, value in zip(EXAMPLE, values, strict=True):
    block = found[f"{name}/member_0/member_1"]
    assert block[0, 1] == pytest.approx(float(value), abs=1e-4)
    assert abs(block[1, 0] - block[0, 1]) > 1e-3


def test_taps_of_different_sizes_have_no_value(arrays):
  size = [0, 0, 1]  # tiny halves at the second block.
  same = np.equal.outer(size, size)
  for name in POSITION:
    for pair in ("member_0/member_1", "member_1/member_1"):
      np.testing.assert_array_equal(np.isnan(arrays[f"{name}/{pair}"]), ~same)
  assert not np.isnan(arrays["lincka/member_0/member_1"]).any()


def pillow_resize(z, size):
  """Bilinear with antialiasing, channel by channel."""
  return np.stack(
    [
      np.stack(
        [
          np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BILINEAR))
          for channel in np.moveaxis(image, -1, 0)
        ],
        -1,
      )
      for image in np.asarray(z, np.float32)
    ]
  )


def test_resized_taps(images, taps):
  found = compared(images, ["r2"], taps=(0, 2), resize=True)
  assert not any(np.isnan(values).any() for values in found.values())
  large = {name: pillow_resize(tap[0], (4, 4)) for name, tap in taps.items()}
  for pair, place, expected in (
    ("member_0/member_1", (0, 1), r2(large["member_0"], taps["member_1"][2])),
    ("member_0/member_1", (1, 0), r2(taps["member_0"][2], large["member_1"])),
    ("member_1/member_0", (0, 1), r2(large["member_1"], taps["member_0"][2])),
    ("member_0/member_0", (0, 1), r2(large["member_0"], taps["member_0"][2])),
    ("member_0/member_0", (1, 0), r2(taps["member_0"][2], large["member_0"])),
  ):
    assert found[f"r2/{pair}"][place] == pytest.approx(expected, abs=1e-4)


def test_larger_taps_are_resized_to_every_smaller_size():
  shapes = [((8, 6), 2), ((4, 3), 5), ((8, 6), 3), ((2, 2), 7), ((), 4)]
  parts = {part.size: part for part in comoments.layouts(shapes, True)}
  found = {size: (part.native, part.resized) for size, part in parts.items()}
  assert found == {
    (8, 6): ((0, 2), ()),
    (4, 3): ((1,), (0, 2)),
    (2, 2): ((3,), (0, 1, 2)),
    (): ((4,), ()),
  }
  assert parts[2, 2].span(1) == slice(9, 14)
  assert comoments.common_size((8, 6), (2, 2), True) == (2, 2)
  assert comoments.common_size((8, 6), (2, 2), False) is None
  assert comoments.common_size((8, 2), (4, 3), True) is None


def test_pooled_taps(images, taps):
  found = compared(images, ["r2"], taps=(0, 2), pooled=True)
  x, y = (
    np.asarray(taps[m][t], np.float64).mean((1, 2)) for m, t in (("member_0", 2), ("member_1", 0))
  )
  assert found["r2/member_0/member_1"][1, 0] == pytest.approx(r2(x, y), abs=1e-4)
  assert found["r2/member_1/member_0"][0, 1] == pytest.approx(r2(y, x), abs=1e-4)


def subjects(count):
  model = store.build_model(FACTS, jnp.float32)
  return [
    Subject(Member(f"m{i}", model, variables_of(i), (0.5,), (0.5,)), (0, 2)) for i in range(count)
  ]


CHEAP = (ChosenMeasure(MEASURES["lincka"]), ChosenMeasure(MEASURES["r2"]))


def test_a_pass_for_each_pair_is_the_same_as_one_pass(monkeypatch):
  images = np.random.default_rng(0).integers(0, 256, (3, 10, *SHAPE), np.uint8)
  together, told = all_pairs.compare(subjects(3), CHEAP, images), []
  monkeypatch.setattr(all_pairs, "ONE_PASS_BYTES", 0)
  progress = lambda what, done, total: told.append(what)  # noqa: E731
  pairwise = all_pairs.compare(subjects(3), CHEAP, images, progress=progress)
  assert {"images, pass 1 of 4", "images, pass 4 of 4"} < set(told)
  assert together.keys() == pairwise.keys() and "r2/m2/m1" in together
  for key, values in together.items():
    np.testing.assert_allclose(pairwise[key], values, atol=1e-4)


def test_nothing_that_is_held_grows_with_the_number_of_images():
  images = np.random.default_rng(0).integers(0, 256, (10, *SHAPE), np.uint8)

  def held(batches):
    most = []
    live = lambda *_: most.append(sum(x.nbytes for x in jax.live_arrays()))  # noqa: E731
    all_pairs.compare(subjects(2), CHEAP, [images] * batches, progress=live)
    return most[:batches]

  few, many = held(3), held(30)
  assert max(many) <= max(few) < 2 * min(few)
  activations = 10 * (64 * 4 + 16 * 8) * 4  # Of one batch and member, in bytes.
  assert max(many) - min(many) < activations


def test_comoments_of_two_resnet34_take_little_memory():
  image_shape, everything = (32, 32, 3), tuple(range(17))
  model = MODELS["resnet34"](10)
  variables = variable_shapes(model, image_shape)
  member = Member("m", model, variables, (0.5,) * 3, (0.5,) * 3)
  shapes = Subject(member, everything).shapes(image_shape, False)
  parts = comoments.layouts(shapes * 2, False)
  assert [part.nbytes for part in parts] == [
    8 * (channels**2 + channels + 1) for channels in (512, 1024, 3072, 3072)
  ]
  resized = comoments.layouts(shapes * 2, True)
  assert sum(part.nbytes for part in resized) < all_pairs.ONE_PASS_BYTES / 2


def test_comoments_far_from_the_origin_keep_their_digits():
  rng = np.random.default_rng(0)
  x = rng.normal(100.0, 1.0, (6, 20, 3, 2, 4)).astype(np.float32)
  y = rng.normal(50.0, 1.0, (6, 20, 6, 4, 2)).astype(np.float32)
  x[3:] += 50.0
  y[3:] -= 20.0
  layout = comoments.Layout((3, 2), (0,), (1,), (4, 2))
  sums, add = comoments.empty_comoments(layout), jax.jit(comoments.add_batch, static_argnums=1)
  for batch in zip(x, y, strict=True):
    sums = add(sums, layout, batch)
  m = comoments.pair_moments(layout, sums, 0, 1)
  y = pillow_resize(y.reshape(-1, 6, 4, 2), (2, 3))
  rows = np.concatenate([x.reshape(-1, 4), y.reshape(-1, 2)], -1).astype(np.float64)
  expected = np.cov(rows.T, ddof=0) * len(rows)
  assert float(m.count) == len(rows)
  np.testing.assert_allclose(m.mean_y, rows.mean(0)[4:], rtol=1e-6)
  np.testing.assert_allclose(m.xx, expected[:4, :4], rtol=1e-5)
  np.testing.assert_allclose(m.xy, expected[:4, 4:], rtol=1e-5)
  np.testing.assert_allclose(m.yy, expected[4:, 4:], rtol=1e-5)


def bare(folder, name, **facts):
  write_json(folder / name / "member.json", FACTS | facts)
  return folder / name


def names(found):
  return [each.name for each in found]


def test_members_are_found_in_the_order_of_their_evaluation(tmp_path):
  write_json(tmp_path / "config.json", CONFIG)
  for name in ("member_10", "member_2", "independent_1", "member_0"):
    bare(tmp_path, name)
  (tmp_path / "member_3").mkdir()  # Not finished.
  assert names(find.find_members([tmp_path])) == [
    "member_0",
    "member_2",
    "member_10",
    "independent_1",
  ]
  evaluated = {"members": [{"name": n} for n in ("member_2", "gone", "independent_1", "member_0")]}
  write_json(tmp_path / "evaluation" / "metrics.json", evaluated)
  assert names(find.find_members([tmp_path])) == [
    "member_2",
    "independent_1",
    "member_0",
    "member_10",
  ]
  assert names(find.find_members([tmp_path], ["member_10", "member_2"])) == [
    "member_2",
    "member_10",
  ]
  assert names(find.find_members([tmp_path / "member_2"])) == ["member_2"]


def test_members_of_two_runs_are_told_apart_and_a_shared_one_is_listed_once(tmp_path):
  one, two = tmp_path / "x" / "one", tmp_path / "x" / "two"
  write_json(one / "config.json", CONFIG)
  write_json(two / "config.json", CONFIG | {"ensemble": {"teachers": ["x/one/member_0"]}})
  shared = bare(one, "member_0")
  bare(one, "member_1"), bare(two, "member_1"), bare(two, "independent_1")
  found = find.find_members([one, two])
  assert names(found) == ["member_0", "one:member_1", "two:member_1", "independent_1"]
  assert found[0].folder == shared and found[2].folder == two / "member_1"
  assert names(find.find_members([two])) == ["member_0", "member_1", "independent_1"]
  chosen = find.find_members([one, two], ["two:member_1", "member_0"])
  assert names(chosen) == ["member_0", "two:member_1"]
  other = tmp_path / "y" / "one"
  write_json(other / "config.json", CONFIG)
  bare(other, "member_1")
  assert names(find.find_members([one, other])) == ["member_0", "x_one:member_1", "y_one:member_1"]


def damaged_runs(tmp_path):
  """Runs with something wrong: folder names by what it is."""
  for name in ("empty", "shapes", "gone"):
    write_json(tmp_path / name / "config.json", CONFIG)
  bare(tmp_path / "shapes", "member_0"), bare(tmp_path / "shapes", "member_1", num_classes=7)
  config = CONFIG | {"ensemble": {"teachers": ["nowhere/member_0"]}}
  write_json(tmp_path / "gone" / "config.json", config)
  (tmp_path / "file").write_text("")


RUN = "{run}"
WRONG = [
  ({"measures": ["svca"]}, "--measures=svca: choose among .*, did you mean 'svcca'?"),
  ({"measures": ["l2corr"]}, "--measures=l2corr: .* channels .*; r2 compares them"),
  ({"measures": []}, "--measures is missing"),
  ({"option": ["svcca.variance"]}, "--option=svcca.variance: must be measure.option=value"),
  ({"option": ["cca.variance=1"]}, "'cca' is not among the measures"),
  ({"option": ["svcca.varance=1"]}, "has no such option, it has variance, did you mean 'variance'"),
  ({"option": ["svcca.variance=much"]}, "--option=svcca.variance=much: must be a number"),
  ({"option": ["svcca.variance=inf"]}, "must be a finite number"),
  ({"option": ["svcca.variance=1.5"]}, "--option=svcca.variance=1.5: .*above 0 and up to 1"),
  ({"option": ["jaccard.k=2.5"]}, "--option=jaccard.k=2.5: must be a whole number"),
  ({"option": ["lincka.unbiased=2"]}, "--option=lincka.unbiased=2: must be True or False"),
  ({"workdir": []}, "--workdir: 0 folders are given"),
  ({"workdir": [RUN, RUN]}, "is given twice"),
  ({"workdir": ["{tmp}/nothing"]}, "nothing' is not the folder of a run"),
  ({"workdir": ["{tmp}/empty"]}, "--workdir=.*empty: it has no finished member"),
  ({"workdir": ["{tmp}/shapes"]}, "members of different data sets: member_0 .digits, 8x8x1, 10"),
  ({"workdir": ["{tmp}/gone"]}, "its member_0 was trained by another run, and 'nowhere/member_0'"),
  ({"members": ["member_7"]}, "--members=member_7: choose among member_0, member_1"),
  ({"taps": ["4"]}, r"--taps=4: member_0 \(tiny_deep\) has taps 0..3"),
  ({"taps": ["-1"]}, "--taps=-1: must be numbers such as 1,3 or the word all"),
  ({"taps": ["all", "1"]}, "--taps=all,1: must be numbers"),
  ({"taps": ["1", "1"]}, "--taps=1,1: a tap is given twice"),
  ({"images": 0}, "--images=0: must be an integer in 1..1697"),
  ({"images": 1698}, "--images=1698: must be an integer in 1..1697"),
  ({"images": 3, "measures": ["lincka"]}, "3 test images are too few: lincka needs at least 4"),
  ({"images": 10, "measures": ["jaccard"]}, "10 test images .*: jaccard needs at least 11"),
  ({"batch_size": 9, "measures": ["jaccard"]}, "--batch_size=9: jaccard needs at least 11 images"),
  ({"batch_size": 0}, "--batch_size=0: must be an integer >= 1"),
  (
    {"images": 8, "measures": ["cca"]},
    r"8 test images x 4 positions are too few for cca of tap 3 "
    r"of member_0 \(16 channels\) and tap 3 of member_0 \(16 channels\): more than 32 samples are "
    "needed, there are 32",
  ),
  ({"images": 4, "measures": ["r2"]}, "too few for r2 of tap 3.*more than 16 .*, there are 16"),
  (
    {"images": 10, "measures": ["r2"], "samples": "pooled"},
    "for r2 of tap 0 of member_0 .4 "
    "channels. and tap 3 of member_0 .16 channels.: more than 16 samples",
  ),
  (
    {"images": 20, "measures": ["pwcca"], "samples": "pooled"},
    "20 test images are too few for "
    r"pwcca of tap 0 of member_0 \(4 channels\) and tap 3 .*than 20 samples",
  ),
  ({"images": 16, "measures": ["procrustes"], "samples": "pooled"}, "16 test images are too few"),
  ({"samples": "channel"}, "--samples='channel': choose one of position, pooled"),
  ({"samples": "pooled", "resize": True}, "--resize: means over space"),
  ({"resize": True, "measures": ["rsa"]}, "--resize: has no effect on rsa"),
  ({"samples": "pooled", "measures": ["rsa"]}, "--samples=pooled: has no effect on rsa"),
  ({"out": "{tmp}/file/there"}, "--out=.*: .*file' is a file, a folder is needed"),
]


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
  """A run of two members of `DEEP`."""
  folder = tmp_path_factory.mktemp("runs") / "run"
  write_json(folder / "config.json", CONFIG)
  variables = tiny.drawn(store.build_model(DEEP, jnp.float32), SHAPE)
  for name in SCALES:
    store.save_member(folder / name, variables, DEEP)
  return folder


@pytest.mark.parametrize("given, message", WRONG, ids=[str(given) for given, _ in WRONG])
def test_what_is_wrong_is_told_in_one_sentence(deep, tmp_path, given, message):
  damaged_runs(tmp_path)
  fill = lambda text: text.replace(RUN, str(deep)).replace("{tmp}", str(tmp_path))  # noqa: E731
  kwargs = {"workdir": [RUN], "measures": ["svcca", "jaccard", "lincka"], "out": "{tmp}/out"}
  kwargs |= given
  kwargs |= {"workdir": [fill(text) for text in kwargs["workdir"]], "out": fill(kwargs["out"])}
  with pytest.raises(UserError, match=message) as raised:
    compare.run(**kwargs)
  assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()


def test_taps_that_cannot_meet(tmp_path):
  """Taps of one number differ in size between these two architectures."""
  folder = tmp_path / "run"
  write_json(folder / "config.json", CONFIG)
  for name, model in (("member_0", "tiny_deep"), ("member_1", "tiny_deeper")):
    facts = FACTS | {"model": model}
    network = store.build_model(facts, jnp.float32)
    store.save_member(folder / name, tiny.drawn(network, SHAPE), facts)
  with pytest.raises(UserError, match="--measures=r2: .* --resize or --samples=pooled makes"):
    compare.run([str(folder)], ["r2"], taps=["2"])
  assert not (folder / "comparison").exists()


def run(workdir, measures, **kwargs):
  kwargs = {"images": N, "batch_size": BATCH} | kwargs
  folder = compare.run([str(workdir)], measures, **kwargs)
  with np.load(folder / "comparison.npz", allow_pickle=False) as archive:
    return {key: archive[key] for key in archive.files}


def test_files_say_the_same_and_are_replaced(workdir, arrays, tmp_path):
  (tmp_path / "heatmap_rsa.png").write_text("of an earlier comparison")
  taps = [2, 0, 1]  # Not sorted: they come in the order that was asked for.
  found = run(
    workdir, ["lincka", "r2"], out=tmp_path, taps=list(map(str, taps)), command="what I typed"
  )
  for key, values in found.items():
    np.testing.assert_allclose(values, arrays[key][np.ix_(taps, taps)], atol=1e-4)
    assert not np.allclose(values, arrays[key], atol=0.02, equal_nan=True)
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    "comparison.csv",
    "comparison.html",
    "comparison.json",
    "comparison.npz",
    "heatmap_lincka.png",
    "heatmap_r2.png",
  ]
  rows = list(csv.DictReader((tmp_path / "comparison.csv").open()))
  assert len(rows) == sum(values.size for values in found.values()) == 9 * (3 + 4)
  for row in rows:
    place = (taps.index(int(row["tap_a"])), taps.index(int(row["tap_b"])))
    value = found[f"{row['measure']}/{row['a']}/{row['b']}"][place]
    assert (row["value"] == "") == np.isnan(value)
    assert row["value"] == "" or float(row["value"]) == pytest.approx(value, rel=1e-6)
  facts = read_json(tmp_path / "comparison.json")
  assert facts["images"] == N and facts["batch_size"] == BATCH
  assert facts["data"] == complete(CONFIG)["data"]
  assert facts["measures"][1]["options"] == {"weighting": "channel"}
  assert [m["samples"] for m in facts["measures"]] == ["example", "position"]
  member = facts["members"][1]
  assert member["folder"] == str(workdir / "member_1") and member["taps"] == taps
  assert member["tap_names"] == ["block 2", "stem", "block 1"]
  assert member["tap_shapes"] == [[4, 4, 8], [8, 8, 4], [8, 8, 4]]
  assert facts["environment"]["jax"] == jax.__version__
  page = (tmp_path / "comparison.html").read_text()
  assert "what I typed" in page and "member_1" in page and page.count("data:image/png") == 2
  assert not re.search(r"https?:|<link|<script|src=\"(?!data:)|href=|@import|url\(", page)


def made_up(folder, labels, count, low=0.0, symmetric=True):
  """A comparison of random values by one measure."""
  rng, arrays = np.random.default_rng(0), {}
  for i, a in enumerate(labels):
    for b in labels[i:] if symmetric else labels:
      arrays[f"rsa/{a}/{b}"] = rng.uniform(low, 1.0, (count, count)).astype(np.float32)
  measure = {
    "name": "rsa",
    "describe": "correlation",
    "options": {"ranks": False},
    "given": [],
    "samples": "example",
    "symmetric": symmetric,
    "low": -1.0,
    "high": 1.0,
  }
  people = [
    {
      "name": n,
      "folder": n,
      "run": "r",
      "model": "resnet34",
      "width_multiplier": 1.0,
      "taps": list(range(count)),
    }
    for n in labels
  ]
  facts = {
    "measures": [measure],
    "members": people,
    "data": {"name": "d"},
    "split": "test",
    "images": 9,
    "batch_size": 3,
    "samples": "position",
    "resize": False,
    "command": "",
    "seconds": 1.0,
    "environment": {},
  }
  np.savez(folder / "comparison.npz", **arrays)
  (folder / "comparison.json").write_text(json.dumps(facts))
  return similarity_page.read_comparison(folder)


def test_the_summary_is_over_equal_taps(tmp_path):
  comparison = made_up(tmp_path, ["a", "b"], 5, symmetric=False)
  rows = similarity_page.summary(comparison)
  assert [(row["a"], row["b"]) for row in rows] == [("a", "b"), ("b", "a")]
  diagonal = comparison.arrays["rsa", "b", "a"].diagonal()
  assert rows[1]["mean"] == pytest.approx(diagonal.mean())
  assert rows[1]["lowest"] == (str(diagonal.argmin()), diagonal.min())
  assert rows[1]["highest"] == (str(diagonal.argmax()), diagonal.max())


def test_one_member_is_summed_up_over_its_different_taps(tmp_path):
  comparison = made_up(tmp_path, ["a"], 3)
  values = comparison.arrays["rsa", "a", "a"]
  np.fill_diagonal(values, np.nan)
  (row,) = similarity_page.summary(comparison)
  assert row["mean"] == pytest.approx(np.nanmean(values))
  assert row["lowest"][0] == "-".join(map(str, divmod(np.nanargmin(values), 3)))


@pytest.mark.parametrize("count, taps, low", [(1, 4, 0.0), (3, 6, -0.2), (6, 34, 0.0)])
def test_heat_maps_and_table_of_any_size(tmp_path, count, taps, low):
  labels = [f"a_run_of_quite_a_long_name:member_{i}" for i in range(count)]
  comparison = made_up(tmp_path, labels, taps, low)
  figure = similarity_page.heat_map(comparison, comparison.facts["measures"][0])
  panels = [ax for ax in figure.axes if ax.images]
  assert len(panels) == count * (count + 1) // 2
  last, values = panels[-2:][0], comparison.arrays["rsa", labels[max(0, count - 2)], labels[-1]]
  np.testing.assert_array_equal(last.images[0].get_array(), values.T)  # x is the first member.
  assert last.images[0].origin == "lower"
  limits = {ax.images[0].get_clim() for ax in panels}
  assert limits == {(-1.0 if low < 0 else 0.0, 1.0)}
  similarity_page.write_page(tmp_path)
  text = io.StringIO()
  similarity_page.print_table(tmp_path, rich.console.Console(file=text, width=120))
  lines = text.getvalue().splitlines()
  assert max(map(len, lines)) <= 80 and "rsa" in text.getvalue()


def parsed(*args):
  values = flags.FlagValues()
  holders = program.define_flags(values)
  values(["compare", *args])
  return program.arguments(holders)


def test_flags_are_the_arguments_of_a_run():
  given = parsed(
    "--workdir=a",
    "--workdir=b",
    "--measures=lincka,svcca",
    "--taps=1,3",
    "--resize",
    "--option=svcca.variance=0.95",
    "--option=jaccard.k=3",
    "--images=7",
  )
  assert given["workdir"] == ["a", "b"] and given["measures"] == ["lincka", "svcca"]
  assert given["taps"] == ["1", "3"] and given["images"] == 7 and given["resize"] is True
  assert given["option"] == ["svcca.variance=0.95", "jaccard.k=3"]
  defaults = compare.run.__kwdefaults__
  plain = parsed("--workdir=a")
  for name in plain.keys() & defaults.keys():
    assert plain[name] == defaults[name] or list(defaults[name]) == plain[name]
  assert plain.keys() | {"command"} == {"workdir", "measures"} | defaults.keys()
  with pytest.raises(UserError, match="--workdir is missing"):
    parsed("--measures=lincka")
