"""The report shows what the files say, in any shape that a run may have, and loads nothing."""

import copy
import io
import itertools
import json
import math
import os
import re
import struct
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import rich.console

from dissim_jax import command_line, report
from dissim_jax.errors import UserError
from dissim_jax.files.run import RunFiles, read_curves, read_run
from dissim_jax.pages import findings, training
from dissim_jax.pages.run import FIGURE_NAMES, print_table, write_report
from dissim_jax.registry.entry import number
from dissim_jax.registry.metrics import outputs
from dissim_jax.render import style
from dissim_jax.studies.outputs import tables
from dissim_jax.studies.similarity import at_taps
from dissim_jax.studies.similarity import heat_maps as similarity_maps
from dissim_jax.studies.similarity import report as similarity_report

PAIR_KEYS = (
  "error_consistency",
  "cohens_kappa_label",
  "jensen_shannon_divergence",
  "error_disagreement_ratio",
  "error_inconsistency",
  "label_disagreement",
)


def _lincka(rng, rows, columns, dip=None):
  """A smooth map with a bright diagonal and, for a regularised pair, a dark tap."""
  x, y = np.arange(rows)[:, None] / max(rows - 1, 1), np.arange(columns) / max(columns - 1, 1)
  values = 0.9 * np.exp(-(((x - y) / 0.35) ** 2)) + rng.normal(0, 0.02, (rows, columns))
  if dip is not None:
    distance = np.hypot(x - dip / max(rows - 1, 1), y - dip / max(columns - 1, 1))
    values *= 1 - 0.9 * np.exp(-((distance / 0.15) ** 2))
  return values


def _curves(rng, epochs, regularised):
  rows = []
  for epoch in range(1, epochs + 1):
    progress = 1 - math.exp(-3 * epoch / epochs)
    row = {
      "epoch": epoch,
      "step": 2 * epoch,
      "train_cross_entropy": 2.3 * (1 - progress) + 0.02,
      "train_accuracy": 0.1 + 0.85 * progress + rng.normal(0, 0.01),
      "validation_accuracy": 0.1 + 0.8 * progress + rng.normal(0, 0.01),
      "train_similarity": 0.6 - 1.2 * progress if regularised else None,
      "learning_rate": 0.1,
      "images_per_second": 900.0,
      "seconds": 0.1,
    }
    row["train_loss"] = row["train_cross_entropy"] + (row["train_similarity"] or 0.0)
    if regularised:
      row["r2_least_squares"] = 0.6 - 0.5 * progress
    rows.append(row)
  return rows


def make_run(
  workdir,
  *,
  size=2,
  taps=(3,),
  count=7,
  baseline=True,
  model="resnet8",
  weight=1.0,
  epochs=20,
  counts=None,
  dataset="digits",
  seed=0,
):
  """Writes the files of a run; `counts` gives members their own numbers of taps."""
  rng = np.random.default_rng(seed)
  names = [f"member_{i}" for i in range(size)]
  independent = [f"independent_{i}" for i in range(1, size)] if baseline else []
  counts = dict(zip(names + independent, counts or [count] * 99, strict=False))
  members = []
  for name in names + independent:
    teachers = names[: names.index(name)] if name in names and taps else []
    members.append(
      {
        "name": name,
        "model": model,
        "parameters": 77_850 + len(members),
        "taps": ["stem"] + [f"block {i}" for i in range(1, counts[name])],
        "teachers": teachers,
        "accuracy": 0.9 + 0.03 * rng.random(),
        "cross_entropy": 0.31,
        "epochs": epochs,
        "expected_calibration_error": 0.0213,
        "train_seconds": 4.2,
        "reused_from": None,
      }
    )
    _write(
      workdir / name / "metrics.jsonl",
      "".join(json.dumps(row) + "\n" for row in _curves(rng, epochs, bool(teachers))),
    )
  arrays, pairs = {}, []
  order = names + independent
  for a, b in itertools.combinations_with_replacement(order, 2):
    teachers = {m["name"]: m["teachers"] for m in members}
    dip = taps[0] if taps and a != b and (teachers[a] or teachers[b]) else None
    arrays[f"lincka/{a}/{b}"] = _lincka(rng, counts[a], counts[b], dip)
    if a != b:
      matched = np.arange(counts[b]) * (counts[a] - 1) // (counts[b] - 1)
      arrays[f"matched/{a}/{b}"] = matched
      diagonal = arrays[f"lincka/{a}/{b}"][matched, np.arange(counts[b])]
      arrays[f"lincka_position/{a}/{b}"] = np.append(0.8 * diagonal[:-1], np.nan)
      arrays[f"r2/{a}/{b}"], arrays[f"r2/{b}/{a}"] = 0.7 * diagonal, 0.7 * diagonal + 0.05
    if a != b:
      pairs.append(
        {
          "a": a,
          "b": b,
          **{key: rng.random() for key in PAIR_KEYS},
          "r2": arrays[f"r2/{a}/{b}"].tolist(),
        }
      )
  sequences = {"dissimilar": names, **({"baseline": names[:1] + independent} if baseline else {})}
  ensembles = [
    {
      "sequence": sequence,
      "size": n,
      "ensemble_accuracy": 0.93 + 0.02 * rng.random(),
      "ensemble_cross_entropy": 0.25,
      "ensemble_expected_calibration_error": 0.02,
      "member_accuracy": 0.9 + 0.03 * rng.random(),
      **{key: 0.3 + 0.1 * rng.random() for key in PAIR_KEYS},
    }
    for sequence in sequences
    for n in range(2, size + 1)
  ]
  dissim = {
    "metric": "expvar",
    "taps": list(taps),
    "weight": weight if taps else 0.0,
    "projection": "least_squares",
  }
  metrics = {
    "dataset": {
      "name": dataset,
      "num_train": 100,
      "num_validation": 0,
      "num_test": 1397,
      "num_classes": 10,
    },
    "split": "test",
    "seed": seed,
    "dissim": dissim,
    "members": members,
    "sequences": sequences,
    "ensembles": ensembles,
    "pairs": pairs,
    "seconds": 13.1,
    "environment": {"dissim_jax": "0.1.0", "jax": "0.10.2", "device": "cpu", "device_count": 1},
  }
  config = {
    "data": {"name": dataset},
    "model": {"name": model},
    "seed": seed,
    "dissim": {**dissim, "projection": {"name": "least_squares", "inner_steps": 1}},
    "train": {"epochs": epochs, "batch_size": 50},
    "command": "python -m dissim_jax.main --config=configs/digits.py --workdir=runs/d",
  }
  _write(workdir / "config.json", json.dumps(config))
  save_metrics(workdir, metrics)
  np.savez(workdir / "evaluation" / "similarity.npz", **arrays)
  return metrics


def _write(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text, encoding="utf-8")


def save_metrics(workdir, metrics):
  _write(workdir / "evaluation" / "metrics.json", json.dumps(metrics))


def _with_values(key, **values):
  """Results of two sequences that hold only `key`, for the marking of cells."""
  metrics = {
    "sequences": {name: [] for name in values},
    "members": [],
    "dissim": {"metric": "expvar", "taps": [], "weight": 0.0},
    "ensembles": [{"sequence": name, "size": 2, key: value} for name, value in values.items()],
  }
  arrays = {"lincka": {}, "lincka_position": {}, "r2": {}, "matched": {}}
  return RunFiles("", {}, metrics, arrays, {}, {})


def _html(workdir):
  with open(write_report(str(workdir)), encoding="utf-8") as file:
    return file.read()


def _printed(workdir, width=80):
  text = io.StringIO()
  print_table(str(workdir), rich.console.Console(file=text, width=width))
  return text.getvalue()


@pytest.mark.usefixtures("undrawn")
def test_table_values_are_those_of_the_file(tmp_path):
  metrics = make_run(tmp_path, size=3)
  table = tables.output_table(read_run(tmp_path))
  assert table.heads == ["2", "3"]
  for measure, body in zip(outputs(), table.bodies, strict=True):
    assert body.title == measure.title
    for name, row in zip(["baseline", "dissimilar"], body.rows, strict=True):
      for size, cell in zip([2, 3], row.cells, strict=True):
        (source,) = (e for e in metrics["ensembles"] if (e["sequence"], e["size"]) == (name, size))
        value = source[measure.key] * (1 if measure.key == "error_disagreement_ratio" else 100)
        assert cell.text == f"{value:.3f}"
  html = _html(tmp_path)
  for row in metrics["ensembles"]:
    assert f">{100 * row['error_consistency']:.3f}<" in html
  assert f">{100 * metrics['members'][1]['accuracy']:.3f}<" in html and "77,851" in html


@pytest.mark.parametrize(
  "key, ours, other, wins",
  [
    ("ensemble_accuracy", 0.94, 0.93, True),
    ("ensemble_accuracy", 0.92, 0.93, False),
    ("error_consistency", 0.30, 0.40, True),
    ("error_consistency", 0.50, 0.40, False),
    ("error_disagreement_ratio", math.inf, 0.4, True),
    ("jensen_shannon_divergence", 0.1, 0.2, False),
  ],
)
def test_best_is_bold_and_better_than_baseline_underlined(key, ours, other, wins):
  (measure,) = (m for m in outputs() if m.key == key)
  table = tables.output_table(_with_values(key, dissimilar=ours, baseline=other), [measure])
  (base,), (cell,) = (row.cells for row in table.rows)
  assert (cell.best, cell.better) == (wins, wins)
  assert (base.best, base.better) == (not wins, False)


@pytest.mark.parametrize(
  "ours, other",
  [(0.93, 0.93), (0.930000001, 0.93), (math.nan, math.nan), (None, 0.93), (0.93, None)],
)
def test_nothing_is_marked_where_nothing_differs(ours, other):
  results = _with_values("ensemble_accuracy", dissimilar=ours, baseline=other)
  for row in tables.output_table(results).bodies[0].rows:
    assert not any(cell.best or cell.better for cell in row.cells)


def test_best_needs_not_be_better_than_baseline():
  results = _with_values("ensemble_accuracy", baseline=0.93, a=0.94, b=0.95)
  rows = tables.output_table(results).bodies[0].rows
  assert [(row.cells[0].best, row.cells[0].better) for row in rows] == [
    (False, False),
    (False, True),
    (True, True),
  ]


def test_nan_and_infinity_are_shown(tmp_path):
  metrics = make_run(tmp_path)
  metrics["ensembles"][0]["error_disagreement_ratio"] = math.inf
  metrics["ensembles"][0]["error_consistency"] = math.nan
  metrics["members"][0]["cross_entropy"] = math.nan
  save_metrics(tmp_path, metrics)
  assert "Infinity" in (tmp_path / "evaluation" / "metrics.json").read_text()
  html, printed = _html(tmp_path), _printed(tmp_path)
  assert ">∞<" in html and ">–<" in html and "∞" in printed and "–" in printed
  assert not re.search(r">\s*(nan|inf)\s*<", html, re.I) and "nan" not in printed
  assert [number(v) for v in (-math.inf, -0.0001, -0.5)] == ["−∞", "0.000", "−0.500"]


@pytest.mark.usefixtures("undrawn")
def test_html_is_self_contained_and_escapes(tmp_path):
  metrics = make_run(tmp_path, dataset="<script>alert(1)</script>")
  metrics["members"][1]["model"] = "$x^2$<script>"
  save_metrics(tmp_path, metrics)
  html = _html(tmp_path)
  assert "<script" not in html and "&lt;script&gt;alert(1)" in html
  assert not re.search(r"""(src|href|url\(|@import)\s*=?\s*["']?\s*(https?:)?//""", html)
  assert not re.search(r"https?://", html)
  sources = re.findall(r'<img src="([^"]{22})', html)
  assert len(sources) == 4 and set(sources) == {"data:image/png;base64,"}
  assert len(re.findall(r'alt="[^"]{20,}"', html)) == 4
  assert "--config=configs/digits.py" in html and "&#34;inner_steps&#34;: 1" in html


def test_same_files_give_the_same_report(tmp_path):
  make_run(tmp_path)

  def content():
    write_report(str(tmp_path))
    return {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}

  first = content()
  assert set(first) == {"report.html", *(f"{name}.png" for name in FIGURE_NAMES)}
  assert content() == first
  metrics = make_run(tmp_path, seed=1)  # negative control
  assert metrics["seed"] == 1 and content()["lincka_maps.png"] != first["lincka_maps.png"]


def test_sentences_follow_the_numbers(tmp_path):
  metrics = make_run(tmp_path)
  with np.load(tmp_path / "evaluation" / "similarity.npz") as archive:
    arrays = dict(archive)
  arrays["r2/member_0/member_1"][3], arrays["r2/member_0/independent_1"][3] = 0.104, 0.517
  np.savez(tmp_path / "evaluation" / "similarity.npz", **arrays)
  rows = {row["sequence"]: row for row in metrics["ensembles"]}
  for ours, other, words in (
    (0.95, 0.93, "2.00 points more than"),
    (0.93, 0.94, "1.00 points less than"),
    (0.93, 0.93, "as many as"),
  ):
    rows["dissimilar"].update(ensemble_accuracy=ours, error_consistency=1 - ours)
    rows["baseline"].update(ensemble_accuracy=other, error_consistency=1 - other)
    save_metrics(tmp_path, metrics)
    text = " ".join(findings.sentences(read_run(tmp_path)))
    assert words in text
    assert ("coincide less than" in text, "coincide more than" in text) == (
      ours > other,
      ours < other,
    )
  assert "the dissimilar pair's least-squares R² is 0.10; the independent pair's is 0.52" in text
  error = 100 * math.sqrt(0.93 * 0.07 / 1397)
  assert f"is {error:.2f} points" in text
  lines = at_taps.tap_lines(read_run(tmp_path))
  assert re.search(r"independent \(1 pair\) +R² +0.517", lines[1])
  assert re.search(r"dissimilar \(1 pair\) +R² +0.104", lines[2])


def test_similarity_at_taps_averages_pairs_and_taps(tmp_path):
  make_run(tmp_path, size=3, taps=(2, 4))
  results = read_run(tmp_path)
  rows = {row["relation"]: row for row in at_taps.tap_similarity(results)}
  assert {key: row["pairs"] for key, row in rows.items()} == {
    "independent": 3,
    "against": 3,
    "other": 4,
  }
  r2, total = results.arrays["r2"], 0.0
  for a, b in (("member_0", "member_1"), ("member_0", "member_2"), ("member_1", "member_2")):
    total += r2[a, b][2] + r2[a, b][4]
  np.testing.assert_allclose(rows["against"]["r2"], total / 6, rtol=1e-12)
  np.testing.assert_allclose(rows["against"]["r2_reverse"], total / 6 + 0.05, rtol=1e-12)


def test_r2_goes_from_teacher_to_student_whatever_the_order(tmp_path):
  metrics = make_run(tmp_path, baseline=False)
  (forward,) = at_taps.tap_similarity(read_run(tmp_path))
  metrics["members"][0]["teachers"], metrics["members"][1]["teachers"] = ["member_1"], []
  save_metrics(tmp_path, metrics)
  (backward,) = at_taps.tap_similarity(read_run(tmp_path))
  assert forward["r2"] != forward["r2_reverse"]
  assert (backward["r2"], backward["r2_reverse"]) == (forward["r2_reverse"], forward["r2"])
  assert backward["lincka"] == forward["lincka"]


@pytest.mark.parametrize(
  "options, expected",
  [
    ({"baseline": False}, {"training", "lincka_maps", "diagonal", "r2"}),
    ({"size": 1, "baseline": False}, {"training", "lincka_maps"}),
    ({"taps": ()}, {"training", "lincka_maps", "diagonal", "r2"}),
    ({"counts": [5, 9, 7]}, {"training", "lincka_maps", "diagonal", "r2"}),
    (
      {"size": 5, "count": 17, "taps": (8,), "model": "resnet34", "dataset": "cifar10"},
      {"training", "lincka_maps", "diagonal", "r2"},
    ),
  ],
  ids=["no baseline", "one member", "no penalty", "different models", "five members"],
)
def test_every_shape_of_run(tmp_path, options, expected):
  make_run(tmp_path, **options)
  html, printed = _html(tmp_path), _printed(tmp_path)
  pictures = {path.stem for path in (tmp_path / "report").glob("*.png")}
  assert pictures == expected and html.count("<img") == len(expected)
  assert ("What the ensemble gains" in html) == (options.get("size") != 1)
  regularised = options.get("taps") != () and options.get("size") != 1
  assert ("At the regularised tap" in html) == regularised
  assert all(len(line) <= 80 for line in printed.splitlines())


def test_terminal_table_fits_80_columns_unclipped(tmp_path):
  metrics = make_run(tmp_path, size=5, count=34, taps=(1, 3, 20, 32))
  metrics["ensembles"][0]["error_disagreement_ratio"] = math.inf
  save_metrics(tmp_path, metrics)
  printed = _printed(tmp_path)
  assert max(len(line) for line in printed.splitlines()) <= 80 and "…" not in printed
  for row in metrics["ensembles"]:
    for measure in outputs():
      assert measure.text(row[measure.key]) in printed
  narrow = _printed(tmp_path, width=50)
  assert max(len(line) for line in narrow.splitlines()) <= 50 and "…" not in narrow
  assert "EDR" in printed and "EDR" not in narrow and "ens acc" in narrow


def test_outlines_mark_how_a_pair_was_trained(tmp_path):
  make_run(tmp_path, size=3, taps=(3,))
  figure = similarity_maps.lincka_maps(results := read_run(tmp_path))
  marks = {}
  for ax in figure.axes[:-1]:
    a, b = _pair_of(results, ax)
    patches = ax.patches
    marks[a, b] = (
      "none"
      if not patches
      else "dashed"
      if patches[0].get_linestyle() != "-" and patches[0].get_linestyle() != "solid"
      else "solid"
    )
    for patch in patches:
      assert (patch.get_x() + patch.get_width() / 2, patch.get_y() + patch.get_height() / 2) == (
        3,
        3,
      )
  assert len(marks) == 10
  for (a, b), mark in marks.items():
    dissimilar = {"member_1", "member_2"} & {a, b}
    both = {a, b} <= {"member_0", "member_1", "member_2"}
    assert mark == ("solid" if both else "dashed" if dissimilar else "none")


def _pair_of(results, ax):
  """Which pair a panel shows, found by its pixels; tap 0 must be at the lower left."""
  assert ax.images[0].origin == "lower"
  shown = np.asarray(ax.images[0].get_array())
  (pair,) = (
    pair
    for pair, values in results.arrays["lincka"].items()
    if pair[0] != pair[1] and np.array_equal(values.T, shown)
  )
  assert ax.images[0].get_clim() == (0, 1)
  return pair


def test_ticks_are_thinned():
  for count in (7, 17, 34, 101):
    axis = similarity_report.Figure().subplots().xaxis
    similarity_maps._ticks(axis, count, 1.1, "member_0")
    assert 2 <= len(axis.get_ticklocs()) <= 5
  blocks = [similarity_maps.Block("s", tuple(itertools.combinations("abcdefghij", 2)))] * 2
  lines, side = similarity_maps.arrange(blocks)
  assert len(lines) == 2 and similarity_maps.SMALLEST <= side < similarity_maps.LARGEST
  assert similarity_maps.arrange(blocks[:1] * 3)[0] == [blocks[:1]] * 3
  pair = similarity_maps.Block("s", (("a", "b"),))
  assert similarity_maps.arrange([pair] * 3) == ([[pair] * 3], pytest.approx(2.43, abs=0.3))


def test_curves_survive_a_killed_run(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"epoch": 1, "a": 1}\n{"epoch": 2, "a": 2}\n{"epoch": 3, "a"')
  assert read_curves(path) == ([{"epoch": 1, "a": 1}, {"epoch": 2, "a": 2}], 0)
  path.write_text('{"epoch": 1, "a": 1}\n{"epo{"epoch": 2}\n{"epoch": 1, "a": 5}\n')
  assert read_curves(path) == ([{"epoch": 1, "a": 5}], 1)
  assert read_curves(tmp_path / "none.jsonl") == ([], 0)


@pytest.mark.usefixtures("undrawn")
def test_a_reused_member_without_curves(tmp_path):
  metrics = make_run(tmp_path)
  metrics["members"][0]["reused_from"] = "runs/other/member_0"
  save_metrics(tmp_path, metrics)
  os.remove(tmp_path / "member_0" / "metrics.jsonl")
  assert set(read_run(tmp_path).curves) == {"member_1", "independent_1"}
  assert "runs/other/member_0" in _html(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_stale_pictures_are_removed(tmp_path):
  make_run(tmp_path)
  write_report(str(tmp_path))
  assert (tmp_path / "report" / "r2.png").exists()
  make_run(tmp_path, size=1, baseline=False)
  write_report(str(tmp_path))
  assert not (tmp_path / "report" / "r2.png").exists()
  assert not list((tmp_path / "report").glob(".*"))


@pytest.mark.parametrize(
  "name", ["config.json", "evaluation/metrics.json", "evaluation/similarity.npz"]
)
def test_missing_or_damaged_files_are_named(tmp_path, name, capsys):
  make_run(tmp_path)
  for damage in (lambda path: path.write_bytes(b"{ not"), os.remove):
    damage(tmp_path / name)
    with pytest.raises(UserError, match=re.escape(os.path.join(tmp_path, name))):
      write_report(str(tmp_path))
    with pytest.raises(SystemExit, match="^2$"):
      command_line.guarded(lambda argv: report.run(tmp_path))([])
    error = capsys.readouterr().err
    assert "dissim_jax.main" in error and error.count("\n") == 1


def test_metrics_without_a_field_are_named(tmp_path):
  metrics = make_run(tmp_path)
  for key in ("members", "ensembles"):
    broken = copy.deepcopy(metrics)
    del broken[key]
    save_metrics(tmp_path, broken)
    with pytest.raises(UserError, match=key):
      read_run(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_command_line_prints_the_table_and_the_page(tmp_path, capsys):
  make_run(tmp_path)
  report.run(tmp_path)
  printed = capsys.readouterr().out
  assert "baseline" in printed and printed.rstrip().endswith("report.html")


@pytest.mark.parametrize(
  "flags, told",
  [
    ("--workdir=none", "no such directory"),
    ("", "--workdir is missing"),
    ("--wrkdir=a", "workdir"),
  ],
  ids=["wrong", "none", "typo"],
)
def test_program_exits_with_2_and_never_imports_jax(tmp_path, flags, told):
  code = (
    f"import runpy, sys; sys.argv = ['report', *{flags.split()}]\n"
    "try: runpy.run_module('dissim_jax.report', run_name='__main__')\n"
    "finally: print('jax' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-W", "ignore", "-c", code],
    capture_output=True,
    text=True,
    check=False,
    cwd=tmp_path,
  )
  assert done.returncode == 2 and done.stdout.strip() == "False"
  *before, last = done.stderr.splitlines()
  assert told in last and before == ["loading the report …"] * (told == "no such directory")


def test_pictures_have_no_clipped_text(tmp_path):
  make_run(tmp_path, size=3, count=34, taps=(20,))
  results = read_run(tmp_path)
  with matplotlib.rc_context(style.STYLE):
    for figure in (
      training.curves(results),
      similarity_report.diagonal(results),
      similarity_report.least_squares(results),
      similarity_maps.lincka_maps(results),
    ):
      figure.draw_without_rendering()  # Only then everything has its place.
      tight = figure.get_tightbbox()
      width, height = figure.get_size_inches()
      assert tight.x0 > 0 and tight.y0 > 0 and tight.x1 < width and tight.y1 < height
      size = struct.unpack(">II", style.png(figure)[16:24])
      assert size == (int(width * style.DPI), int(height * style.DPI))
