"""The analysis of a pool of models by attack transfer, from files alone."""

import csv
import itertools
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import rich.console
import scipy.special
import scipy.stats
from absl import flags
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score, cohen_kappa_score

from dissim_jax import analyse, command_line
from dissim_jax.errors import UserError
from dissim_jax.render import words
from dissim_jax.studies.pool import (
  analysis,
  categories,
  clusters,
  distillation,
  ensembles,
  importance,
  measures,
  statistics,
)
from dissim_jax.studies.pool import figures as pool_figures
from dissim_jax.studies.pool import page as pool_page
from dissim_jax.studies.pool import record as pool_record
from dissim_jax.studies.pool.settings import Settings

QUICK = {
  "restarts": 5,
  "stages": 25,
  "max_depth": 4,
  "rate": 0.2,
  "repeats": 3,
  "folds": 2,
  "permutations": 99,
  "most_ensembles": 20,
  "accuracy_band": (0.0, 1.0),
}
BASES = ("CNN", "Transformer", "MLP-Mixer")


def make_config(seed=0, rate=0.1, objective="sequential", **blocks):
  return {
    "seed": seed,
    "data": {"name": "digits", "resident_gib": 4.0},
    "command": "x",
    "optimizer": {"name": "sgd", "learning_rate": rate},
    "train": {"epochs": 10, "keep_checkpoints": 2},
    "ensemble": {"size": 2},
    "objective": {"name": objective, "weight": 0.2, "teacher_share": 0.5},
    "dissim": {
      "metric": "expvar",
      "weight": 1.0,
      "options": {"expvar": {"eps": 1e-4}, "lincka": {}},
    },
    **blocks,
  }


def make_member(model="resnet", seed=0, name="", base="CNN", config=None, **facts):
  name = name or f"{model}/seed_{seed}/member_0"
  return {
    "name": name,
    "folder": f"/runs/{name}",
    "run": f"/runs/{name}/..",
    "model": model,
    "width_multiplier": 1.0,
    "stem": 8,
    "patch_size": 0,
    "image_shape": [8, 8, 1],
    "num_classes": 5,
    "objective": "sequential",
    "teachers": [],
    "parameters": 1234,
    "accuracy": 0.5,
    "seed": seed,
    "index": 0,
    "components": {"base": base, "stem": "3x3 conv", "activation": "ReLU", "width": ""},
    "config": make_config(seed) if config is None else config,
    **facts,
  }


def make_arrays(members, similarity=None, images=90, classes=5, seed=0):
  rng, count = np.random.default_rng(seed), len(members)
  labels = rng.integers(0, classes, images)
  logits = rng.normal(size=(count, images, classes)).astype(np.float32)
  logits[:, np.arange(images), labels] += 1.5
  if similarity is None:
    similarity = rng.uniform(-1, 4, (count, count))
    similarity = (similarity + similarity.T) / 2
  correct = logits.argmax(-1) == labels
  return {
    "names": np.array([member["name"] for member in members]),
    "labels": labels,
    "logits": logits,
    "predictions": np.full((count, count, images), -1, np.int16),
    "similarity": np.asarray(similarity, float),
    "counts": (correct[:, None] & correct).sum(-1),
    "fooled": np.full((count, count), 0.5),
  }


def write_pool(folder, members, arrays=None, **facts):
  folder.mkdir(parents=True, exist_ok=True)
  attack = {"name": "pgd", "epsilon": 8 / 255, "iterations": 50}
  (folder / pool_record.FACTS).write_text(
    json.dumps(
      {
        "attack": attack,
        "floor": 0.01,
        "images": 90,
        "data": {"name": "digits"},
        "one_sided": [],
        "environment": {"jax": "0.10.2"},
        "members": members,
        **facts,
      }
    ),
    "utf-8",
  )
  np.savez(folder / pool_record.ARRAYS, **(make_arrays(members) if arrays is None else arrays))
  return folder


def blocks_of(sizes, inside=4.0, outside=0.5, noise=0.2, seed=0):
  """A similarity with planted clusters, and the clusters."""
  rng = np.random.default_rng(seed)
  truth = np.repeat(np.arange(len(sizes)), sizes)
  values = np.where(truth[:, None] == truth, inside, outside)
  values = values + rng.normal(0, noise, values.shape)
  return (values + values.T) / 2, truth


def planted_pool(kinds=6, seeds=2):
  """Models whose similarity depends on their base, and students of two of them."""
  members = [
    make_member(f"net_{a}", s, base=BASES[a % 3]) for a in range(kinds) for s in range(seeds)
  ]
  for member in members:
    member["components"]["stem"] = f"stem {len(member['model']) + int(member['model'][-1]) % 2}"
  teacher = members[0]
  for i, source in enumerate([teacher, members[2], members[4], members[6]]):
    config = make_config(i, objective="distill")
    members.append(
      make_member(
        "net_1",
        i,
        f"student_{i}/member_1",
        base=BASES[1],
        config=config,
        objective="distill",
        teachers=[source["folder"]],
      )
    )
  bases = np.array([BASES.index(member["components"]["base"]) for member in members])
  models = np.array([member["model"] for member in members])
  rng = np.random.default_rng(1)
  similarity = 1.0 + 2.0 * (bases[:, None] == bases) + (models[:, None] == models)
  similarity = similarity + rng.normal(0, 0.05, similarity.shape)
  return members, (similarity + similarity.T) / 2


# Clusters and keywords.


def test_affinity_rules():
  similarity = np.array([[4.6, -2.0, 3.0], [-2.0, 4.6, math.nan], [3.0, math.nan, 4.6]])
  found = clusters.affinity(similarity)
  # Known weights: model 0 has 0 and 3 (mean 1.5), model 1 has 0, model 2 has 3.
  np.testing.assert_allclose(found, [[0, 0, 3], [0, 0, 1.5], [3, 1.5, 0]])
  alone = np.full((3, 3), math.nan)
  alone[0, 1] = alone[1, 0] = 2.0
  np.testing.assert_allclose(clusters.affinity(alone)[2], [2, 2, 0])


def test_planted_clusters_are_found_in_any_order():
  similarity, truth = blocks_of((6, 5, 3))
  found = clusters.spectral_clusters(similarity, 3, restarts=10, seed=0)
  np.testing.assert_array_equal(found, truth)  # larger first
  order = np.random.default_rng(3).permutation(len(truth))
  moved = clusters.spectral_clusters(similarity[np.ix_(order, order)], 3, 10, 0)
  assert adjusted_rand_score(found[order], moved) == 1.0
  missing = similarity.copy()
  missing[0, 8] = missing[8, 0] = math.nan
  assert adjusted_rand_score(truth, clusters.spectral_clusters(missing, 3, 10, 0)) == 1.0


def test_clusters_of_nothing_planted_say_nothing():
  truth = blocks_of((6, 5, 3))[1]
  similarity = blocks_of((6, 5, 3), inside=2.0, outside=2.0)[0]
  assert adjusted_rand_score(truth, clusters.spectral_clusters(similarity, 3, 10, 0)) < 0.5


def test_eigenvectors_against_numpy():
  similarity = blocks_of((6, 5, 3))[0]
  weights = clusters.affinity(similarity)
  degree = weights.sum(1)
  values, vectors = np.linalg.eigh(weights / np.sqrt(degree[:, None] * degree))
  expected = vectors[:, ::-1][:, :3] / np.sqrt(degree)[:, None]
  found = clusters.spectral_features(similarity, 3)
  cosines = np.abs((expected * found).sum(0)) / np.linalg.norm(expected, axis=0)
  np.testing.assert_allclose(cosines / np.linalg.norm(found, axis=0), 1, atol=1e-6)
  assert clusters.spectral_features(similarity[:2, :2], 3).shape == (2, 2)
  assert (found.max(0) >= -found.min(0)).all()


def test_clusters_are_scikit_learn_s():
  rng = np.random.default_rng(2)
  for count, k in ((9, 2), (15, 4)):
    similarity = rng.uniform(0, 3, (count, count)) + blocks_of([count - 6, 6])[0]
    similarity = similarity + similarity.T
    expected = SpectralClustering(k, affinity="precomputed", n_init=100, random_state=0)
    expected = expected.fit_predict(clusters.affinity(similarity))
    assert adjusted_rand_score(expected, clusters.spectral_clusters(similarity, k, 100, 0)) == 1.0


@pytest.mark.parametrize(
  "similarity", [np.zeros((5, 5)), np.full((5, 5), 2.0), np.full((5, 5), math.nan)]
)
def test_similarities_without_structure_do_not_crash(similarity):
  found = clusters.spectral_clusters(similarity, 2, 3, 0)
  assert found.tolist() == [0] * 5  # nothing tells one from another
  assert clusters.spectral_clusters(similarity, 9, 3, 0).tolist() == [0, 1, 2, 3, 4]
  assert clusters.spectral_clusters(similarity, 1, 3, 0).tolist() == [0] * 5


def test_restarts_and_seed_reach_k_means(monkeypatch):
  seen = []
  original = clusters.KMeans

  def spy(*args, **options):
    seen.append(options)
    return original(*args, **options)

  monkeypatch.setattr(clusters, "KMeans", spy)
  clusters.spectral_clusters(blocks_of((3, 3))[0], 2, restarts=7, seed=11)
  assert (seen[0]["n_init"], seen[0]["random_state"]) == (7, 11)


def test_default_number_of_clusters_keeps_the_paper_s_ratio():
  assert [Settings().cluster_count(n) for n in (1, 2, 3, 13, 26, 69)] == [1, 1, 2, 2, 4, 10]
  assert Settings(clusters=5).cluster_count(26) == 5


def test_keywords_by_hand():
  documents = [
    ["a: 1", "b: 1", "c: 1"],
    ["a: 1", "b: 2", "c: 1"],
    ["a: 2", "b: 2", "c: 1"],
    ["a: 2", "b: 1", "c: 1"],
    ["a: 2", "b: 3", "c: 1"],
  ]
  found = clusters.keywords(documents, np.array([0, 0, 1, 1, 1]), 2)
  idf = lambda models: math.log(6 / (1 + models)) + 1  # noqa: E731
  assert [word for word, _ in found[0]] == ["a: 1", "b: 1"]  # b: 2 has the same score
  np.testing.assert_allclose([score for _, score in found[0]], [idf(2), idf(2) / 2])
  assert [word for word, _ in found[1]] == ["a: 2", "b: 3"]
  np.testing.assert_allclose([score for _, score in found[1]], [idf(3), idf(1) / 3])
  assert not any(
    "c: 1" in dict(text) for text in clusters.keywords(documents, np.array([0, 0, 1, 1, 1]), 9)
  )
  assert clusters.words({"self_attention": "no", "width": ""}) == ["self attention: no"]
  assert clusters.keywords([[], []], np.array([0, 1]), 5) == [[], []]


# Components.


def _components(seed=0, models=14):
  rng = np.random.default_rng(seed)
  found = [
    {name: str(rng.integers(0, 3)) for name in ("base", "stem", "kernel")} for _ in range(models)
  ]
  return [{**row, "final": "GAP"} for row in found], np.triu_indices(models, 1)


def test_the_component_that_drives_similarity_comes_first():
  components, (first, second) = _components()
  names, table = importance.differences(components, first, second)
  expected = [
    [float(components[a][name] != components[b][name]) for name in names]
    for a, b in zip(first, second, strict=True)
  ]
  np.testing.assert_array_equal(table, expected)
  rng = np.random.default_rng(1)
  similarity = 3 - 2 * table[:, names.index("stem")] + rng.normal(0, 0.1, len(first))
  settings = Settings(**QUICK)
  kinds = list(range(len(components)))
  found = importance.importance(components, kinds, first, second, similarity, settings)
  assert found.names[int(np.argmax(found.mean))] == "stem" and found.constant == ["final"]
  assert found.mean.max() > 1 and np.sort(found.mean)[-2] < 0.1
  assert found.r2 > 0.95 and found.held_out_r2 > 0.9
  order = rng.permutation(len(first))
  control = importance.importance(components, kinds, first, second, similarity[order], settings)
  assert control.held_out_r2 < 0.1 and control.r2 < 0.5


def test_importance_leaves_out_pairs_without_similarity():
  components, (first, second) = _components()
  similarity = np.random.default_rng(2).normal(size=len(first))
  settings, kinds = Settings(**QUICK), list(range(len(components)))
  missing = similarity.copy()
  missing[::3] = math.nan
  kept = np.isfinite(missing)
  a = importance.importance(components, kinds, first, second, missing, settings)
  b = importance.importance(
    components, kinds, first[kept], second[kept], similarity[kept], settings
  )
  np.testing.assert_array_equal(a.mean, b.mean)
  assert (
    importance.importance([components[0]] * 14, kinds, first, second, similarity, settings) is None
  )


def test_held_out_pairs_are_not_seen(monkeypatch):
  """A component that names the architecture explains every pair it saw, and no other."""
  models = 16
  components = [{"id": str(i // 2), "base": "ab"[i // 8]} for i in range(models)]
  first, second = np.triu_indices(models, 1)
  similarity = np.random.default_rng(0).normal(size=len(first))
  found = importance.importance(
    components, [i // 2 for i in range(models)], first, second, similarity, Settings(**QUICK)
  )
  assert found.held_out_r2 < found.r2
  fitted = []
  original = importance._regressor

  def spy(settings):
    model = original(settings)
    fit = model.fit
    model.fit = lambda table, target: (fitted.append(target), fit(table, target))[1]
    return model

  monkeypatch.setattr(importance, "_regressor", spy)
  importance.importance(
    components, [i // 2 for i in range(models)], first, second, similarity, Settings(**QUICK)
  )
  # Two folds of 4 architectures each: 8 models are left, 28 pairs, beside the fit of all 120.
  assert [len(target) for target in fitted] == [120, 28, 28]


# Statistics.


def test_correlation_and_trend_against_scipy():
  rng = np.random.default_rng(0)
  x = rng.normal(size=40)
  y = -0.5 * x + rng.normal(size=40)
  holes = np.append(x, math.nan), np.append(y, 1.0)
  found = statistics.correlation(*holes)
  expected = scipy.stats.linregress(x, y)
  np.testing.assert_allclose([found.r, found.p], [expected.rvalue, expected.pvalue])
  assert found.count == 40 and found.rho == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
  line = statistics.trend(*holes, 0.9)
  X = np.stack([np.ones(40), x], 1)
  beta, sse = np.linalg.lstsq(X, y, rcond=None)[:2]
  at = np.array([1.0, line.x[17]])
  error = math.sqrt(at @ np.linalg.inv(X.T @ X) @ at * sse[0] / 38)
  assert line.line[17] == pytest.approx(at @ beta)
  assert line.high[17] - line.line[17] == pytest.approx(scipy.stats.t.ppf(0.95, 38) * error)
  for flat in (np.zeros(5), np.full(5, 0.1)):
    assert math.isnan(statistics.correlation(flat, np.arange(5)).r)
    assert statistics.trend(flat, np.arange(5), 0.9) is None
  assert math.isnan(statistics.correlation([1, 2], [1, 2]).r)


def test_mantel_against_all_permutations():
  rng = np.random.default_rng(0)
  a, b = (values + values.T for values in rng.normal(size=(2, 5, 5)))
  a[0, 3] = a[3, 0] = math.nan
  rows, columns = np.triu_indices(5, 1)
  known = np.isfinite(a[rows, columns])
  rows, columns = rows[known], columns[known]
  r = [
    abs(np.corrcoef(a[rows, columns], b[np.ix_(order, order)][rows, columns])[0, 1])
    for order in map(list, itertools.permutations(range(5)))
  ]
  exact = np.mean(np.array(r) >= r[0] - 1e-12)
  assert statistics.mantel(a, b, 4000, 0) == pytest.approx(exact, abs=0.03)
  assert statistics.mantel(a, b, 50, 1) == statistics.mantel(a, b, 50, 1)
  assert math.isnan(statistics.mantel(a, np.ones((5, 5)), 50, 0))


def test_mantel_finds_planted_groups_and_nothing_else():
  similarity, truth = blocks_of((3, 3, 3, 3))
  same = (truth[:, None] == truth).astype(float)
  assert statistics.mantel(similarity, same, 999, 0) == 1 / 1000
  noise = np.random.default_rng(5).normal(size=(12, 12))
  assert statistics.mantel(noise + noise.T, same, 999, 0) > 0.05


# Pairs.


def test_measures_against_loops(tmp_path):
  members = [make_member("a", 0), make_member("a", 1), make_member("b", 0, base="Transformer")]
  arrays = make_arrays(members)
  found = pool_record.read_pool(write_pool(tmp_path, members, arrays))
  pairs = measures.measure_pairs(found)
  labels, logits = arrays["labels"], arrays["logits"].astype(np.float64)
  probs = scipy.special.softmax(logits, -1)
  assert pairs.same_architecture.tolist() == [True, False, False]
  for place, (a, b) in enumerate([(0, 1), (0, 2), (1, 2)]):
    right = [[int(np.argmax(logits[m, n])) == labels[n] for n in range(90)] for m in (a, b)]
    one = sum(x != y for x, y in zip(*right, strict=True)) / 90
    assert pairs.values["error_inconsistency"][place] == pytest.approx(one)
    assert pairs.values["error_consistency"][place] == pytest.approx(cohen_kappa_score(*right))
    errors = [1 - sum(row) / 90 for row in right]
    for rule, values in (("logits", logits), ("probs", probs)):
      joint = [
        int(np.argmax([values[a, n, k] / 2 + values[b, n, k] / 2 for k in range(5)]))
        for n in range(90)
      ]
      error = sum(j != y for j, y in zip(joint, labels, strict=True)) / 90
      rate = 1 - error / (sum(errors) / 2)
      assert pairs.values[f"err_{rule}"][place] == pytest.approx(rate)
      assert pairs.values[f"gain_mean_{rule}"][place] == pytest.approx(sum(errors) / 2 - error)
      assert pairs.values[f"gain_best_{rule}"][place] == pytest.approx(min(errors) - error)


def test_error_reduction_rate_of_models_without_errors():
  assert measures.error_reduction_rate(0.1, [0.2, 0.4]) == pytest.approx(2 / 3)
  assert measures.error_reduction_rate(0.4, [0.2, 0.4]) == pytest.approx(-1 / 3)
  assert math.isnan(measures.error_reduction_rate(0.0, [0.0, 0.0]))
  right = np.ones(4, bool)
  assert math.isnan(measures.error_consistency(right, right))
  assert measures.error_inconsistency(right, ~right) == 1.0


# Ensembles.


@pytest.mark.parametrize("size,k", [(2, 1), (2, 2), (3, 2), (4, 3), (5, 1)])
def test_ensembles_of_exactly_k_clusters(size, k):
  labels = np.array([0, 1, 0, 2, 1, 0, 2, 0, 0])
  wanted = {
    combo
    for combo in itertools.combinations(range(9), size)
    if len({labels[i] for i in combo}) == k
  }
  found = ensembles.draw(labels, size, k, 10_000, 0)
  assert found.total == len(wanted) == len(found.members)
  assert set(map(tuple, found.members.tolist())) == wanted
  few = ensembles.draw(labels, size, k, len(wanted) - 1, 0) if len(wanted) > 1 else found
  assert set(map(tuple, few.members.tolist())) <= wanted and few.total == len(wanted)


def test_sampled_ensembles_are_uniform_and_seeded():
  labels = np.array([0] * 5 + [1] * 2 + [2])
  every = ensembles.draw(labels, 3, 2, 10_000, 0).members
  assert len(every) == 36
  rng_draw = ensembles.draw(np.repeat(labels, 3), 3, 2, 1, 0)
  assert rng_draw.members.shape == (1, 3)
  groups = [np.flatnonzero(labels == c).tolist() for c in range(3)]
  ways, rng = ensembles._Ways([5, 2, 1]), np.random.default_rng(0)
  drawn = [tuple(sorted(ensembles._one(groups, ways, 3, 2, rng))) for _ in range(7200)]
  counts = [drawn.count(tuple(row)) for row in every.tolist()]
  assert sum(counts) == 7200 and scipy.stats.chisquare(counts).pvalue > 1e-3
  one, two, other = (
    ensembles.draw(np.repeat(labels, 3), 4, 2, 9, seed).members for seed in (0, 0, 1)
  )
  assert (one == two).all() and (one != other).any()
  assert ensembles.draw(np.arange(70), 5, 5, 8, 0).total == math.comb(70, 5)


def test_ensemble_measures_against_loops():
  members = [make_member(str(i)) for i in range(5)]
  arrays = make_arrays(members, images=41)
  logits, labels = arrays["logits"].astype(np.float64), arrays["labels"]
  rows = np.array([[0, 1, 2], [1, 3, 4], [0, 2, 4]])
  found = ensembles.measure(rows, logits, labels)
  errors, rates, wrong = [], [], []
  for row in rows:
    alone = [np.mean(logits[i].argmax(-1) != labels) for i in row]
    errors.append(np.mean(sum(logits[i] for i in row).argmax(-1) != labels))
    rates.append(1 - errors[-1] / np.mean(alone))
    wrong.append(np.mean([all(logits[i, n].argmax() != labels[n] for i in row) for n in range(41)]))
  for values, spread in ((errors, found.error), (rates, found.reduction), (wrong, found.all_wrong)):
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.std == pytest.approx(np.std(values, ddof=1)) and spread.count == 3
  assert math.isnan(ensembles.measure(rows[:0], logits, labels).error.mean)


# Categories.


@pytest.mark.parametrize(
  "change,expected",
  [
    ({"seed": 1, "config": make_config(1)}, categories.REINITIALISATION),
    ({"index": 1}, categories.REINITIALISATION),
    ({}, categories.SAME),
    (
      {"config": make_config(0, command="y", evaluate={"batch_size": 1}, transfer={"a": 1})},
      categories.SAME,
    ),
    ({"config": make_config(0, objective="gncl")}, categories.SAME),  # an independent member of it
    ({"objective": "independent"}, categories.SAME),
    ({"config": make_config(0, rate=0.2)}, categories.HYPERPARAMETERS),
    (
      {"seed": 3, "config": make_config(3, train={"epochs": 11, "keep_checkpoints": 2})},
      categories.HYPERPARAMETERS,
    ),
    (
      {"seed": 3, "config": make_config(3, train={"epochs": 10, "keep_checkpoints": 9})},
      categories.REINITIALISATION,
    ),
    ({"objective": "gncl", "config": make_config(0, rate=0.2)}, categories.OBJECTIVE),
    ({"teachers": ["t"], "index": 1}, categories.OBJECTIVE),
    ({"model": "vit", "objective": "gncl"}, categories.ARCHITECTURE),
    ({"patch_size": 4}, categories.ARCHITECTURE),
    ({"width_multiplier": 2.0}, categories.ARCHITECTURE),
    ({"stem": 32}, categories.ARCHITECTURE),
  ],
)
def test_categories(change, expected):
  one, other = make_member(), {**make_member(), **change}
  assert categories.category(one, other) == categories.category(other, one) == expected


def test_category_of_dissimilar_members():
  one = make_member(teachers=["t"], index=1)
  unused = make_config(0)
  unused["dissim"]["options"]["lincka"] = {"unbiased": False}
  other = make_member(teachers=["t"], index=1, config=unused)
  assert categories.category(one, other) == categories.SAME
  used = make_config(0)
  used["dissim"]["options"]["expvar"] = {"eps": 1.0}
  other = make_member(teachers=["t"], index=1, config=used)
  assert categories.category(one, other) == categories.OBJECTIVE
  more = make_member(teachers=["t", "u"], index=1)
  assert categories.category(one, more) == categories.OBJECTIVE


# Distillation.


def test_teachers_are_found_by_their_folder(tmp_path):
  members = [make_member("a", 0), make_member("b", 0), make_member("b", 1)]
  assert distillation.find_teacher("/runs/b/seed_1/member_0", members) == 2
  assert distillation.find_teacher("elsewhere/runs/b/seed_0/member_0", members) == 1
  assert distillation.find_teacher("c/member_0", members) is None
  assert distillation.find_teacher("c/member_0", members[:1]) is None  # of any run
  assert distillation.find_teacher("", members) is None
  assert distillation.find_teacher("x/seed_0/member_0", members) is None  # two of them
  (tmp_path / "real").mkdir()
  (tmp_path / "link").symlink_to(tmp_path / "real")
  members[1]["folder"] = str(tmp_path / "real")
  assert distillation.find_teacher(str(tmp_path / "link"), members) == 1


def test_students_against_their_teachers(tmp_path):
  members, similarity = planted_pool()
  config = make_config(9, objective="distill")
  members.append(
    make_member(
      "net_1", 9, "lost/member_1", config=config, objective="distill", teachers=["/nowhere/at/all"]
    )
  )
  members.append(make_member("net_1", 9, "x/independent_0", base=BASES[1], config=config))
  members.append(make_member("net_1", 9, "x/member_1", base=BASES[1], teachers=["/a/teacher"]))
  similarity = np.pad(similarity, (0, 3), constant_values=0.5)
  found = pool_record.read_pool(write_pool(tmp_path, members, make_arrays(members, similarity)))
  students, lost = distillation.students(found)
  assert lost == ["lost/member_1"] and [s.teacher for s in students] == [0, 2, 4, 6]
  plain = [2, 3, 17]  # net_1's seeds, and the independent member beside a student
  assert students[0].to_undistilled == pytest.approx(np.mean(found.similarity[0, plain]))
  assert students[1].to_undistilled == pytest.approx(np.mean(found.similarity[2, [3, 17]]))
  assert students[2].to_student == found.similarity[4, 14]
  assert [s.same_base for s in students] == [False, True, False, False]
  result = analysis.analyse(found, Settings(**QUICK))
  assert len(result.pool.members) == 14 and "x/independent_0" in result.pool.names
  rows = {which: own for _, which, own, _ in analysis.distillation_correlations(students)}
  expected = scipy.stats.pearsonr(
    [s.to_undistilled for s in students], [s.accuracy for s in students]
  )
  assert rows["all"].r == pytest.approx(expected.statistic)
  assert rows["other base"].count == 3 and math.isnan(rows["same base"].r)
  assert analysis.plain_accuracy(result, students[0].kind) == pytest.approx(
    found.accuracy[plain].mean()
  )


# The page.


def without_pictures(text):
  return re.sub(r"base64,[^\"]*", "", text)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  folder = tmp_path_factory.mktemp("pool")
  members, similarity = planted_pool()
  members[0]["name"] = hostile = "<script>alert('1')</script> & 100 % \"$x_1$\""
  similarity[1, 5] = similarity[5, 1] = math.nan
  write_pool(
    folder,
    members,
    make_arrays(members, similarity),
    one_sided=[[members[3]["name"], members[7]["name"]]],
  )
  return folder, pool_page.write_page(folder, **QUICK), hostile


def test_page_has_every_section_and_escapes_names(written):
  folder, path, _ = written
  assert path == folder / "analysis" / "analysis.html"
  text = path.read_text("utf-8")
  assert "<script" not in text and "&lt;script&gt;" in text
  for title in (
    "Similarity, by cluster",
    "Which component",
    "Same architecture against another",
    "ensemble of two gains",
    "Ensembles from few",
    "What two models differ in",
    "Within an architecture",
    "Distillation",
    "How this was made",
  ):
    assert title in text
  assert {file.stem for file in path.parent.glob("*.png")} == set(pool_page.PICTURES)
  assert not re.search(r"\bnan\b", without_pictures(text), re.I) and "(1 pair)" in text
  text = without_pictures(text)
  assert "http" not in text and str(folder) in text and "/runs/" not in text


def test_page_is_the_same_again(written, tmp_path):
  folder, path, _ = written
  before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
  pool_page.write_page(folder, **QUICK)
  assert before == {file.name: file.read_bytes() for file in path.parent.iterdir()}


def test_numbers_are_those_of_the_pairs(written):
  folder, path, hostile = written
  numbers = json.loads((path.parent / pool_page.NUMBERS).read_text("utf-8"))
  with open(path.parent / pool_page.PAIRS, encoding="utf-8", newline="") as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == numbers["pairs"] == 66 and rows[0]["a"] == hostile
  value = lambda row: float(row["similarity"] or "nan")  # noqa: E731
  for key, same in (("same_architecture", "1"), ("cross_architecture", "0")):
    values = np.array([value(row) for row in rows if row["same_architecture"] == same])
    assert numbers[key]["mean"] == pytest.approx(np.nanmean(values))
    assert numbers[key]["std"] == pytest.approx(np.nanstd(values, ddof=1))
  known = [row for row in rows if row["similarity"]]
  assert len(known) == 65 == numbers["error_reduction"]["logits"]["correlation"]["count"]
  expected = scipy.stats.pearsonr(
    [value(row) for row in known], [float(row["err_logits"]) for row in known]
  )
  found = numbers["error_reduction"]["logits"]["correlation"]
  np.testing.assert_allclose([found["r"], found["p"]], expected)
  assert sum(row["one_sided"] == "1" for row in rows) == 1
  assert numbers["categories"]["reinitialisation"]["pairs"] == 6
  assert numbers["importance"]["names"][int(np.argmax(numbers["importance"]["mean"]))] == "base"
  spreads = {
    (row["architecture"], row["category"]): row["similarity"]
    for row in numbers["within_architectures"]
  }
  assert set(spreads) == {(f"net_{i}", "reinitialisation") for i in range(6)}
  pair = next(
    row
    for row in rows
    if row["a"] == "net_4/seed_0/member_0" and row["b"] == "net_4/seed_1/member_0"
  )
  assert spreads["net_4", "reinitialisation"] == {"mean": value(pair), "std": None, "count": 1}
  assert len(numbers["clusters"]) == 2 and len(numbers["students"]) == 4


def test_members_in_another_order_give_the_same_numbers(written, tmp_path):
  folder, path, _ = written
  facts = json.loads((folder / pool_record.FACTS).read_text("utf-8"))
  with np.load(folder / pool_record.ARRAYS) as archive:
    arrays = dict(archive)
  order = np.random.default_rng(4).permutation(len(arrays["names"]))
  for name in ("names", "logits"):
    arrays[name] = arrays[name][order]
  for name in ("similarity", "counts", "fooled", "predictions"):
    arrays[name] = arrays[name][np.ix_(order, order)]
  facts["members"] = [facts["members"][i] for i in order]
  write_pool(tmp_path, arrays=arrays, **facts)
  one, other = (
    analysis.analyse(pool_record.read_pool(place), Settings(**QUICK))
    for place in (folder, tmp_path)
  )
  assert one.same.mean == pytest.approx(other.same.mean)
  assert one.reduction["logits"].r == pytest.approx(other.reduction["logits"].r)
  groups = [
    {frozenset(np.array(a.pool.names)[a.clusters == c]) for c in set(a.clusters)}
    for a in (one, other)
  ]
  assert groups[0] == groups[1]
  for category in categories.CATEGORIES:
    assert one.within(category).sum() == other.within(category).sum()


@pytest.mark.parametrize(
  "models,similarity",
  [
    (["a", "b"], None),
    (["a", "a", "a"], None),
    (["a"], None),
    (["a", "b", "b", "c"], 2.0),
    (["a", "b", "b", "c"], math.nan),
  ],
)
def test_small_and_flat_pools_say_why_a_section_is_missing(tmp_path, models, similarity):
  members = [make_member(model, seed) for seed, model in enumerate(models)]
  count = len(members)
  values = None if similarity is None else np.full((count, count), similarity)
  console = rich.console.Console(width=80, record=True, file=open(tmp_path / "out", "w"))  # noqa: SIM115
  path = pool_page.write_page(
    write_pool(tmp_path, members, make_arrays(members, values)), console=console, **QUICK
  )
  text = path.read_text("utf-8")
  assert "Not made" in text and not re.search(r"\bnan\b", without_pictures(text), re.I)
  assert max(map(len, console.export_text().splitlines())) <= 80


def test_pool_of_models_without_errors(tmp_path):
  members = [make_member(model, seed) for seed, model in enumerate("abcd")]
  arrays = make_arrays(members)
  arrays["logits"] = np.tile(50 * np.eye(5, dtype=np.float32)[arrays["labels"]], (4, 1, 1))
  path = pool_page.write_page(write_pool(tmp_path, members, arrays), **QUICK)
  assert "6 pairs of which no model errs" in path.read_text("utf-8")


@pytest.mark.usefixtures("undrawn")
def test_models_outside_the_band_are_named(tmp_path):
  members = [make_member(model, seed) for seed, model in enumerate("aabb")]
  folder = write_pool(tmp_path, members)
  accuracy = pool_record.read_pool(folder).accuracy
  low = float(np.sort(accuracy)[1])
  path = pool_page.write_page(folder, **{**QUICK, "accuracy_band": (low, 1.0)})
  name = members[int(np.argmin(accuracy))]["name"]
  text = path.read_text("utf-8")
  assert f"Outside of the band, and left out: 1 model ({name})" in text
  numbers = json.loads((path.parent / pool_page.NUMBERS).read_text("utf-8"))
  assert sum(row["pairs"] for row in numbers["categories"].values()) == 3


def test_names_for_pictures_are_short_and_apart():
  assert pool_figures.labels(["a/seed_0/member_0", "a/seed_1/member_0"]) == ["a/seed_0", "a/seed_1"]
  assert pool_figures.labels(["a", "a/b"]) == ["a", "a/b"]
  assert len(pool_figures.short("x" * 99)) == pool_figures.LONGEST
  assert words.p_value(0.0) == "p ≤ 10⁻³⁰⁰" and words.p_value(1.7e-5) == "p = 1.7·10⁻⁵"
  assert words.p_value(0.01, least=0.01) == "p ≤ 0.010" and "not" in words.p_value(math.nan)


@pytest.mark.parametrize(
  "settings,told",
  [
    ({"clusters": -1}, "clusters=-1: must be a whole number of at least 0"),
    ({"least_samples": 1}, "least_samples=1: must be a whole number of at least 2"),
    ({"rate": 0.0}, "rate=0.0: must be above 0"),
    ({"confidence": 1.0}, "confidence=1.0: must be above 0 and below 1"),
    ({"accuracy_band": (0.9, 0.8)}, "accuracy_band=0.9,0.8: must rise within 0..1"),
    ({"accuracy_band": ("a",)}, "accuracy_band"),
    ({"restarts": 1.5}, "restarts=1.5"),
  ],
)
def test_bad_settings(settings, told):
  with pytest.raises(UserError, match="^" + told.replace("(", r"\(")):
    Settings(**settings)


def _break(folder, how):
  if how == "no json":
    (folder / pool_record.FACTS).unlink()
  elif how == "not json":
    (folder / pool_record.FACTS).write_text("{", "utf-8")
  elif how == "no npz":
    (folder / pool_record.ARRAYS).unlink()
  elif how == "cut npz":
    content = (folder / pool_record.ARRAYS).read_bytes()
    (folder / pool_record.ARRAYS).write_bytes(content[: len(content) // 2])
  else:
    members = [make_member("a", 0), make_member("b", 1)]
    arrays, facts = make_arrays(members), {}
    if how == "names":
      arrays["names"] = arrays["names"][::-1]
    elif how == "asymmetric":
      arrays["similarity"][0, 1] += 1
    elif how == "labels":
      arrays["labels"][0] = 7
    elif how == "no logits":
      del arrays["logits"]
    elif how == "pickled":
      arrays["labels"] = arrays["labels"].astype(object)
    elif how == "no base":
      del members[0]["components"]["base"]
    elif how == "twice":
      members[1]["name"] = members[0]["name"]
    elif how == "one-sided":
      facts = {"one_sided": [["a", "zzz"]]}
    write_pool(folder, members, arrays, **facts)


@pytest.mark.parametrize(
  "how,file",
  [
    ("no json", pool_record.FACTS),
    ("not json", pool_record.FACTS),
    ("no base", pool_record.FACTS),
    ("twice", pool_record.FACTS),
    ("one-sided", pool_record.FACTS),
    ("no npz", pool_record.ARRAYS),
    ("cut npz", pool_record.ARRAYS),
    ("names", pool_record.ARRAYS),
    ("asymmetric", pool_record.ARRAYS),
    ("labels", pool_record.ARRAYS),
    ("no logits", pool_record.ARRAYS),
    ("pickled", pool_record.ARRAYS),
  ],
)
def test_damaged_files_are_named(tmp_path, how, file):
  write_pool(tmp_path, [make_member("a", 0), make_member("b", 1)])
  _break(tmp_path, how)
  with pytest.raises(UserError) as caught:
    pool_page.write_page(tmp_path, **QUICK)
  assert str(caught.value).startswith(str(tmp_path / file)) and "\n" not in str(caught.value)
  assert not (tmp_path / "analysis").exists()


_WITHOUT_JAX = """
import runpy, sys
class Refuse:
  def find_spec(self, name, *rest):
    if name.partition(".")[0] in ("jax", "jaxlib", "flax"):
      raise RuntimeError(f"{name} is imported")
sys.meta_path.insert(0, Refuse())
runpy.run_module("dissim_jax.analyse", run_name="__main__")
"""


def test_command_line(tmp_path, capsys):
  folder = write_pool(tmp_path / "pool", [make_member(m, s) for s, m in enumerate("aabb")])
  given = ["--stages=5", "--restarts=2", "--accuracy_band=0,1", f"--out={tmp_path / 'out'}"]
  done = subprocess.run(
    [sys.executable, "-c", _WITHOUT_JAX, f"--folder={folder}", *given],
    capture_output=True,
    text=True,
    timeout=1200,
    env=os.environ | {"COLUMNS": "80"},
  )
  assert done.returncode == 0, done.stderr
  assert "Models of the same architecture" in done.stdout
  assert (tmp_path / "out" / pool_page.PAGE).exists() and not (folder / "analysis").exists()
  html = (tmp_path / "out" / pool_page.PAGE).read_text("utf-8")
  assert "--stages=5" in html and "--accuracy_band=0.0,1.0" in html
  (folder / pool_record.FACTS).write_text("[]", "utf-8")
  holders = analyse.define_flags(values := flags.FlagValues())
  values(["analyse", f"--folder={folder}"])
  with pytest.raises(SystemExit) as stop:
    command_line.guarded(lambda argv: analyse.main(argv, holders))(["analyse"])
  told = capsys.readouterr().err
  assert stop.value.code == 2 and pool_record.FACTS in told and told.count("\n") == 1
