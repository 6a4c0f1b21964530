"""The tables of Wald et al. 2023 as cells, from which every file and the terminal are written."""

import collections
import dataclasses

from dissim_jax.names import shown
from dissim_jax.pages import seeds_means
from dissim_jax.pages.sweep import paper, rows
from dissim_jax.pages.sweep.rows import BASELINE_KEY, Group, Key
from dissim_jax.registry import entry, metrics
from dissim_jax.registry.entry import Quantity
from dissim_jax.render.table import Body, Row, Table

# Order of Table 5; the error consistency of Geirhos et al. is not in the paper's tables.
MEASURES = (
  dataclasses.replace(metrics.ENSEMBLE_ACCURACY, label="Ensemble Acc."),
  dataclasses.replace(metrics.MEMBER_ACCURACY, label="Acc_U"),
  *(
    metrics.METRICS[name].quantity(label)
    for name, label in (
      ("cohens_kappa_label", "κ"),
      ("jensen_shannon_divergence", "JSD"),
      ("error_disagreement_ratio", "EDR"),
      ("error_consistency", "Error consistency"),
    )
  ),
)
# Heads of Tables 2 to 4 that differ from those of Table 5.
_PAIR_LABELS = {"member_accuracy": "New Model Acc.", "cohens_kappa_label": "Cohen's κ"}
PAPER_TABLES = {"expvar": "Table 2", "lincka": "Table 3", "l2corr": "Table 4"}
UNDEFINED = "†"
_NAMED = 6  # rows whose seeds are named where they differ from the others'


@dataclasses.dataclass(frozen=True)
class Value:
  """What a cell shows, in the unit of its measure, at full precision.

  Attributes:
    measure: which measure, of ensembles of `size` models.
    spread: over the seeds that are finished and where it is defined.
    seeds, missing: how many seeds are finished, how many are not.
    paper: the paper's (mean, standard deviation or None), where ours may stand beside it.
  """

  measure: Quantity
  size: int
  spread: seeds_means.Spread
  seeds: int
  missing: int
  paper: tuple | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line(Row):
  """One row: what was done, and what its cells show.

  Attributes:
    key: what was done to the members.
    values: what each cell shows.
    seeds: "3/5" if some are missing.
  """

  key: Key
  values: list[Value]
  seeds: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid(Table):
  """A table whose rows are `Line`s; `name` is that of its rows in the CSV file."""

  name: str

  @property
  def undefined(self) -> bool:
    """Whether a value is not defined in a seed."""
    return any(UNDEFINED in cell.mark for row in self.rows for cell in row.cells)

  @property
  def has_paper(self) -> bool:
    """Whether the paper's values stand in it."""
    return any(cell.paper for row in self.rows for cell in row.cells)


def make(group: Group) -> list:
  """The tables of a group: one of sequences, or of pairs one for each metric; none of one model."""
  if not group.sizes:
    return []
  if len(group.sizes) > 1:
    return [_sequences(group)]
  metrics = list(dict.fromkeys(row.key.metric for row in group.regularised)) or [""]
  return [_pairs(group, metric) for metric in metrics]


def corner_of(group: Group, with_weight: bool) -> tuple:
  """Heads of the labels of rows."""
  projection = ("Projection",) * group.has_projections
  return ("Metric", "Layer", *projection) + ("Loss weight",) * with_weight


def _sequences(group: Group) -> Grid:
  """Rows by what was done, columns by the number of models, a body for each measure."""
  several = len({row.key.weight for row in group.regularised}) > 1
  corner = corner_of(group, False) + ("λ",) * several
  bodies = []
  for measure in MEASURES:
    columns = [_column(group, group.rows, measure, size) for size in group.sizes]
    labels = [labels_of(group, row.key, several) for row in group.rows]
    bodies.append(Body(_lines(group.rows, labels, columns), measure.title))
  title = "Ensembles of N models (Wald et al. 2023, Table 5; its first three blocks are Table 1)"
  return Grid(
    name="sequences",
    title=title,
    corner=corner,
    groups=[("Ensemble of N models", list(map(str, group.sizes)))],
    bodies=bodies,
    of_bodies="Output metric",
  )


def _pairs(group: Group, metric: str) -> Grid:
  """Rows by tap and weight, columns by measure; the baseline first."""
  rows = [row for row in group.rows if row.key.metric in (metric, BASELINE_KEY.metric)]
  rows = sorted(
    rows, key=lambda row: (row.key != BASELINE_KEY, len(row.key.taps), row.key.taps, row.key.weight)
  )
  columns = [_column(group, rows, measure, 2) for measure in MEASURES]
  lines = _lines(rows, [labels_of(group, row.key, True) for row in rows], columns)
  baseline = [[line] for line in lines[:1] if line.key == BASELINE_KEY]
  rest = lines[len(baseline) :]
  bodies = [Body(part) for part in [*baseline, rest] if part]
  name = Key(metric, (), 0.0).name if metric else "Baseline"
  number = PAPER_TABLES.get(metric, "Tables 2 to 4")
  heads = [
    dataclasses.replace(measure, label=_PAIR_LABELS.get(measure.key, measure.label)).title
    for measure in MEASURES
  ]
  return Grid(
    name=f"pairs_{shown(metric)}" if metric else "pairs",
    title=f"Pairs of models, {name} (as Wald et al. 2023, {number})",
    corner=corner_of(group, True),
    groups=[("", heads)],
    bodies=bodies,
  )


def labels_of(group: Group, key: Key, with_weight: bool) -> tuple:
  """What stands before the cells of a row, under `corner_of`."""
  weight = "–" if key.metric == BASELINE_KEY.metric else f"{key.weight:g}"
  projection = (key.projection or "–",) * group.has_projections
  return (key.name, key.layer, *projection) + (weight,) * with_weight


def _column(group: Group, rows: list, measure: Quantity, size: int) -> list:
  """(Cell, Value) of every row for one measure and size, marked against each other."""
  spreads = {row.key: seeds_means.spread(row.values(measure.key, size)) for row in rows}
  # Rows are compared with the one under the name of the baseline.
  names = {key: key.metric if key == BASELINE_KEY else key for key in spreads}
  cells = seeds_means.cells(measure, {names[key]: value for key, value in spreads.items()})
  column = []
  for row in rows:
    spread, cell = spreads[row.key], cells[names[row.key]]
    printed = paper.lookup(group, row, measure.key, size)
    mark = UNDEFINED * (not spread.complete) + count_of(row)
    marked = dataclasses.replace(cell, mark=mark, paper=_paper_text(printed, measure))
    scale = measure.scale
    shown_spread = seeds_means.Spread(scale * spread.mean, scale * spread.std, spread.complete)
    column.append(
      (marked, Value(measure, size, shown_spread, len(row.finished), row.missing, printed))
    )
  return column


def _lines(rows: list, labels: list, columns: list) -> list:
  lines = []
  for index, row in enumerate(rows):
    cells, values = zip(*(column[index] for column in columns), strict=True)
    count = count_of(row).strip(" ()")
    lines.append(
      Line(key=row.key, labels=labels[index], cells=list(cells), values=list(values), seeds=count)
    )
  return lines


def count_of(row: rows.Row) -> str:
  """ " (3/5)" if seeds are missing."""
  return f" ({len(row.finished)}/{len(row.sources)})" if row.missing else ""


def _paper_text(printed: tuple | None, measure: Quantity) -> str:
  """ "95.580 ±0.189", without a deviation that cannot be read."""
  if printed is None:
    return ""
  mean, std = printed
  text = lambda value: entry.number(value, measure.decimals)  # noqa: E731
  return text(mean) + ("" if std is None else f" ±{text(std)}")


def seeds_text(group: Group) -> str:
  """Which seeds are averaged, e.g. "seeds 0, 1, 2"; by row where they differ."""
  return seeds_of({row.key.label + _weight(group, row): list(row.finished) for row in group.rows})


def seeds_of(seeds_by_label: dict) -> str:
  """The seeds that most have, e.g. "seeds 0, 1, 2", and then the labels that have others."""
  texts = {
    label: f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    for label, seeds in seeds_by_label.items()
    if seeds
  }
  if not texts:
    return "no seed"
  counts = collections.Counter(texts.values())
  usual = max(counts, key=lambda text: (counts[text], len(text)))
  others = [f"{label}: {text}" for label, text in texts.items() if text != usual]
  more = [f"{len(others) - _NAMED} others have fewer"] if len(others) > _NAMED else []
  return "; ".join([usual, *others[:_NAMED], *more])


def _weight(group: Group, row: rows.Row) -> str:
  several = len({other.key.weight for other in group.regularised}) > 1
  return f", λ = {row.key.weight:g}" if several and row.key != BASELINE_KEY else ""
