"""The paper's tables and figures show what finished runs have saved, and nothing else."""

import csv
import errno
import io
import itertools
import json
import math
import re
import subprocess
import sys
import zlib
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import rich.console

from dissim_jax.configs import cifar10_expvar
from dissim_jax.errors import UserError
from dissim_jax.files.atomic import write_together
from dissim_jax.pages.sweep import figures, files, heat_maps, layout, lines, page, paper
from dissim_jax.pages.sweep.read import read_collection
from dissim_jax.pages.sweep.rows import BASELINE_KEY, Key, group_runs
from dissim_jax.render import latex, style

KEYS = (
  "ensemble_accuracy",
  "member_accuracy",
  "cohens_kappa_label",
  "jensen_shannon_divergence",
  "error_disagreement_ratio",
  "error_consistency",
)
TABLE_1 = [("expvar", (tap,), 1.0) for tap in (1, 3, 8, 13)]


def write(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text, encoding="utf-8")


def config_of(seed, metric="expvar", taps=(8,), weight=0.0, **fields):
  """A config as JSON gives it; fields with two underscores for a dot."""
  config = cifar10_expvar.get_config()
  config.update_from_flattened_dict(
    {
      "seed": seed,
      "dissim.metric": metric,
      "dissim.taps": taps,
      "dissim.weight": weight,
      **{name.replace("__", "."): value for name, value in fields.items()},
    }
  )
  return json.loads(json.dumps(config.to_dict()))


def _map(rng, count, taps):
  """Noise around a bright diagonal, dark at the regularised taps."""
  x = np.arange(count) / max(count - 1, 1)
  values = 0.9 * np.exp(-(((x[:, None] - x) / 0.4) ** 2)) + rng.normal(0, 0.02, (count, count))
  for tap in set(taps) & set(range(count)):
    distance = np.hypot(x[:, None] - x[tap], x - x[tap])
    values *= 1 - 0.9 * np.exp(-((distance / 0.12) ** 2))
  return values.astype(np.float32)


def make_run(root, name, config, count=17, finished=True):
  """Writes the files of a run that the tables are made of."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  folder, size = root / name, config["ensemble"]["size"]
  weight, taps = config["dissim"]["weight"], config["dissim"]["taps"]
  names = [f"member_{i}" for i in range(size)]
  sequences = {"dissimilar" if weight else "baseline": names}
  if weight and config["ensemble"]["baseline"]:
    sequences["baseline"] = ["member_0", *(f"independent_{i}" for i in range(1, size))]
  every = list(dict.fromkeys(itertools.chain(*sequences.values())))
  teachers = {n: names[: names.index(n)] if weight and n in names else [] for n in every}
  arrays = {
    f"lincka/{a}/{b}": _map(rng, count, taps if a != b and a in teachers[b] else [])
    for j, b in enumerate(every)
    for a in every[: j + 1]
  }
  ensembles = [
    {
      "sequence": sequence,
      "size": n,
      "members": members[:n],
      **{key: float(rng.random()) for key in KEYS},
    }
    for sequence, members in sequences.items()
    for n in range(2, size + 1)
  ]
  metrics = {
    "dataset": {"name": config["data"]["name"], "num_test": 100},
    "split": "test",
    "seed": config["seed"],
    "objective": {"name": "sequential", "weight": 0.2},
    "dissim": {"metric": config["dissim"]["metric"], "taps": taps, "weight": weight},
    "members": [
      {
        "name": n,
        "model": config["model"]["name"],
        "teachers": teachers[n],
        "taps": [f"tap {i}" for i in range(count)],
        "objective": "sequential",
      }
      for n in every
    ],
    "sequences": sequences,
    "ensembles": ensembles,
    "pairs": [],
    "environment": {"jax": "0.10.2", "device": "cpu"},
  }
  write(folder / "config.json", json.dumps({**config, "command": f"run {name}"}))
  write(folder / "evaluation" / "metrics.json", json.dumps(metrics))
  np.savez(folder / "evaluation" / "similarity.npz", **arrays)
  if finished:
    write(folder / "report" / "report.html", "page")


def make_comparison(root, name, runs, labels=None, count=17, finished=True, moved="/elsewhere"):
  """Writes what `dissim_jax.compare` leaves of the first two members of two runs."""
  rng = np.random.default_rng(len(name))
  members = [
    {
      "name": f"{run.replace('/', '_')}:member_{i}",
      "run": f"{moved}/{run}",
      "folder": f"{moved}/x",
      "taps": list(range(count)),
    }
    for run in runs
    for i in (0, 1)
  ]
  arrays = {
    f"lincka/{a['name']}/{b['name']}": _map(rng, count, [])
    for i, a in enumerate(members)
    for b in members[i:]
  }
  facts = {"measures": [{"name": "lincka", "given": []}], "members": members}
  write(root / name / "comparison.json", json.dumps(facts))
  np.savez(root / name / "comparison.npz", **arrays)
  if finished:
    write(root / name / "comparison.html", "page")
  return arrays


def label(metric, taps, weight):
  metric = re.sub(r"[^ -~]|/", "_", metric)
  return f"{metric}_{'_'.join(map(str, taps))}_{weight:g}"


def make_sweep(
  root,
  seeds=5,
  penalties=TABLE_1,
  size=5,
  count=17,
  missing=(),
  across=True,
  plan=True,
  prefix="",
  baseline=True,
  **fields,
):
  """Baselines and a run for each seed and penalty; runs in `missing` are not finished."""
  tasks, common = [], {"ensemble__size": size, **fields}

  def add(name, config):
    tasks.append(
      {"name": name, "kind": "run", "argv": [], "needs": [], "config": config, "trainings": {}}
    )
    if name not in missing:
      make_run(root, name, config, count)

  for seed in range(seeds):
    if baseline:
      add(f"{prefix}seed_{seed}/baseline", config_of(seed, **common))
    for penalty in penalties:
      add(f"{prefix}seed_{seed}/{label(*penalty)}", config_of(seed, *penalty, **common))
  for penalty in penalties if across and seeds > 1 else ():
    name = f"{prefix}across/{label(*penalty)}"
    runs = [f"{prefix}seed_{seed}/{label(*penalty)}" for seed in (0, 1)]
    tasks.append(
      {"name": name, "kind": "comparison", "argv": [], "needs": runs, "config": {}, "trainings": {}}
    )
    if not {name, *runs} & set(missing):
      make_comparison(root, name, runs, count=count)
  if plan:
    old = json.loads((root / "sweep.json").read_text())["tasks"] if prefix else []
    write(root / "sweep.json", json.dumps({"sweep": "made_up", "tasks": old + tasks}))
  return root


PAPER_SUM = 15877.599  # of all printed means, summed from the paper's text
TWO = [("expvar", (1,), 1.0), ("expvar", (3,), 1.0)]


def groups_of(root):
  return group_runs(read_collection(root))[0]


def part_of(group):
  """Everything that is written of a group but its figures."""
  return page.Part(group, layout.make(group), [], page.facts(group), layout.seeds_text(group))


def saved(root, name):
  """{(sequence, size): row} of a run's measurements."""
  metrics = json.loads((root / name / "evaluation" / "metrics.json").read_text())
  return {(row["sequence"], row["size"]): row for row in metrics["ensembles"]}


def change(root, name, sequence, size, **values):
  """Sets measurements of a run."""
  path = root / name / "evaluation" / "metrics.json"
  metrics = json.loads(path.read_text())
  for row in metrics["ensembles"]:
    if (row["sequence"], row["size"]) == (sequence, size):
      row.update(values)
  path.write_text(json.dumps(metrics))


def mean_std(values, key):
  """By loops; in percent but for a ratio."""
  values = [value if key == "error_disagreement_ratio" else 100 * value for value in values]
  mean = math.fsum(values) / len(values)
  if len(values) == 1:
    return mean, math.nan
  return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def expected_cells(root, rows, key, size):
  """{row: (text, spread, best, better)} recomputed; `rows` has (runs, sequence) by row."""
  found = {
    row: mean_std([saved(root, run)[sequence, size][key] for run in runs], key)
    for row, (runs, sequence) in rows.items()
  }
  sign = -1 if key in ("cohens_kappa_label", "error_consistency") else 1
  shown = {row: float(f"{mean:.3f}") for row, (mean, _) in found.items()}
  top = max(sign * value for value in shown.values())
  return {
    row: (
      f"{mean:.3f}",
      "" if math.isnan(std) else f"{std:.3f}",
      sign * shown[row] == top,
      sign * shown[row] > sign * shown[BASELINE_KEY],
    )
    for row, (mean, std) in found.items()
  }


def rows_of(seeds, penalties, missing=()):
  """{row: (names of finished runs, sequence)}."""

  def runs(name):
    return [f"seed_{s}/{name}" for s in range(seeds) if f"seed_{s}/{name}" not in missing]

  return {
    BASELINE_KEY: (runs("baseline"), "baseline"),
    **{Key(*p): (runs(label(*p)), "dissimilar") for p in penalties},
  }


def shown(cell):
  return cell.text, cell.spread, cell.best, cell.better


def test_sequences_table_has_every_cell_of_the_files(tmp_path):
  missing = {"seed_1/expvar_3_1"}
  root = make_sweep(tmp_path, 3, TWO, size=4, count=5, missing=missing)
  (group,) = groups_of(root)
  (grid,) = layout.make(group)
  assert grid.corner == ("Metric", "Layer") and grid.heads == ["2", "3", "4"]
  assert [body.title for body in grid.bodies] == [
    "Ensemble Acc. [%] ↑",
    "Acc_U [%] ↑",
    "κ [%] ↓",
    "JSD [%] ↑",
    "EDR ↑",
    "Error consistency [%] ↓",
  ]
  rows, checked = rows_of(3, TWO, missing), 0
  table = {
    (row["measure"], row["metric"], row["taps"], int(row["n_models"])): row
    for row in csv.DictReader(io.StringIO(files.csv_text([("g", grid)])))
  }
  for key, body in zip(KEYS, grid.bodies, strict=True):
    assert [line.key for line in body.rows] == list(rows)
    for column, size in enumerate((2, 3, 4)):
      expected = expected_cells(root, rows, key, size)
      for line in body.rows:
        cell = line.cells[column]
        assert shown(cell) == expected[line.key] and not cell.paper
        assert cell.mark == (" (2/3)" if line.key.taps == (3,) else "")
        row = table[key, line.key.metric, " ".join(map(str, line.key.taps)), size]
        runs, sequence = rows[line.key]
        mean, std = mean_std([saved(root, run)[sequence, size][key] for run in runs], key)
        assert float(row["mean"]) == pytest.approx(mean, rel=1e-13)
        assert float(row["std"]) == pytest.approx(std, rel=1e-12)
        assert (int(row["seeds"]), int(row["missing"])) == (len(runs), 3 - len(runs))
        assert row["paper_mean"] == row["paper_std"] == ""
        checked += 1
  assert checked == len(table) == 6 * 3 * 3
  assert list(csv.DictReader(io.StringIO(files.csv_text([])))) == []
  assert files.csv_text([]).strip().split(",") == [
    "group",
    "table",
    "measure",
    "unit",
    "metric",
    "taps",
    "weight",
    "projection",
    "n_models",
    "mean",
    "std",
    "seeds",
    "missing",
    "paper_mean",
    "paper_std",
  ]


def test_pairs_have_a_table_for_each_metric(tmp_path):
  penalties = [(m, (t,), w) for m in ("lincka", "expvar") for t in (3, 1) for w in (4.0, 0.25)]
  root = make_sweep(tmp_path, 2, penalties, size=2, count=5)
  (group,) = groups_of(root)
  grids = layout.make(group)
  assert [grid.name for grid in grids] == ["pairs_lincka", "pairs_expvar"]
  assert "Table 3" in grids[0].title and "Table 2" in grids[1].title
  for grid, metric in zip(grids, ("lincka", "expvar"), strict=True):
    rows = rows_of(2, [p for p in penalties if p[0] == metric])
    assert grid.corner == ("Metric", "Layer", "Loss weight")
    assert [head.split(" [")[0].rstrip(" ↑↓") for head in grid.heads] == [
      "Ensemble Acc.",
      "New Model Acc.",
      "Cohen's κ",
      "JSD",
      "EDR",
      "Error consistency",
    ]
    name = {"expvar": "ExpVar", "lincka": "LinCKA"}[metric]
    assert [line.labels for line in grid.rows] == [
      ("Baseline", "–", "–"),
      *((name, tap, weight) for tap in "13" for weight in ("0.25", "4")),
    ]
    for column, key in enumerate(KEYS):
      expected = expected_cells(root, rows, key, 2)
      assert {line.key: shown(line.cells[column]) for line in grid.rows} == expected


def test_marks_are_of_the_printed_digits(tmp_path):
  root = make_sweep(tmp_path, 1, TWO, size=2, count=3)
  names = {
    "baseline": ("baseline", 0.5),
    label(*TWO[0]): ("dissimilar", 0.500001),
    label(*TWO[1]): ("dissimilar", 0.50002),
  }
  for name, (sequence, value) in names.items():
    change(root, f"seed_0/{name}", sequence, 2, ensemble_accuracy=value, cohens_kappa_label=value)
  base, same, more = layout.make(groups_of(root)[0])[0].rows
  accuracy = [line.cells[0] for line in (base, same, more)]
  assert [cell.text for cell in accuracy] == ["50.000", "50.000", "50.002"]
  assert [(cell.best, cell.better) for cell in accuracy] == [(0, 0), (0, 0), (1, 1)]
  assert [(cell.best, cell.better) for cell in (base.cells[2], same.cells[2], more.cells[2])] == [
    (1, 0),
    (1, 0),
    (0, 0),
  ]
  assert {cell.spread for cell in accuracy} == {""}  # one seed


def test_missing_runs_are_gaps_with_a_count(tmp_path):
  gone = {f"seed_{seed}/expvar_3_1" for seed in range(5)} | {"seed_4/baseline", "seed_0/expvar_1_1"}
  root = make_sweep(tmp_path, 5, TWO, size=3, count=3, missing=gone)
  make_run(root, "seed_0/expvar_1_1", config_of(0, *TWO[0], ensemble__size=3), 3, finished=False)
  (group,) = groups_of(root)
  part = part_of(group)
  for body in part.grids[0].bodies:
    base, one, none = body.rows
    assert all(cell.mark == " (4/5)" and "–" not in cell.text for cell in base.cells + one.cells)
    for cell, value in zip(none.cells, none.values, strict=True):
      assert (cell.text, cell.spread, cell.mark, cell.best, cell.better) == (
        "–",
        "",
        " (0/5)",
        False,
        False,
      )
      assert math.isnan(value.spread.mean) and (value.seeds, value.missing) == (0, 5)
  text = files.csv_text([("g", part.grids[0])])
  assert "expvar,3,1.0,,2,,,0,5,," in text
  note = " ".join(page.notes(part))
  assert "Missing: 7 of 15 runs" in note and "seed_4/baseline" in note
  assert "seeds 0, 1, 2, 3; ExpVar, tap 1: seeds 1, 2, 3, 4." in note
  assert [run for run in group.missing] == sorted(gone)


def test_undefined_values_are_left_out_with_a_mark(tmp_path):
  root = make_sweep(tmp_path, 3, TWO[:1], size=2, count=3)
  change(root, "seed_1/expvar_1_1", "dissimilar", 2, error_disagreement_ratio=math.nan)
  for seed in range(3):
    change(root, f"seed_{seed}/baseline", "baseline", 2, jensen_shannon_divergence=None)
  change(root, "seed_2/baseline", "baseline", 2, error_disagreement_ratio=math.inf)
  part = part_of(groups_of(root)[0])
  base, ours = part.grids[0].rows
  mean, std = mean_std(
    [
      saved(root, f"seed_{seed}/expvar_1_1")["dissimilar", 2]["error_disagreement_ratio"]
      for seed in (0, 2)
    ],
    "error_disagreement_ratio",
  )
  assert (ours.cells[4].text, ours.cells[4].spread, ours.cells[4].mark) == (
    f"{mean:.3f}",
    f"{std:.3f}",
    "†",
  )
  assert (base.cells[3].text, base.cells[3].mark) == ("–", "†")
  assert (base.cells[4].text, base.cells[4].spread, base.cells[4].mark) == ("∞", "", "")
  assert any("†" in sentence for sentence in page.notes(part))
  assert "inf" in files.csv_text([("g", part.grids[0])])


@pytest.mark.parametrize(
  "field, value",
  [
    ("train__epochs", 3),
    ("optimizer__learning_rate", 0.2),
    ("data__split_seed", 1),
    ("dissim__options__expvar__eps", 0.5),
    ("dissim__projection__ridge", 0.5),
    ("evaluate__ensemble_rule", "logits"),
    ("model__name", "resnet18"),
    ("dtype", "float32"),
  ],
)
def test_unequal_configs_are_never_averaged(tmp_path, field, value):
  root = make_sweep(tmp_path, 2, TWO[:1], size=2, count=3)
  make_sweep(root, 2, TWO[:1], size=2, count=3, prefix="other/", **{field: value})
  groups = groups_of(root)
  assert len(groups) == 2 and len({group.title for group in groups}) == 2
  for group, prefix in zip(groups, ("", "other/"), strict=True):
    assert group.differing == [field.replace("__", ".")]
    assert [row.key for row in group.rows] == [BASELINE_KEY, Key(*TWO[0])]
    for row in group.rows:
      assert list(row.sources) == [0, 1] and not row.missing
      assert all(run.name.startswith(f"{prefix}seed") for run, _ in row.finished.values())
  assert field in ("model__name",) or f"{field.replace('__', '.')}=" in groups[1].title


def test_what_a_table_varies_does_not_make_a_group(tmp_path):
  root = make_sweep(tmp_path, 2, TWO, size=2, count=5)
  path = root / "seed_1/expvar_1_1/config.json"
  config = json.loads(path.read_text())
  config["ensemble"]["teachers"] = ["/somewhere/else"]
  path.write_text(json.dumps(config))
  assert len(groups_of(root)) == 1


def test_baseline_inside_runs_counts_once_a_seed(tmp_path):
  root = make_sweep(
    tmp_path,
    2,
    TWO,
    size=2,
    count=5,
    baseline=False,
    ensemble__baseline=True,
    missing={"seed_1/expvar_1_1"},
  )
  (group,) = groups_of(root)
  assert group.baseline.missing == 0 and list(group.baseline.finished) == [0, 1]
  names = {seed: run.name for seed, (run, _) in group.baseline.finished.items()}
  assert names == {0: "seed_0/expvar_1_1", 1: "seed_1/expvar_3_1"}
  expected = [saved(root, name)["baseline", 2]["ensemble_accuracy"] for name in names.values()]
  assert group.baseline.values("ensemble_accuracy", 2) == expected
  values = group.baseline.lincka(0, 1)
  with np.load(root / names[1] / "evaluation/similarity.npz") as saved_maps:
    assert np.array_equal(values[1], saved_maps["lincka/member_0/independent_1"])
  assert len(group.missing) == 1 and group.regularised[0].missing == 1


def test_own_collection_without_a_plan(tmp_path):
  root = make_sweep(tmp_path, 2, TWO, size=2, count=5, plan=False)
  make_run(root, "unfinished", config_of(7, ensemble__size=2), 5, finished=False)
  make_run(root, "twice/again", config_of(1, *TWO[0], ensemble__size=2), 5)
  found = read_collection(root)
  assert found.sweep == "" and len(found.runs) == 7 and len(found.comparisons) == 2
  groups, warnings = group_runs(found)
  assert not groups[0].missing
  assert warnings == [
    "run 'twice/again' is left out of the means: 'seed_1/expvar_1_1' has the same config and seed."
  ]
  row = groups[0].regularised[0]
  assert [run.name for run, _ in row.finished.values()] == [
    "seed_0/expvar_1_1",
    "seed_1/expvar_1_1",
  ]
  mixed, apart = heat_maps.other_sequences(row, found.comparisons)
  assert mixed is not None and apart is not None


@pytest.mark.parametrize(
  "file, content",
  [
    ("evaluation/metrics.json", '{"dataset": '),
    ("evaluation/similarity.npz", "PK not a zip"),
    ("evaluation/metrics.json", "[]"),
    ("config.json", "{}"),
    ("evaluation/similarity.npz", None),
    ("evaluation/metrics.json", "wrong types"),
  ],
)
def test_damaged_files_make_a_run_missing(tmp_path, file, content):
  root = make_sweep(tmp_path, 2, TWO[:1], size=2, count=3)
  path = root / "seed_1" / "baseline" / file
  if content is None:
    path.unlink()
  elif content == "wrong types":
    change(root, "seed_1/baseline", "baseline", 2, ensemble_accuracy="high")
  else:
    path.write_text(content)
  found = read_collection(root)
  (warning,) = found.warnings
  assert warning.startswith("run 'seed_1/baseline' counts as missing: ") and file in warning
  assert str(root) not in warning.replace(f"--workdir={root}", "")
  (group,) = group_runs(found)[0]
  assert group.missing == ["seed_1/baseline"] and group.baseline.missing == 1
  console = rich.console.Console(file=io.StringIO(), width=80)
  page.print_tables(root, console)
  assert "counts as missing" in console.file.getvalue()


def test_damaged_comparison_is_told(tmp_path):
  root = make_sweep(tmp_path, 2, TWO, size=2, count=5)
  (root / "across" / label(*TWO[0]) / "comparison.npz").write_bytes(b"PK")
  (root / "across" / label(*TWO[1]) / "comparison.json").write_text("{")
  found = read_collection(root)
  assert found.comparisons == [] and found.planned_comparisons == 2
  assert ["comparison.npz" in w or "comparison.json" in w for w in found.warnings] == [True] * 2


@pytest.fixture(scope="module")
def wald(tmp_path_factory):
  """The sweep of Table 1 at full size: 105 models in 25 runs."""
  return make_sweep(tmp_path_factory.mktemp("wald"))


def test_paper_values_are_those_printed():
  table = {
    "ensemble_accuracy": (96.130, 0.042),
    "member_accuracy": (94.896, 0.302),
    "cohens_kappa_label": (48.377, 1.035),
    "jensen_shannon_divergence": (2.992, 0.106),
    "error_disagreement_ratio": (33.454, 1.368),
  }
  for measure, value in table.items():
    assert paper.SEQUENCES[Key("expvar", (1,), 1.0), measure, 5] == value
  assert paper.SEQUENCES[BASELINE_KEY, "cohens_kappa_label", 2] == (52.045, 0.707)
  assert paper.SEQUENCES[Key("expvar", (13,), 1.0), "ensemble_accuracy", 2] == (95.748, 0.114)
  assert paper.PAIRS[Key("l2corr", (1,), 4.0), "error_disagreement_ratio", 2] == (358.925, 221.863)
  assert paper.PAIRS[Key("lincka", (3,), 0.25), "cohens_kappa_label", 2] == (51.064, None)
  assert paper.PAIRS[Key("lincka", (1,), 0.25), "cohens_kappa_label", 2] == (47.593, 0.933)
  assert paper.PAIRS[Key("expvar", (8,), 4.0), "ensemble_accuracy", 2] == (95.656, 0.188)
  assert (len(paper.SEQUENCES), len(paper.PAIRS)) == (5 * 5 * 4, 3 * 12 * 5)
  total = sum(mean for mean, _ in [*paper.SEQUENCES.values(), *paper.PAIRS.values()])
  assert total == pytest.approx(PAPER_SUM)


def test_paper_values_stand_beside_full_sweeps(wald):
  (group,) = groups_of(wald)
  (grid,) = layout.make(group)
  cells = {
    (body.title, line.key, size): cell
    for body in grid.bodies
    for line in body.rows
    for size, cell in zip((2, 3, 4, 5), line.cells, strict=True)
  }
  assert cells["κ [%] ↓", BASELINE_KEY, 2].paper == "52.045 ±0.707"
  assert cells["Ensemble Acc. [%] ↑", Key("expvar", (8,), 1.0), 5].paper == "96.103 ±0.025"
  without = {title for (title, _, _), cell in cells.items() if not cell.paper}
  assert without == {"Error consistency [%] ↓"}
  assert sum(bool(cell.paper) for cell in cells.values()) == 100
  text = files.csv_text([("g", grid)])
  assert text.count(",5,0,52.045,0.707\n") == 1
  assert cells["EDR ↑", BASELINE_KEY, 2].paper == "0.316 ±0.044"  # They print 31.596 %.
  assert text.count(",5,0,0.31596,0.04426\n") == 1


@pytest.mark.parametrize(
  "seeds, missing, fields, some",
  [
    (5, {"seed_3/expvar_1_1"}, {}, True),
    (4, (), {}, False),
    (5, (), {"train__epochs": 200}, False),
    (5, (), {"model__width_multiplier": 0.5}, False),
    (5, (), {"data__name": "cifar100"}, False),
    (5, (), {"dissim__projection__name": "least_squares"}, False),
    (5, (), {"train__batch_size": 64}, False),
    (5, (), {"optimizer__weight_decay": 1e-4}, False),
  ],
)
def test_paper_values_only_where_comparable(tmp_path, seeds, missing, fields, some):
  penalties = [
    ("expvar", (1,), 1.0),
    ("expvar", (2,), 1.0),
    ("expvar", (1, 3), 1.0),
    ("expvar", (1,), 2.0),
    ("lincka", (1,), 1.0),
  ]
  root = make_sweep(
    tmp_path, seeds, penalties, size=3, count=5, missing=missing, across=False, **fields
  )
  (grid,) = layout.make(groups_of(root)[0])
  keys = {line.key for line in grid.rows for cell in line.cells if cell.paper}
  assert keys == ({BASELINE_KEY} if some else set())


def test_pairs_beside_the_paper(tmp_path):
  penalties = [("lincka", (3,), 0.25), ("l2corr", (1,), 4.0), ("expvar", (8,), 1.0)]
  root = make_sweep(tmp_path, 5, penalties, size=2, count=9, across=False)
  grids = layout.make(groups_of(root)[0])
  found = {line.key: [cell.paper for cell in line.cells] for grid in grids for line in grid.rows}
  assert found[BASELINE_KEY] == [""] * 6
  assert found[Key(*penalties[0])] == [
    "95.536 ±0.194",
    "94.838 ±0.302",
    "51.064",
    "2.740 ±0.084",
    "0.332 ±0.039",
    "",
  ]
  assert found[Key(*penalties[1])][4] == "3.589 ±2.219"


def drawn_panels(figure):
  """[(title, image array, line styles)] of the heat maps of a figure, in the order drawn."""
  return [
    (
      ax.get_title(),
      ax.images[0].get_array(),
      sorted({line.get_linestyle() for line in ax.lines}),
      sorted({float(line.get_xdata()[0]) for line in ax.lines[::2]}),
    )
    for ax in figure.axes
    if ax.images
  ]


def load(root, name, key):
  with np.load(root / name / "evaluation" / "similarity.npz", allow_pickle=False) as archive:
    return archive[key].astype(np.float64)


def test_figure_3_is_the_mean_over_seeds(wald):
  (group,) = groups_of(wald)
  panels = drawn_panels(heat_maps.regularised_pairs(group.baseline, group.regularised))
  names = ["baseline", *(label(*p) for p in TABLE_1)]
  assert [panel[0] for panel in panels] == ["baseline", "tap 1", "tap 3", "tap 8", "tap 13"]
  for (_, values, styles, taps), name in zip(panels, names, strict=True):
    maps = [load(wald, f"seed_{seed}/{name}", "lincka/member_0/member_1") for seed in range(5)]
    np.testing.assert_allclose(values, sum(maps).T / 5, rtol=1e-12)
    assert styles == ([] if name == "baseline" else ["-"])
    assert taps == ([] if name == "baseline" else [float(name.split("_")[1])])


def test_figure_4_is_dashed_across_sequences(wald):
  found = read_collection(wald)
  (group,) = group_runs(found)[0]
  figure = heat_maps.across_sequences(group.baseline, group.regularised, found.comparisons)
  panels = drawn_panels(figure)
  assert len(panels) == 16
  assert [style for _, _, style, _ in panels[:4]] == [[], ["-"], ["--"], ["--"]]
  dashes = [ax.lines[0].is_dashed() for ax in figure.axes if ax.images and ax.lines]
  assert dashes == [False, True, True] * 4
  for row, penalty in enumerate(TABLE_1):
    folder = wald / "across" / label(*penalty)
    with np.load(folder / "comparison.npz", allow_pickle=False) as archive:
      maps = {key: archive[key].astype(np.float64) for key in archive.files}
    a, b = (f"seed_{seed}_{label(*penalty)}:member_" for seed in (0, 1))
    mixed = (maps[f"lincka/{a}0/{b}1"] + maps[f"lincka/{a}1/{b}0"].T) / 2
    np.testing.assert_allclose(panels[4 * row + 2][1], mixed.T, rtol=1e-12)
    np.testing.assert_allclose(panels[4 * row + 3][1], maps[f"lincka/{a}1/{b}1"].T, rtol=1e-12)
    own = [load(wald, f"seed_{s}/{label(*penalty)}", "lincka/member_0/member_1") for s in range(5)]
    np.testing.assert_allclose(panels[4 * row + 1][1], sum(own).T / 5, rtol=1e-12)
    assert panels[4 * row + 2][3] == [float(penalty[1][0])]
  assert heat_maps.compared_seeds(group.regularised[0], found.comparisons) == [0, 1]
  assert heat_maps.across_sequences(group.baseline, group.regularised, []) is None


def test_figure_5_is_one_sequence(wald):
  (group,) = groups_of(wald)
  row = group.regularised[2]
  panels = drawn_panels(heat_maps.sequence(row, 0))
  pairs = [(j, i) for i in range(1, 5) for j in range(i)]
  assert len(panels) == 10 and all(panel[2:] == (["-"], [8.0]) for panel in panels)
  for (j, i), panel in zip(pairs, panels, strict=True):
    expected = load(wald, "seed_0/expvar_8_1", f"lincka/member_{j}/member_{i}")
    np.testing.assert_allclose(panel[1], expected.T)


def test_figure_7_has_lines_bands_and_marks(wald):
  (group,) = groups_of(wald)
  with matplotlib.rc_context(style.STYLE):
    ax = lines.diagonal(group.baseline, group.regularised).axes[0]
  curves, marks = ax.lines[::2], ax.lines[1::2]
  assert [line.get_label() for line in curves] == ["baseline", "tap 1", "tap 3", "tap 8", "tap 13"]
  for line, mark, band, name in zip(
    curves, marks, ax.collections, ["baseline", *(label(*p) for p in TABLE_1)], strict=True
  ):
    values = [np.diag(load(wald, f"seed_{s}/{name}", "lincka/member_0/member_1")) for s in range(5)]
    mean = sum(values) / 5
    std = np.sqrt(sum((value - mean) ** 2 for value in values) / 4)
    np.testing.assert_allclose(line.get_ydata(), mean, rtol=1e-12)
    taps = [] if name == "baseline" else [int(name.split("_")[1])]
    assert list(mark.get_xdata()) == taps
    np.testing.assert_allclose(mark.get_ydata(), mean[taps])
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx((mean - std).min())
    assert corners[:, 1].max() == pytest.approx((mean + std).max())


def test_figure_8_needs_several_taps(tmp_path):
  sets = [("lincka", (1,), 1.0), ("lincka", (1, 3), 1.0), ("lincka", (0, 1, 3), 1.0)]
  root = make_sweep(tmp_path, 2, sets, size=2, count=5, across=False)
  (group,) = groups_of(root)
  drawn = figures.draw_all(group, [])
  names = [figure.picture.name for figure in drawn]
  assert names == ["figure_3_lincka", "figure_7_lincka", "figure_8_lincka"]
  ax = lines.diagonal(group.baseline, group.regularised).axes[0]
  assert [list(line.get_xdata()) for line in ax.lines[1::2]] == [[], [1], [1, 3], [0, 1, 3]]
  only = groups_of(make_sweep(tmp_path / "one", 2, sets[:1], size=2, count=5, across=False))[0]
  assert "figure_8_lincka" not in [figure.picture.name for figure in figures.draw_all(only, [])]


@pytest.mark.usefixtures("undrawn")
def test_figures_of_other_weights_and_taps_are_folded(tmp_path):
  penalties = [("expvar", (tap,), weight) for tap in (1, 2) for weight in (0.25, 1.0)]
  root = make_sweep(tmp_path, 1, penalties, size=3, count=5)
  drawn = figures.draw_all(groups_of(root)[0], [])
  shown_names = [figure.picture.name for figure in drawn if not figure.folded]
  assert shown_names == [
    "figure_3_expvar_lambda_1",
    "figure_5_expvar_lambda_1_tap_2",
    "figure_7_expvar_lambda_1",
  ]
  assert len(drawn) == 2 * 4
  captions = [figure.picture.caption for figure in drawn]
  assert all("seed 0" in caption for caption in captions)


def test_all_files_and_twice_the_same_bytes(tmp_path):
  root = make_sweep(tmp_path, 5, TWO, size=3, count=5)
  path = page.write_tables(root)
  folder = root / "tables"
  assert path == str(folder / "tables.html")
  first = {file.name: file.read_bytes() for file in folder.iterdir()}
  assert sorted(first) == sorted(
    [
      "figure_3_expvar.png",
      "figure_4_expvar.png",
      "figure_5_expvar_tap_1.png",
      "figure_5_expvar_tap_3.png",
      "figure_7_expvar.png",
      "tables.csv",
      "tables.html",
      "tables.tex",
    ]
  )
  (folder / "figure_9_old.png").write_text("stale")
  (folder / "mine.png").write_text("the user's")
  page.write_tables(root)
  again = {file.name: file.read_bytes() for file in folder.iterdir()}
  assert again == {**first, "mine.png": b"the user's"}
  text = first["tables.html"].decode()
  assert not re.search(r'(src|href)="(?!data:)', text) and "paper 95.914 ±0.039" in text
  assert text.count(str(root)) == 1 and str(root) not in first["tables.tex"].decode()
  assert "15 of 15 runs and 2 of 2 comparisons are finished." in text


def test_nothing_is_written_if_not_all_can_be(tmp_path, monkeypatch):
  folder = tmp_path / "out"
  write_together(folder, {"a": b"old a", "b": b"old b"})
  real, calls = Path.write_bytes, []

  def full(path, content):
    calls.append(path)
    if len(calls) == 2:
      real(path, content[:1])
      raise OSError(errno.ENOSPC, "No space left on device")
    real(path, content)

  monkeypatch.setattr(Path, "write_bytes", full)
  with pytest.raises(OSError, match="No space"):
    write_together(folder, {"a": b"new a", "b": b"new b"}, ["a"])
  assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
    "a": b"old a",
    "b": b"old b",
  }


HOSTILE = "a; rm -rf \"x\" 'y' & 50% _$z^2~ #{} <script>alert(1)</script> \\input | `id` é λ 😀"


@pytest.mark.usefixtures("undrawn")
def test_hostile_names_are_text(tmp_path):
  name = HOSTILE.replace("/", "|")
  fields = {"data__name": name, "model__name": "<b>m_1</b>"}
  root = make_sweep(
    tmp_path / "x y;z",
    1,
    [("expvar", (1,), 1.0), ("../<i>&%", (1,), 1.0)],
    size=3,
    count=3,
    missing={f"{name}/seed_0/baseline"},
    across=False,
  )
  make_sweep(
    root,
    1,
    [("expvar", (1,), 1.0)],
    size=2,
    count=3,
    prefix=f"{name}/",
    across=False,
    missing={f"{name}/seed_0/baseline"},
    **fields,
  )
  page.write_tables(root)
  folder = root / "tables"
  text = (folder / "tables.html").read_text("utf-8")
  body = text[text.index("<body>") :]
  assert "<script>" not in body and "<b>m_1" not in body and "<i>&amp;" not in body
  assert "&lt;script&gt;alert(1)" in body and "&lt;b&gt;m_1" in body
  assert "x y;z&#39;" in body  # quoted for a shell
  names = sorted(file.name for file in folder.iterdir())
  assert all(re.fullmatch(r"[A-Za-z0-9_.]+", file) for file in names)
  assert sorted(file.name for file in root.iterdir()) == sorted(
    ["sweep.json", "seed_0", "tables", name.split("/")[0]]
  )
  check_latex((folder / "tables.tex").read_text("utf-8"))
  console = rich.console.Console(file=io.StringIO(), width=80)
  page.print_tables(root, console)
  assert "<script>alert(1)" in console.file.getvalue().replace("\n", "")


def test_letters_that_cannot_be_printed_are_question_marks(tmp_path):
  odd = "\x1b[31mred\n\ud800"
  root = make_sweep(
    tmp_path, 1, [(odd, (1,), 1.0)], size=2, count=3, plan=False, across=False, data__name=odd
  )
  (root / "seed_0").rename(root / "new\x1b[31m\nline")
  page.write_tables(root)
  for name in ("tables.html", "tables.csv", "tables.tex"):
    text = (root / "tables" / name).read_bytes().decode("utf-8")
    assert "\x1b" not in text and "[31mred??" in text
  console = rich.console.Console(file=io.StringIO(), width=80)
  page.print_tables(root, console)
  assert "\x1b" not in console.file.getvalue() and "?[31mred??" in console.file.getvalue()


def check_latex(text):
  """Braces and environments are balanced, rows have their columns, nothing special is bare."""
  plain = re.sub(r"\\[\\{}&%$#_]", "", text)
  depth = 0
  for letter in plain:
    depth += (letter == "{") - (letter == "}")
    assert depth >= 0
  assert depth == 0 and plain.count("$") % 2 == 0
  assert not re.search(r"[%#~^_<>|\"`]", re.sub(r"\$[^$]*\$", "", plain)), plain
  for kind in ("table", "tabular", "document"):
    assert text.count(rf"\begin{{{kind}}}") == text.count(rf"\end{{{kind}}}") > 0
  assert not re.search(r"[^\x00-\u017f]", text)
  for spec, body in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, re.S):
    for line in body.split("\n"):
      if line.endswith(r" \\") and "multicolumn" not in line:
        assert re.sub(r"\\&", "", line).count("&") == len(spec) - 1
  commands = set(re.findall(r"\\([A-Za-z]+)", text))
  assert commands <= {
    "documentclass",
    "usepackage",
    "begin",
    "end",
    "centering",
    "small",
    "caption",
    "toprule",
    "midrule",
    "bottomrule",
    "cmidrule",
    "multicolumn",
    "textbf",
    "underline",
    "textit",
    "pm",
    "kappa",
    "lambda",
    "uparrow",
    "downarrow",
    "infty",
    "textsuperscript",
    "dag",
    "textquotedbl",
    "textquotesingle",
    "textbackslash",
    "textasciitilde",
    "textasciicircum",
    "textless",
    "textgreater",
    "textbar",
    "textasciigrave",
  }


def test_latex_of_the_full_table(wald):
  (group,) = groups_of(wald)
  (grid,) = layout.make(group)
  text = latex.document([(group.title, [grid], ["A 50% note."])])
  check_latex(text)
  best = [cell for line in grid.rows for cell in line.cells if cell.best]
  both = [cell for cell in best if cell.better]
  assert text.count(r"\textbf{") == len(best) == 24 and both
  assert text.count(r"\textbf{\underline{") == len(both)
  assert rf"\textbf{{\underline{{{both[0].text}}}}} $\pm${both[0].spread}" in text
  assert r"\textit{95.580 $\pm$0.189}" in text and r"A 50\% note." in text
  assert r"\multicolumn{4}{c}{Ensemble of N models}" in text


@pytest.mark.parametrize(
  "size, penalties", [(5, TABLE_1), (2, [("l2corr", (1, 3, 8), w) for w in (0.25, 4.0)]), (1, TWO)]
)
def test_terminal_has_80_columns(tmp_path, size, penalties):
  root = make_sweep(
    tmp_path,
    2,
    penalties,
    size=size,
    count=14,
    across=False,
    missing={f"seed_1/{label(*penalties[0])}"},
  )
  for seed in (0, 1):
    name = f"seed_{seed}/{label(*penalties[1])}"
    for n in range(2, size + 1):
      change(root, name, "dissimilar", n, error_disagreement_ratio=358.925 + 221 * seed)
  console = rich.console.Console(file=io.StringIO(), width=80)
  page.print_tables(root, console)
  text = console.file.getvalue()
  assert max(map(len, text.split("\n"))) <= 80
  for grid in layout.make(groups_of(root)[0]):
    for line in grid.rows:
      for cell in line.cells:
        assert f"{cell.text} ±{cell.spread}" in text if cell.spread else cell.text in text
  assert ("(1/2)" in text) == (size > 1)


def test_bad_roots_are_one_sentence(tmp_path):
  with pytest.raises(UserError, match="there is no such folder"):
    page.write_tables(tmp_path / "none")
  empty = tmp_path / "empty"
  empty.mkdir()
  with pytest.raises(UserError, match="no run below it is finished"):
    page.write_tables(empty)
  assert list(empty.iterdir()) == []
  planned = make_sweep(
    tmp_path / "planned",
    1,
    TWO,
    size=2,
    count=3,
    missing={"seed_0/baseline", *(f"seed_0/{label(*p)}" for p in TWO)},
  )
  with pytest.raises(UserError, match="no run below it is finished"):
    page.write_tables(planned)
  assert sorted(path.name for path in planned.iterdir()) == ["sweep.json"]
  for content in (
    "{",
    "[]",
    '{"sweep": "x", "tasks": [{"name": "../up", "kind": "run", "config": {}, "needs": []}]}',
    '{"sweep": "x", "tasks": [{"name": "a", "kind": "run", "config": {}, "needs": []}]}',
  ):
    (planned / "sweep.json").write_text(content)
    with pytest.raises(UserError, match="sweep.json' cannot be read"):
      page.write_tables(planned)
  full = make_sweep(tmp_path / "full", 1, TWO[:1], size=2, count=3)
  (tmp_path / "file").write_text("in the way")
  with pytest.raises(UserError, match="--output=.*cannot be written"):
    page.write_tables(full, tmp_path / "file")


def test_program_needs_no_jax(tmp_path):
  root = make_sweep(tmp_path / "sweep", 1, TWO[:1], size=2, count=3)
  code = (
    "import runpy, sys; sys.argv = ['collect', *sys.argv[1:]]\n"
    "try: runpy.run_module('dissim_jax.collect', run_name='__main__')\n"
    "finally: print('jax' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", code, f"--root={root}", f"--output={tmp_path}/o"],
    capture_output=True,
    text=True,
    timeout=1200,
  )
  assert done.returncode == 0, done.stderr
  assert f"page: {tmp_path}/o/tables.html" in done.stdout
  assert done.stdout.rstrip().endswith("False") and (tmp_path / "o" / "tables.csv").is_file()
  done = subprocess.run(
    [sys.executable, "-m", "dissim_jax.collect", f"--root={tmp_path}/none"],
    capture_output=True,
    text=True,
    timeout=1200,
  )
  assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("error: --root=")
  assert len(done.stderr.splitlines()) == 2 and "Traceback" not in done.stdout
