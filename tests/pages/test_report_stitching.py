"""Stitching in the report: what is drawn, tabled and said is what the files hold."""

import io
import json
import re

import matplotlib
import numpy as np
import pytest
import rich.console

from dissim_jax.files.run import read_run
from dissim_jax.pages.run import FIGURE_NAMES, print_table, write_report
from dissim_jax.render import style
from dissim_jax.studies.stitching import figures as stitching_figures
from dissim_jax.studies.stitching import panels
from dissim_jax.studies.stitching import record as stitching_record
from dissim_jax.studies.stitching import report as stitching_report
from dissim_jax.studies.stitching.report import print_stitches
from tests.pages.test_report import make_run

METHODS = ("identity", "least_squares", "linear", "orthogonal", "task_loss")
QUANTITIES = ("relative_accuracy", "accuracy", "cross_entropy", "lincka", "r2", "sparsity")
INDEPENDENT, DISSIMILAR = ("member_0", "independent_1"), ("member_0", "member_1")
STRENGTHS, EPOCHS, STARTS, SHARES = 5, 4, 5, 9


def _matching(rng, count, methods=METHODS):
  return {
    "methods": {name: {key: rng.random(count).tolist() for key in QUANTITIES} for name in methods}
  }


def _epochs(rng, count, names=("lincka", "r2", "cca", "svcca", "cross_entropy")):
  names = ("relative_accuracy", *names)
  return {
    "taps_by_epoch": [{key: rng.random(EPOCHS + 1).tolist() for key in names} for _ in range(count)]
  }


def _rows(rng, count):
  return [{key: rng.random() for key in QUANTITIES} for _ in range(count)]


def _paths(rng, count):
  kept = [tap % (STARTS + 1) for tap in range(count)]
  return {
    "shares": np.linspace(0, 1, SHARES).tolist(),
    "paths_by_tap": [
      {
        "kept": n,
        "tried": STARTS,
        "curves": rng.uniform(0.8, 1.0, (n * (n - 1) // 2, SHARES)).tolist(),
      }
      for n in kept
    ],
  }


MAKE = {
  "matching": _matching,
  "width": lambda rng, count: _matching(rng, count, ("least_squares", "task_loss")),
  "indices": _epochs,
  "low_cka": _epochs,
  "initialisation": lambda rng, count: {
    "starts_by_tap": [
      {start: _rows(rng, STARTS) for start in ("random", "least_squares")} for _ in range(count)
    ]
  },
  "connectivity": _paths,
  "sparsity": lambda rng, count: {
    "by_tap": [
      {name: _rows(rng, STRENGTHS) for name in ("direct", "task_loss")} for _ in range(count)
    ]
  },
  "low_rank": lambda rng, count: {
    "ranks_by_tap": [[4, 8, 16][: 2 + tap % 2] for tap in range(count)],
    "by_tap": [
      {name: _rows(rng, 2 + tap % 2) for name in ("least_squares", "task_loss")}
      for tap in range(count)
    ],
  },
}


def add(workdir, experiment, pair, taps=range(7), *, width=1.0, results=None, seed=0, names=None):
  """Writes the file of one experiment on one pair and returns its results."""
  taps, (source, target) = list(taps), pair
  rng = np.random.default_rng([seed, *f"{experiment}{source}{target}{width}".encode()])
  results = MAKE[experiment](rng, len(taps)) if results is None else results
  suffix = f"-x{width:g}" if experiment == "width" else ""
  path = workdir / "stitching" / experiment / f"{source}-{target}{suffix}.json"
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(
    json.dumps(
      {
        "experiment": experiment,
        "source": source,
        "target": target,
        "width": width,
        "taps": taps,
        "tap_names": names or [f"block {tap}" if tap else "stem" for tap in taps],
        "target_accuracy": 0.93,
        "num_train": 100,
        "num_test": 1397,
        "seed": 0,
        "settings": {
          "epochs": EPOCHS,
          "labels": "soft",
          "start": "least_squares",
          "starts": STARTS,
        },
        "environment": {},
        "results": results,
      }
    )
  )
  if experiment == "sparsity":
    np.savez(
      path.with_suffix(".npz"),
      **{
        f"{name}/{tap}/kernels": rng.normal(size=(STRENGTHS, 6, 9)).astype(np.float32)
        for name in ("direct", "task_loss")
        for tap in taps
      },
    )
  return results


def add_all(workdir, pairs, taps=range(7), **options):
  """Every experiment on every pair, and a network with itself."""
  for experiment in MAKE:
    for pair in [("member_0", "member_0")] if experiment == "low_cka" else pairs:
      for width in (0.5, 1.0, 2.0) if experiment == "width" else (1.0,):
        add(workdir, experiment, pair, taps, width=width, **options)


def pairs_of(workdir):
  """All (source, target) with the first member as source."""
  return [("member_0", name) for name in read_run(workdir).members if name != "member_0"]


def _found(workdir):
  results = read_run(workdir)
  return results, stitching_record.read(results)


def _figure(workdir, experiment):
  """The figure of an experiment, its pairs of axes by title."""
  results, found = _found(workdir)
  draw = {
    "matching": stitching_figures.matching,
    "initialisation": stitching_figures.initialisation,
    **panels.DRAW,
  }
  with matplotlib.rc_context(style.STYLE):
    return draw[experiment](results, found.pairs[experiment])


def _panel(figure, title):
  (ax,) = (ax for ax in figure.axes if title in (ax.get_title(), ax.get_title("left")))
  return ax


def _lines(ax):
  """{colour: y} of the lines with data, regularised taps left out."""
  return {
    line.get_color(): np.asarray(line.get_ydata(), float)
    for line in ax.lines
    if line.get_color() != stitching_figures.style.MARK["color"]
  }


def _styled(ax, look):
  return _lines(ax)[look["color"]]


def _html(workdir):
  with open(write_report(str(workdir)), encoding="utf-8") as file:
    return file.read()


def _printed(call, width=80):
  text = io.StringIO()
  call(rich.console.Console(file=text, width=width))
  return text.getvalue()


LOOK, MEASURE = stitching_figures.style.METHODS, stitching_figures.style.MEASURES


def test_matching_shows_every_method_of_both_kinds(tmp_path):
  make_run(tmp_path)
  made = {pair: add(tmp_path, "matching", pair)["methods"] for pair in (INDEPENDENT, DISSIMILAR)}
  figure = _figure(tmp_path, "matching")
  assert [ax.get_title() for ax in figure.axes[:2]] == [
    "member_0 → independent_1 (independent)",
    "member_0 → member_1 (dissimilar)",
  ]
  for index, pair in enumerate((INDEPENDENT, DISSIMILAR)):
    upper, lower = figure.axes[index], figure.axes[2 + index]
    for method in ("identity", "least_squares", "orthogonal", "task_loss"):
      np.testing.assert_allclose(
        _styled(upper, LOOK[method]), 100 * np.array(made[pair][method]["relative_accuracy"])
      )
    for measure in ("lincka", "r2"):
      np.testing.assert_allclose(
        _styled(lower, MEASURE[measure]), made[pair]["least_squares"][measure]
      )
    for ax in (upper, lower):
      assert not ax.collections  # one pair has no band
      assert [line.get_xdata()[0] for line in ax.lines if len(line.get_ydata()) == 2] == [3]
    assert LOOK["linear"]["color"] not in _lines(upper)


def test_bands_are_the_standard_deviation_over_pairs_of_one_kind(tmp_path):
  make_run(tmp_path, size=4)
  made = {pair: add(tmp_path, "matching", pair)["methods"] for pair in pairs_of(tmp_path)}
  figure = _figure(tmp_path, "matching")
  for index, kind in enumerate(("independent", "member")):
    values = 100 * np.array(
      [
        methods["task_loss"]["relative_accuracy"]
        for (_, target), methods in made.items()
        if target.startswith(kind)
      ]
    )
    assert values.shape == (3, 7) and figure.axes[index].get_title().endswith(", 3 pairs")
    np.testing.assert_allclose(_styled(figure.axes[index], LOOK["task_loss"]), values.mean(0))
    colour = matplotlib.colors.to_rgb(LOOK["task_loss"]["color"])
    (area,) = (
      area
      for area in figure.axes[index].collections
      if np.allclose(area.get_facecolor()[0, :3], colour)
    )
    low, high = values.mean(0) - values.std(0), values.mean(0) + values.std(0)
    edges = area.get_paths()[0].vertices
    for tap in range(7):
      heights = edges[edges[:, 0] == tap, 1]
      np.testing.assert_allclose([heights.min(), heights.max()], [low[tap], high[tap]])


def test_missing_values_do_not_count(tmp_path):
  nan = float("nan")
  band = stitching_record.band([{0: 1.0, 2: nan}, {0: 3.0, 2: 5.0, 4: None}, {}])
  assert band.x.tolist() == [0, 2, 4] and band.count == 2
  np.testing.assert_equal([band.mean, band.std], [[2.0, 5.0, nan], [1.0, 0.0, nan]])
  make_run(tmp_path, size=3)
  for pair in pairs_of(tmp_path):
    results = _matching(np.random.default_rng(0), 7)
    results["methods"]["task_loss"]["relative_accuracy"] = [nan] * 7
    results["methods"]["least_squares"]["r2"][2] = None
    results["methods"]["orthogonal"]["relative_accuracy"][3] = float("inf")
    add(tmp_path, "matching", pair, results=results)
  html = _html(tmp_path)
  assert not re.search(r">\s*(nan|inf)", html, re.I) and "trained on the task" not in html


def test_width_joins_the_files_of_a_pair(tmp_path):
  make_run(tmp_path)
  made = {
    width: add(tmp_path, "width", INDEPENDENT, (2, 3), width=width) for width in (2.0, 0.5, 1.0)
  }
  ax = _panel(_figure(tmp_path, "width"), "tap 3 · block 3 *")
  for method in ("least_squares", "task_loss"):
    np.testing.assert_allclose(
      _styled(ax, LOOK[method]),
      [100 * made[width]["methods"][method]["relative_accuracy"][1] for width in (0.5, 1.0, 2.0)],
    )
  assert [text.get_text() for text in ax.get_xticklabels()] == ["0.5", "1", "2"]


def test_indices_and_low_cka_follow_the_epochs(tmp_path):
  make_run(tmp_path)
  made = add(tmp_path, "indices", DISSIMILAR)["taps_by_epoch"]
  figure = _figure(tmp_path, "indices")
  for tap, name in ((2, "tap 2 · block 2"), (3, "tap 3 · block 3 *")):
    ax = _panel(figure, name)
    for measure in ("lincka", "r2", "cca", "svcca"):
      np.testing.assert_allclose(_styled(ax, MEASURE[measure]), made[tap][measure])
    (other,) = (
      other
      for other in figure.axes
      if other is not ax and other.get_position().bounds == ax.get_position().bounds
    )
    np.testing.assert_allclose(_styled(other, MEASURE["cross_entropy"]), made[tap]["cross_entropy"])
  made = add(tmp_path, "low_cka", ("member_0", "member_0"), (3, 5))["taps_by_epoch"]
  figure = _figure(tmp_path, "low_cka")
  for measure in ("lincka", "relative_accuracy"):
    np.testing.assert_allclose(
      _styled(_panel(figure, "tap 5 · block 5"), MEASURE[measure]), made[1][measure]
    )
  assert "member_0 stitched to itself" in [block.get_suptitle() for block in figure.subfigs]


def test_initialisation_shows_every_solution(tmp_path):
  make_run(tmp_path)
  made = add(tmp_path, "initialisation", DISSIMILAR, (1, 3))["starts_by_tap"]
  (ax,) = _figure(tmp_path, "initialisation").axes
  for index, rows in enumerate(made):
    for side, start in ((-1, "random"), (1, "least_squares")):
      values = [100 * row["relative_accuracy"] for row in rows[start]]
      x = index + side * stitching_figures.STRIP
      points, mean = (line for line in ax.lines if abs(np.mean(line.get_xdata()) - x) < 1e-9)
      np.testing.assert_allclose(points.get_ydata(), values)
      np.testing.assert_allclose(mean.get_ydata(), np.mean(values))


def test_connectivity_counts_kept_solutions(tmp_path):
  make_run(tmp_path)
  made = add(tmp_path, "connectivity", INDEPENDENT, (1, 2, 3, 4))["paths_by_tap"]
  figure = _figure(tmp_path, "connectivity")
  for index, name in enumerate(
    ("tap 1 · block 1", "tap 2 · block 2", "tap 3 · block 3 *", "tap 4 · block 4")
  ):
    ax = _panel(figure, f"{name}\n{index} of {STARTS} solutions kept")
    curves = 100 * np.array(made[index]["curves"])
    assert ("no two solutions kept" in [text.get_text() for text in ax.texts]) == (index < 2)
    if index > 1:
      np.testing.assert_allclose([line[:, 1] for line in ax.collections[0].get_segments()], curves)
      np.testing.assert_allclose(ax.lines[0].get_ydata(), curves.mean(0))


def test_sparsity_and_rank(tmp_path):
  make_run(tmp_path)
  made = add(tmp_path, "sparsity", DISSIMILAR, (2, 3))["by_tap"]
  figure = _figure(tmp_path, "sparsity")
  ax = _panel(figure, "tap 2 · block 2")
  for method in ("direct", "task_loss"):
    (line,) = (line for line in ax.lines if line.get_color() == LOOK[method]["color"])
    for key, data in (("sparsity", line.get_xdata()), ("relative_accuracy", line.get_ydata())):
      np.testing.assert_allclose(data, [100 * row[key] for row in made[0][method]])
  with np.load(tmp_path / "stitching/sparsity/member_0-member_1.npz") as archive:
    wanted = [*archive["direct/3/kernels"], *archive["task_loss/3/kernels"]]
  shown = [ax.images[0].get_array() for ax in figure.axes if ax.images]
  np.testing.assert_allclose(shown, wanted)
  made = add(tmp_path, "low_rank", DISSIMILAR, (2, 3))["by_tap"]
  ax = _panel(_figure(tmp_path, "low_rank"), "tap 3 · block 3 *")
  for method in ("least_squares", "task_loss"):
    np.testing.assert_allclose(
      _styled(ax, LOOK[method]), [100 * row["relative_accuracy"] for row in made[1][method]]
    )
  assert [text.get_text() for text in ax.get_xticklabels()] == ["4", "8", "16"]


def _shares(least_squares, task_loss, count=7):
  results = _matching(np.random.default_rng(0), count, ("least_squares", "task_loss"))
  for name, values in (("least_squares", least_squares), ("task_loss", task_loss)):
    results["methods"][name]["relative_accuracy"] = values
  return results


@pytest.mark.usefixtures("undrawn")
def test_the_finding_follows_the_numbers(tmp_path):
  make_run(tmp_path, taps=(2, 4))
  say = lambda: stitching_report.sentence(*_found(tmp_path))  # noqa: E731
  assert say() == ""
  add(tmp_path, "matching", INDEPENDENT, results=_shares([0, 0, 0.9, 0, 1.0, 0, 0], [0.5] * 7))
  assert say() == (
    "Stitched by least squares at taps 2, 4, member_0 keeps on average 95 % of an "
    "independent member's accuracy; trained on the task, 50 %."
  )
  add(tmp_path, "matching", DISSIMILAR, results=_shares([1, 1, 0.2, 1, 0.4, 1, 1], [0.98] * 7))
  assert say() == (
    "Stitched by least squares at taps 2, 4, member_0 keeps on average 95 % of an "
    "independent member's accuracy and 30 % of a dissimilar one's; trained on the "
    "task, 50 % and 98 %."
  )
  assert say() in _html(tmp_path).replace("&#39;", "'")
  (table,) = stitching_report.matching_tables(*_found(tmp_path))
  assert table.heads == ["least squares", "task loss"] * 2 and len(table.bodies[0].rows) == 7
  shown = [
    [(row.labels[0], [cell.text for cell in row.cells]) for row in body.rows]
    for body in table.bodies
  ]
  assert shown[0][4] == ("4 (block 4) *", ["100.0", "50.0", "40.0", "98.0"])
  assert not any(cell.spread for row in table.rows for cell in row.cells)
  assert shown[1] == [
    ("regularised taps", ["95.0", "50.0", "30.0", "98.0"]),
    ("all taps", ["27.1", "50.0", "80.0", "98.0"]),
  ]


def test_the_finding_without_regularised_taps(tmp_path):
  make_run(tmp_path, taps=())
  add(tmp_path, "matching", INDEPENDENT, (3,), results=_shares([0.52], [0.96], 1))
  assert stitching_report.sentence(*_found(tmp_path)) == (
    "Stitched by least squares at tap 3 (block 3), member_0 keeps 52 % of an independent member's "
    "accuracy; trained on the task, 96 %."
  )
  assert "regularised" not in _printed(lambda c: print_table(str(tmp_path), c))


@pytest.mark.usefixtures("undrawn")
def test_table_of_several_pairs_has_deviations(tmp_path):
  make_run(tmp_path, size=3)
  for pair, share in zip(pairs_of(tmp_path), (0.5, 0.7, 0.2, 0.4), strict=True):
    add(tmp_path, "matching", pair, results=_shares([share] * 7, [1.0] * 7))
  (table,) = stitching_report.matching_tables(*_found(tmp_path))
  assert [title for title, _ in table.groups] == ["independent, 2 pairs", "dissimilar, 2 pairs"]
  assert [(cell.text, cell.spread) for cell in table.rows[0].cells] == [
    ("30.0", "10.0"),
    ("100.0", "0.0"),
    ("60.0", "10.0"),
    ("100.0", "0.0"),
  ]
  assert "30.0<small> ±10.0</small>" in _html(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_the_page_of_a_run_without_stitching_has_no_section(tmp_path):
  make_run(tmp_path)
  html = _html(tmp_path)
  assert "Stitching" not in html and html.count("<img") == len(FIGURE_NAMES)


@pytest.mark.usefixtures("undrawn")
def test_the_page_has_a_figure_for_each_experiment_and_loads_nothing(tmp_path):
  make_run(tmp_path)
  add_all(tmp_path, [DISSIMILAR], (2, 3))
  html = _html(tmp_path)
  names = {f"stitching_{name}" for name in stitching_record.EXPERIMENTS}
  assert {path.stem for path in (tmp_path / "report").glob("stitching_*.png")} == names
  assert html.count("<img") == len(FIGURE_NAMES) + len(names) == html.count("base64,")
  assert not re.search(r"https?://|<script|<link", html)
  captions = re.findall(r"<figcaption>([^<]*Csiszárik et al\. 2021[^<]*)</figcaption>", html)
  for text in captions:
    assert "1,397 test images of digits" in text and "soft labels" in text
    assert "fitted on 100 training images" in text and "4 epochs" in text and "Lines" not in text
  assert [re.search(r"Experiment (\d)|Section 7", text).group(1) for text in captions] == [
    *"1234567",
    None,
  ]
  with matplotlib.rc_context(style.STYLE):  # the same files give the same picture
    again = style.png(_figure(tmp_path, "sparsity"))
  assert again == (tmp_path / "report" / "stitching_sparsity.png").read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_pictures_of_experiments_that_are_gone_are_removed(tmp_path):
  make_run(tmp_path)
  add(tmp_path, "matching", DISSIMILAR)
  write_report(str(tmp_path))
  picture = tmp_path / "report" / "stitching_matching.png"
  assert picture.exists()
  (tmp_path / "stitching/matching/member_0-member_1.json").unlink()
  assert "Stitching" not in _html(tmp_path) and not picture.exists()


def _change(path, **fields):
  path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
  "damage, reason",
  [
    (lambda path: path.write_text("{ torn"), "not valid JSON"),
    (lambda path: path.write_text("[1]"), "not have the form"),
    (lambda path: _change(path, results={}), "lacks the field"),
    (lambda path: _change(path, settings=None), "not have the form"),
    (lambda path: _change(path, target="member_9"), "no member 'member_9'"),
    (lambda path: _change(path, taps=[1], tap_names=["a"]), "not have the form"),
  ],
  ids=["torn", "list", "no results", "no settings", "unknown member", "other taps"],
)
@pytest.mark.parametrize("experiment", stitching_record.EXPERIMENTS)
def test_damaged_files_are_named_and_left_out(tmp_path, experiment, damage, reason):
  make_run(tmp_path)
  add(tmp_path, experiment, INDEPENDENT)
  name = f"member_0-member_1{'-x1' * (experiment == 'width')}.json"
  add(tmp_path, experiment, DISSIMILAR)
  damage(tmp_path / "stitching" / experiment / name)
  _, found = _found(tmp_path)
  assert [pair.target for pair in found.pairs[experiment]] == ["independent_1"]
  (told,) = found.left_out
  assert told.startswith(f"stitching/{experiment}/{name} was left out: ") and reason in told


@pytest.mark.usefixtures("undrawn")
def test_damage_is_told_on_the_page(tmp_path):
  make_run(tmp_path)
  add(tmp_path, "sparsity", DISSIMILAR)
  (tmp_path / "stitching/sparsity/member_0-member_1.npz").write_bytes(b"PK torn")
  add(tmp_path, "matching", DISSIMILAR)
  (tmp_path / "stitching/matching/member_0-member_1.json").write_text("{")
  html = _html(tmp_path)
  assert "stitching/sparsity/member_0-member_1.npz was left out" in html
  assert "stitching/matching/member_0-member_1.json was left out" in html
  assert not any(ax.images for ax in _figure(tmp_path, "sparsity").axes)
  assert {path.stem for path in (tmp_path / "report").glob("stitching_*")} == {"stitching_sparsity"}


def test_some_of_many_taps_are_shown_evenly_with_the_regularised(tmp_path):
  make_run(tmp_path, count=34, taps=(1, 20))
  add(tmp_path, "low_rank", DISSIMILAR, range(34))
  results, found = _found(tmp_path)
  taps = list(panels.shown_taps(results, found.pairs["low_rank"]))
  assert len(taps) == 8 and {1, 20} <= set(taps) and taps == sorted(set(taps))
  assert max(np.diff(taps)) <= 7
  text = stitching_report.caption("low_rank", results, found.pairs["low_rank"])
  assert text.endswith("8 of 34 taps are shown, evenly spaced and the regularised.")


def test_terminal_tables_fit_80_columns(tmp_path):
  make_run(tmp_path, size=4)
  pairs = [*pairs_of(tmp_path), ("member_1", "independent_2")]
  made = {pair: add(tmp_path, "matching", pair)["methods"] for pair in pairs}
  printed = _printed(lambda c: print_table(str(tmp_path), c))
  lines = printed[printed.index("Stitched") :].splitlines()
  assert max(len(line) for line in printed.splitlines()) <= 80 and "…" not in printed
  assert sum(bool(line.strip()) for line in lines) <= 12
  found = stitching_report.matching_tables(*_found(tmp_path))
  shown = [[title for title, _ in table.groups] for table in found]
  assert shown == [
    ["independent, 3 pairs", "dissimilar, 3 pairs"],
    ["member_1 → independent_2 (not trained against each other)"],
  ]
  (row,) = (line for line in lines if "task loss" in line)
  kinds = [
    [(s, t) for s, t in pairs if s == "member_0" and t.startswith(name)]
    for name in ("independent", "member")
  ] + [pairs[-1:]]
  wanted = []
  for kind in kinds:
    values = 100 * np.array([made[pair]["task_loss"]["relative_accuracy"] for pair in kind])
    wanted += [f"{values[:, 3].mean():.1f}", f"{values.mean():.1f}"]
  assert row.split()[2:] == wanted


def test_stitches_are_printed(tmp_path):
  rows = [
    {
      "method": "task_loss",
      "accuracy": 0.98765,
      "relative_accuracy": 1.0,
      "lincka": 0.5,
      "cross_entropy": 12.3456,
      "r2": -0.25,
      "sparsity": 0.126,
      "agreement": 0.1,
    },
    {"method": "least_squares", "accuracy": float("nan"), "relative_accuracy": None},
  ]
  printed = _printed(lambda c: print_stitches("tap 3 (a) to tap 4 [b]", rows, c))
  lines = printed.splitlines()
  assert lines[0] == "tap 3 (a) to tap 4 [b]" and max(map(len, lines)) <= 80
  (row,) = (line for line in lines if "task loss" in line)
  assert row.split() == ["task", "loss", "98.77", "100.00", "12.346", "0.500", "−0.250", "12.6"]
  (row,) = (line for line in lines if "least squares" in line)
  assert row.split() == ["least", "squares"] + ["–"] * 6
  narrow = _printed(lambda c: print_stitches("seam", rows, c), width=40)
  assert max(map(len, narrow.splitlines())) <= 40 and "98.77" in narrow and "…" not in narrow


def test_no_text_is_clipped(tmp_path):
  make_run(tmp_path, size=3, count=17, taps=(1, 3, 8, 13))
  names = [f"a long name of layer {tap}" for tap in range(17)]
  add_all(tmp_path, [INDEPENDENT, DISSIMILAR], range(17), names=names)
  for experiment in stitching_record.EXPERIMENTS:
    figure = _figure(tmp_path, experiment)
    figure.draw_without_rendering()  # Only then everything has its place.
    tight = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert tight.x0 > 0 and tight.y0 > 0 and tight.x1 < width and tight.y1 < height, experiment
