"""A measure has one unit on every page, in every file and in a terminal."""

import csv
import io
import math

import pytest
import rich.console

from dissim_jax.pages import seeds
from dissim_jax.pages.run import print_table, write_report
from dissim_jax.pages.sweep import files, layout, page
from dissim_jax.registry import metrics
from dissim_jax.registry.entry import Quantity
from tests import tiny
from tests.pages.test_collect import change, config_of, groups_of
from tests.pages.test_collect import make_run as make_collected
from tests.pages.test_report import make_run, save_metrics
from tests.pages.test_report_sections import add_diversity, save

# What the files hold, and how it is shown: a ratio, and what is shown in percent.
VALUES = {
  "error_disagreement_ratio": (0.38417, "0.384", "38.417"),
  "error_consistency": (0.52046, "52.046", "0.520"),
  "cohens_kappa_label": (0.41234, "41.234", "0.412"),
  "jensen_shannon_divergence": (0.06789, "6.789", "0.068"),
}
HELD = {key: value for key, (value, _, _) in VALUES.items()}


def printed(write):
  console = rich.console.Console(file=io.StringIO(), width=200)
  write(console)
  return console.file.getvalue()


def read(path):
  with open(path, encoding="utf-8") as file:
    return file.read().replace("\u00a0", " ")  # which keep a unit and an arrow with their word


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory):
  """{where: text} of everything that shows the measures of an ensemble."""
  folder = tmp_path_factory.mktemp("units")
  with pytest.MonkeyPatch.context() as patch:
    tiny.leave_undrawn(patch)
    return written(folder)


def written(folder):
  runs = []
  for seed in (0, 1):
    runs.append(folder / f"seed_{seed}")
    metrics = make_run(runs[-1], seed=seed, count=3, taps=(1,))
    for row in metrics["ensembles"]:
      row.update(HELD)
    save_metrics(runs[-1], metrics)
  content = add_diversity(runs[0], calibrated=False)
  for sequence in content["sequences"].values():
    sequence["uncalibrated"]["diversity"].update(HELD)
  save(runs[0], "diversity.json", content)
  diversity = read(write_report(str(runs[0])))
  table = diversity[diversity.index("Diversity of errors and predictions") :]
  for seed in (0, 1):
    name = f"sweep/seed_{seed}"
    make_collected(folder, name, config_of(seed, ensemble__size=2), count=3)
    change(folder, name, "baseline", 2, **HELD)
  tables = page.write_tables(folder / "sweep")
  return {
    "report": diversity,
    "diversity": table[: table.index("</table>")],
    "terminal": printed(lambda console: print_table(str(runs[0]), console)),
    "seeds": read(seeds.write_seeds(runs, str(folder / "page"))),
    "seeds' terminal": printed(lambda console: seeds.print_seeds(runs, console)),
    "tables": read(tables),
    "latex": read(folder / "sweep" / "tables" / "tables.tex"),
    "tables' terminal": printed(lambda console: page.print_tables(folder / "sweep", console)),
    "csv": read(folder / "sweep" / "tables" / "tables.csv"),
  }


@pytest.mark.parametrize("key", VALUES)
def test_one_unit_wherever_it_is_shown(key, surfaces):
  value, right, wrong = VALUES[key]
  for where, text in surfaces.items():
    if where != "csv":
      assert right in text, where
      assert f">{wrong}<" not in text and f" {wrong} " not in text, where
  (row,) = (row for row in csv.DictReader(io.StringIO(surfaces["csv"])) if row["measure"] == key)
  ratio = key == "error_disagreement_ratio"
  assert row["unit"] == ("" if ratio else "%")
  assert float(row["mean"]) == pytest.approx(value * (1 if ratio else 100), rel=1e-12)


def test_heads_name_the_unit(surfaces):
  for where in ("terminal", "seeds' terminal"):
    assert "JSD %" in surfaces[where] and "EDR" in surfaces[where]
    assert "EDR %" not in surfaces[where]
  for where in ("report", "seeds", "diversity"):
    assert "Error disagreement ratio ↑" in surfaces[where]
    assert "Error consistency κ [%]" in surfaces[where]
  for where in ("tables", "tables' terminal"):
    assert "EDR" in surfaces[where] and "EDR [" not in surfaces[where]
  assert r"EDR $\uparrow$" in surfaces["latex"]


def test_units_do_not_change_what_is_undefined_or_infinite(tmp_path):
  """A ratio without a joint error, or without an identical one, in every seed and in one."""
  for seed, value in enumerate((math.inf, 0.5, math.nan)):
    make_collected(tmp_path, f"seed_{seed}", config_of(seed, ensemble__size=2), count=3)
    change(tmp_path, f"seed_{seed}", "baseline", 2, error_disagreement_ratio=value)
  (grid,) = layout.make(groups_of(tmp_path)[0])
  (line,) = grid.rows
  place = [measure.key for measure in layout.MEASURES].index("error_disagreement_ratio")
  cell, value = line.cells[place], line.values[place]
  assert (cell.text, cell.spread, cell.mark) == ("∞", "", layout.UNDEFINED)
  assert value.spread.mean == math.inf
  (row,) = (
    row
    for row in csv.DictReader(io.StringIO(files.csv_text([("g", grid)])))
    if row["measure"] == "error_disagreement_ratio"
  )
  assert (row["mean"], row["std"]) == ("inf", "")
  for seed in range(3):
    change(tmp_path, f"seed_{seed}", "baseline", 2, error_disagreement_ratio=math.nan)
  (grid,) = layout.make(groups_of(tmp_path)[0])
  assert (grid.rows[0].cells[place].text, grid.rows[0].cells[place].mark) == ("–", "†")


def test_what_is_not_named_is_shown_as_it_is():
  shown = Quantity("a_measure_of_tomorrow", "x"), metrics.CROSS_ENTROPY, metrics.ACCURACY
  assert [quantity.scale for quantity in shown] == [1, 1, 100]
  assert metrics.METRICS["gain_over_best"].unit == "points"
