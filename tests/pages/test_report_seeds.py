"""The report of several runs: means and deviations over seeds, and runs that do not belong."""

import io
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import rich.console

from dissim_jax import report
from dissim_jax.errors import UserError
from dissim_jax.files.run import BASELINE
from dissim_jax.pages import seeds, seeds_findings, seeds_means
from dissim_jax.pages.run import write_report
from dissim_jax.pages.seeds import print_seeds, write_seeds
from dissim_jax.registry.metrics import outputs
from tests.pages.test_report import make_run, save_metrics
from tests.pages.test_report_sections import FEW, NAMES, add_robustness, save

SEVERITIES = (1, 2)


def make_seeds(folder, count=3, robust=True, corruptions=FEW, **options):
  """Runs of one experiment that differ in the seed; returns their folders as text."""
  for seed in range(count):
    workdir = folder / f"seed_{seed}"
    make_run(workdir, seed=seed, **{"count": 3, "taps": (1,), **options})
    if not robust:
      continue
    content = add_robustness(workdir, corruptions, SEVERITIES, seed=seed)
    rng = np.random.default_rng(seed)
    for part in (content["clean"], *content["conditions"]):
      for row in part["sequences"].values():
        for key in row:
          row[key] += 0.05 * rng.random()
    save(workdir, "robustness.json", content)
  return [str(folder / f"seed_{seed}") for seed in range(count)]


def _json(workdir, name):
  with open(f"{workdir}/evaluation/{name}", encoding="utf-8") as file:
    return json.load(file)


def _cells(table):
  return {row.labels[0]: row.cells for row in table.rows}


def _text(values, decimals):
  """Mean ± standard deviation of values in percent, by an independent way."""
  mean = sum(values) / len(values)
  std = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
  return f"{100 * mean:.{decimals}f}", f"{100 * std:.{decimals}f}"


def _condition_means(content, sequence, key):
  """{row of the comparison: value} of one run."""
  at = lambda part: part["sequences"][sequence][key]  # noqa: E731
  groups = {"clean": [content["clean"]], "mean of corruptions": content["conditions"]}
  for name in FEW:
    groups[NAMES[name]] = [row for row in content["conditions"] if row["corruption"] == name]
  return {label: np.mean([at(part) for part in parts]) for label, parts in groups.items()}


def test_comparison_is_mean_and_deviation_over_seeds(tmp_path):
  workdirs = make_seeds(tmp_path)
  rows = _cells(seeds.comparison(seeds_means.read_runs(workdirs)))
  contents = [_json(workdir, "robustness.json") for workdir in workdirs]
  keys = ("member_accuracy", "ensemble_accuracy", "error_consistency", "jensen_shannon_divergence")
  places = [(key, name) for key in keys for name in ("baseline", "dissimilar")]
  assert len(rows) == 4
  for place, (key, name) in enumerate(places):
    runs = [_condition_means(content, name, key) for content in contents]
    for label, cells in rows.items():
      assert (cells[place].text, cells[place].spread) == _text([run[label] for run in runs], 2)


def test_clean_table_and_paired_differences(tmp_path):
  workdirs = make_seeds(tmp_path, size=3)
  runs = seeds_means.read_runs(workdirs)
  metrics = [_json(workdir, "metrics.json") for workdir in workdirs]

  def clean(sequence, size, key="ensemble_accuracy"):
    return [
      row[key]
      for run in metrics
      for row in run["ensembles"]
      if (row["sequence"], row["size"]) == (sequence, size)
    ]

  output = seeds.output_table(runs)
  assert output.heads == ["2", "3"] and len(output.bodies) == len(outputs())
  baseline, ours = (row.cells for row in output.bodies[2].rows)
  for column, size in enumerate((2, 3)):
    for cells, name in ((baseline, BASELINE), (ours, "dissimilar")):
      assert (cells[column].text, cells[column].spread) == _text(
        clean(name, size, "error_consistency"), 3
      )
  rows = _cells(seeds.differences_table(runs))
  contents = [_json(workdir, "robustness.json") for workdir in workdirs]
  robust = {
    name: [_condition_means(content, name, "ensemble_accuracy") for content in contents]
    for name in ("baseline", "dissimilar")
  }
  expected = {
    f"clean, ensemble of {n}": (clean("dissimilar", n), clean(BASELINE, n)) for n in (2, 3)
  }
  expected |= {
    label: [[run[label] for run in robust[name]] for name in ("dissimilar", "baseline")]
    for label in (*(NAMES[name] for name in FEW), "mean of corruptions")
  }
  assert list(rows) == list(expected)
  for label, (values, others) in expected.items():
    mean, std = _text([a - b for a, b in zip(values, others, strict=True)], 2)
    (cell,) = rows[label]
    assert (cell.text.replace("−", "-").lstrip("+"), cell.spread) == (mean, std)
    assert cell.better == (float(mean) > 0) == cell.text.startswith("+")
  unpaired = np.hypot(np.std(clean("dissimilar", 3), ddof=1), np.std(clean(BASELINE, 3), ddof=1))
  assert rows["clean, ensemble of 3"][0].spread != f"{100 * unpaired:.2f}"  # negative control


def test_spread_over_runs():
  nan = math.nan
  assert seeds_means.spread([1.0, 3.0]) == (2.0, pytest.approx(math.sqrt(2)), True)
  mean, std, complete = seeds_means.spread([1.0, nan])
  assert mean == 1.0 and math.isnan(std) and not complete
  mean, std, complete = seeds_means.spread([nan, nan])
  assert math.isnan(mean) and math.isnan(std) and not complete
  mean, std, complete = seeds_means.spread([1.0, math.inf])
  assert mean == math.inf and math.isnan(std) and complete


def test_best_is_marked_by_means(tmp_path):
  workdirs = make_seeds(tmp_path, robust=False)
  for index, workdir in enumerate(workdirs):
    metrics = _json(workdir, "metrics.json")
    for row in metrics["ensembles"]:
      row["ensemble_accuracy"] = 0.9 + (row["sequence"] == "dissimilar") * (0.1 - 0.08 * index)
    save_metrics(tmp_path / f"seed_{index}", metrics)  # 10, 2, -6 points better
  outputs_of_seeds = seeds.output_table(seeds_means.read_runs(workdirs))
  (base,), (ours,) = (row.cells for row in outputs_of_seeds.bodies[0].rows)
  assert (ours.best, ours.better, base.best, base.better) == (True, True, False, False)
  assert (ours.text, ours.spread, base.text, base.spread) == ("92.000", "8.000", "90.000", "0.000")
  sentence, count = seeds_findings.sentences(seeds_means.read_runs(workdirs))
  assert "classifies 92.00 ± 8.00 %" in sentence and "2.00 ± 8.00 points more than" in sentence
  assert count == "Means ± standard deviations (n − 1) over 3 seeds."


def test_errors_have_a_band(tmp_path):
  workdirs = make_seeds(tmp_path)
  runs = seeds_means.read_runs(workdirs)
  curves = seeds.error_curves(runs)
  contents = [_json(workdir, "robustness.json") for workdir in workdirs]
  values = np.array(
    [
      [
        content["clean"]["sequences"]["dissimilar"]["ensemble_accuracy"],
        *(
          part["sequences"]["dissimilar"]["ensemble_accuracy"]
          for part in content["conditions"]
          if part["corruption"] == "fog"
        ),
      ]
      for content in contents
    ]
  )
  x, mean, std = curves["fog", "dissimilar"]
  np.testing.assert_allclose(x, [0, *SEVERITIES])
  np.testing.assert_allclose(mean, 100 * (1 - values.mean(0)))
  np.testing.assert_allclose(std, 100 * values.std(0, ddof=1))


def test_page_is_self_contained_deterministic_and_says_what_was_run(tmp_path):
  workdirs = make_seeds(tmp_path)
  page = write_seeds(workdirs)
  assert page == str(tmp_path / "report" / "report.html")
  folder = tmp_path / "report"
  first = {path.name: path.read_bytes() for path in folder.iterdir()}
  assert set(first) == {"report.html", "seeds_errors.png"}
  html = first["report.html"].decode()
  assert html.count("<img") == html.count("base64,") == 1
  assert not re.search(r"https?://|<script|<link|>\s*(nan|inf)\b", html)
  assert "seeds 0, 1, 2 · 20 epochs a member · batches of 50 · 1 × cpu" in html
  assert "resnet8 on digits: ExpVar at tap 1 (block 1), λ = 1, 3 seeds" in html
  assert "100 training images · 1,397 test images" in html
  for row in seeds.comparison(seeds_means.read_runs(workdirs)).bodies[1].rows:
    assert all(f"{cell.text}<small> ±{cell.spread}</small>" in html for cell in row.cells)
  write_seeds(list(reversed(workdirs)), str(tmp_path / "again"))
  assert (tmp_path / "again" / "report.html").read_bytes() == first["report.html"]
  assert not any((tmp_path / f"seed_{seed}" / "report").exists() for seed in range(3))


def test_missing_values_are_marked(tmp_path):
  workdirs = make_seeds(tmp_path)
  content = _json(workdirs[1], "robustness.json")
  for part in content["conditions"]:
    part["sequences"]["dissimilar"]["error_consistency"] = None
  save(tmp_path / "seed_1", "robustness.json", content)
  rows = _cells(seeds.comparison(seeds_means.read_runs(workdirs)))
  assert [cell.mark for cell in rows["Fog"]] == ["", "", "", "", "", "†", "", ""]
  for workdir in workdirs:
    content = json.loads(json.dumps(_json(workdir, "robustness.json")))
    for part in (content["clean"], *content["conditions"]):
      part["sequences"] = {name: dict.fromkeys(row) for name, row in part["sequences"].items()}
    save(tmp_path / workdir.rsplit("/", 1)[1], "robustness.json", content)
  rows = _cells(seeds.comparison(seeds_means.read_runs(workdirs)))
  assert {cell.text + cell.spread + cell.mark for cells in rows.values() for cell in cells} == {"–"}
  with open(write_seeds(workdirs), encoding="utf-8") as file:
    assert not re.search(r">\s*(nan|None)\b", file.read())


def test_without_robustness_there_is_the_clean_table(tmp_path):
  workdirs = make_seeds(tmp_path, robust=False)
  page = write_seeds(workdirs)
  with open(page, encoding="utf-8") as file:
    html = file.read()
  assert "What the ensemble gains" in html and "clean and corrupted" not in html
  assert "clean, ensemble of 2" in html and "<img" not in html


def test_no_baseline(tmp_path):
  workdirs = make_seeds(tmp_path, baseline=False)
  assert seeds.differences_table(seeds_means.read_runs(workdirs)) is None
  with open(write_seeds(workdirs), encoding="utf-8") as file:
    assert "Against the baseline" not in file.read()


@pytest.mark.parametrize(
  "change, told",
  [
    (
      lambda config: config["dissim"].update(weight=2.0),
      "dissim.weight=1.0 in .*seed_0 but 2.0 in",
    ),
    (lambda config: config["train"].pop("epochs"), "train.epochs=20 in .*seed_0 but 100 in"),
    (lambda config: config["data"].update(extra={}), "data.extra='.no such field.' .* but {}"),
  ],
)
def test_runs_of_other_experiments_are_refused(tmp_path, change, told):
  workdirs = make_seeds(tmp_path, robust=False)
  path = tmp_path / "seed_1" / "config.json"
  config = json.loads(path.read_text())
  config["command"] = "python -m dissim_jax.main --workdir=elsewhere"
  path.write_text(json.dumps(config))
  seeds_means.read_runs(workdirs)  # another command is no other experiment
  change(config)
  path.write_text(json.dumps(config))
  with pytest.raises(UserError, match=told):
    write_seeds(workdirs)


def test_a_run_counts_once(tmp_path):
  workdirs = make_seeds(tmp_path, robust=False)
  with pytest.raises(UserError, match="given twice"):
    seeds_means.read_runs([*workdirs, str(tmp_path / "seed_2" / ".." / "seed_1")])
  make_run(tmp_path / "again", seed=1, count=3, taps=(1,))
  with pytest.raises(UserError, match="seed=1 in .* a seed of its own"):
    seeds_means.read_runs([*workdirs, str(tmp_path / "again")])


def test_other_corruptions_are_refused(tmp_path):
  workdirs = make_seeds(tmp_path, count=2)
  add_robustness(tmp_path / "seed_1", FEW, (1, 2, 3))
  with pytest.raises(UserError, match="severities of evaluation/robustness.json differ"):
    seeds_means.read_runs(workdirs)


def test_the_report_of_a_run_is_not_overwritten(tmp_path):
  workdirs = make_seeds(tmp_path / "runs", count=2, robust=False)
  page = write_report(workdirs[0])
  with open(page, "rb") as file:
    before = file.read()
  with pytest.raises(UserError, match="the report of the run"):
    write_seeds(workdirs, f"{workdirs[0]}/report")
  make_run(tmp_path / "runs", seed=7, count=3, taps=(1,))  # the common folder is a run itself
  with pytest.raises(UserError, match="give another folder"):
    write_seeds(workdirs)
  with open(page, "rb") as file:
    assert file.read() == before
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot be made"):
    write_seeds(workdirs, str(tmp_path / "file" / "out"))


def test_terminal_tables_fit_80_columns(tmp_path):
  workdirs = make_seeds(tmp_path, corruptions=tuple(NAMES))
  for width in (80, 60, 200):
    text = io.StringIO()
    print_seeds(workdirs, rich.console.Console(file=text, width=width))
    printed = text.getvalue()
    assert max(map(len, printed.splitlines())) <= width and "…" not in printed
    for cells in _cells(seeds.comparison(seeds_means.read_runs(workdirs))).values():
      assert all(f"{cell.text} ±{cell.spread}" in printed for cell in cells[2:4])
    assert ("JSD %" in printed) == (width == 200)


def test_command_line(tmp_path, capsys):
  workdirs = make_seeds(tmp_path, count=2, robust=False)
  report.run(*workdirs, output=str(tmp_path / "page"))
  printed = capsys.readouterr().out
  assert printed.startswith("Mean ± standard deviation over 2 seeds")
  assert printed.rstrip().endswith("page/report.html")
  with pytest.raises(UserError, match="--output=.*several"):
    report.run(workdirs[0], output="x")
  code = (
    f"import runpy, sys; sys.argv = ['report', '--workdir={workdirs[0]}', "
    f"'--workdir={workdirs[0]}']\n"
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
  first, *others = done.stderr.splitlines()
  assert first == "loading the report …" and len(others) == 1 and "given twice" in others[0]
