"""Tables of pairs: projections told apart, similarity at the taps, differences paired by seed."""

import csv
import io
import json

import numpy as np
import pytest
import scipy.stats

from dissim_jax.pages.sweep import files, page, paired
from dissim_jax.pages.sweep.read import read_collection
from dissim_jax.pages.sweep.rows import group_runs
from tests.pages.test_collect import config_of, make_run

LEARNED = {"dissim__projection__name": "learned"}
WAYS = {
  "learned_1": ((5,), LEARNED | {"dissim__projection__inner_steps": 1}),
  "learned_5": ((5,), LEARNED | {"dissim__projection__inner_steps": 5}),
  "closed": ((5,), {"dissim__projection__name": "least_squares"}),
  "closed_taps": ((3, 5), {"dissim__projection__name": "least_squares"}),
}
COUNT = 7  # taps


def make(root, seeds=(0, 1, 2), ways=WAYS, missing=()):
  """An independent pair of every seed and one of every way, with R² at random."""
  rng = np.random.default_rng(0)
  for seed in seeds:
    for name, (taps, fields) in {"independent": ((5,), {}), **ways}.items():
      weight = 0.0 if name == "independent" else 1.0
      common = {"ensemble__size": 2, "ensemble__baseline": False}
      run = f"seed_{seed}/{name}"
      if run in missing:
        continue
      make_run(root, run, config_of(seed, taps=taps, weight=weight, **common, **fields), COUNT)
      path = root / run / "evaluation" / "similarity.npz"
      arrays = dict(np.load(path)) | {"r2/member_0/member_1": rng.random(COUNT, np.float32)}
      arrays["r2/member_1/member_0"] = rng.random(COUNT, np.float32)
      np.savez(path, **arrays)
  return root


def only_group(root):
  (group,) = group_runs(read_collection(root))[0]
  return group


def ensemble(root, run, key):
  rows = json.loads((root / run / "evaluation" / "metrics.json").read_text())["ensembles"]
  return rows[0][key]


def at(root, run, key, taps):
  with np.load(root / run / "evaluation" / "similarity.npz") as arrays:
    values = arrays[f"{key}/member_0/member_1"]
  return np.mean([values[t, t] if values.ndim == 2 else values[t] for t in taps], dtype=float)


def test_projections_are_rows_of_one_table(tmp_path):
  group = only_group(make(tmp_path))
  assert [row.key.projection for row in group.regularised] == [
    "learned",
    "learned, 5 steps",
    "closed form",
    "closed form",
  ]
  table = page.grids_of(group)[0]
  assert table.corner == ("Metric", "Layer", "Projection", "Loss weight")
  assert [line.labels[1:] for line in table.rows] == [
    ("–", "–", "–"),
    ("5", "learned", "1"),
    ("5", "learned, 5 steps", "1"),
    ("5", "closed form", "1"),
    ("3, 5", "closed form", "1"),
  ]
  assert group.regularised[1].key.label == "ExpVar, tap 5, learned, 5 steps"


def test_one_projection_is_not_told(tmp_path):
  group = only_group(make(tmp_path, ways={"closed": WAYS["closed"]}))
  assert not group.has_projections and "Projection" not in page.grids_of(group)[0].corner
  # That of the independent pair, which is never used, is another one.
  assert group.config["dissim.projection.name"] == "least_squares"


def test_similarity_at_the_taps(tmp_path):
  _, table, _ = page.grids_of(only_group(make(tmp_path)))
  assert table.heads == ["R² ↓", "LinCKA ↓"]  # of positions none was measured
  assert [[line.labels[:2] for line in body.rows] for body in table.bodies] == [
    [("Baseline", "5"), *[("ExpVar", "5")] * 3],
    [("Baseline", "3, 5"), ("ExpVar", "3, 5")],
  ]
  lines = [line for body in table.bodies for line in body.rows]
  runs = ["independent", "learned_1", "learned_5", "closed", "independent", "closed_taps"]
  for line, run in zip(lines, runs, strict=True):
    for cell, key in zip(line.cells, ("r2", "lincka"), strict=True):
      values = [at(tmp_path, f"seed_{s}/{run}", key, line.key.taps) for s in range(3)]
      assert cell.text == f"{np.mean(values):.3f}", (run, key)
      assert cell.spread == f"{np.std(values, ddof=1):.3f}"


def test_differences_are_paired_by_seed(tmp_path):
  root = make(tmp_path, missing=("seed_1/closed",))
  *_, table = page.grids_of(only_group(root))
  keys = ("ensemble_accuracy", "error_consistency")
  places = [[measure.key for measure in paired.layout.MEASURES].index(key) for key in keys]
  found = dict(zip(WAYS, table.rows, strict=True))
  for way, line in found.items():
    seeds = (0, 2) if way == "closed" else (0, 1, 2)
    for key, place in zip(keys, places, strict=True):
      differences = [
        ensemble(root, f"seed_{s}/{way}", key) - ensemble(root, f"seed_{s}/independent", key)
        for s in seeds
      ]
      low, high = scipy.stats.t.interval(
        0.95, len(seeds) - 1, np.mean(differences), scipy.stats.sem(differences)
      )
      cell = line.cells[place]
      mean = float(cell.text.replace("−", "-"))
      assert mean == pytest.approx(100 * np.mean(differences), abs=6e-4)
      assert cell.text.startswith(("+", "−"))
      assert float(cell.spread) == pytest.approx(100 * (high - low) / 2, abs=6e-4)
    r2 = [
      at(root, f"seed_{s}/{way}", "r2", line.key.taps)
      - at(root, f"seed_{s}/independent", "r2", line.key.taps)
      for s in seeds
    ]
    assert float(line.cells[-2].text.replace("−", "-")) == pytest.approx(np.mean(r2), abs=6e-4)
  assert [line.values[0].seeds for line in found.values()] == [3, 3, 2, 3]


def test_a_pair_whose_baseline_lacks_the_seed_is_left_out(tmp_path):
  root = make(tmp_path, missing=("seed_2/independent",))
  *_, table = page.grids_of(only_group(root))
  assert [line.values[0].seeds for line in table.rows] == [2, 2, 2, 2]


def test_one_seed_has_no_interval_and_no_baseline_no_table(tmp_path):
  *_, table = page.grids_of(only_group(make(tmp_path / "one", seeds=(0,))))
  assert {cell.spread for line in table.rows for cell in line.cells} == {""}
  missing = [f"seed_{s}/independent" for s in range(3)]
  grids = page.grids_of(only_group(make(tmp_path / "none", missing=missing)))
  assert [grid.name for grid in grids] == ["pairs_expvar"]


def test_every_file_has_the_tables(tmp_path):
  root = make(tmp_path)
  page.write_tables(root)
  rows = list(csv.DictReader(io.StringIO((root / "tables" / "tables.csv").read_text())))
  assert {row["projection"] for row in rows} == {"", "learned", "learned, 5 steps", "closed form"}
  own = [row for row in rows if (row["table"], row["metric"]) == ("taps", "baseline")]
  assert {(row["taps"], row["weight"]) for row in own} == {("5", ""), ("3 5", "")}
  html = (root / "tables" / "tables.html").read_text()
  assert "Less the independent pair of the same seed" in html
  assert "Less the independent pair" in (root / "tables" / "tables.tex").read_text()
  assert files.CSV_HEADS[7] == "projection"


def test_intervals_of_a_mean():
  assert np.isnan(paired.half_interval([1.0])) and paired.half_interval([2.0, 2.0]) == 0
  assert paired.half_interval([0.0, 1.0, np.nan]) == pytest.approx(
    scipy.stats.t.ppf(0.975, 1) * np.std([0, 1], ddof=1) / np.sqrt(2)
  )
