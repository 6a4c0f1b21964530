"""Which figures of Wald et al. 2023 a group's runs allow, with what they show in words."""

import dataclasses
import itertools
import re

import matplotlib

from dissim_jax.pages.sweep import heat_maps, layout, lines
from dissim_jax.pages.sweep.rows import Group, Row
from dissim_jax.render import page, style

PAPER_TAP = 8  # of Figure 5
PREFIX = "figure_"


@dataclasses.dataclass(frozen=True)
class Drawn:
  """A figure with its title; `folded` ones are seen after a click."""

  title: str
  picture: page.Picture
  folded: bool


def draw_all(group: Group, comparisons: list, prefix: str = "") -> list:
  """All figures of a group, for each metric and weight.

  Args:
    group: what to draw.
    comparisons: [{((run, member), (run, member)): LinCKA [taps, taps]}].
    prefix: of the names of the files.
  """
  drawn, shown = [], set()
  for (metric, weight), rows in _sweeps(group).items():
    folded = metric in shown  # of several weights the one nearest 1 comes first
    shown.add(metric)
    several = len({row.key.weight for row in group.regularised}) > 1
    what = rows[0].key.name + (f", λ = {weight:g}" if several else "")
    name = f"{metric}_lambda_{weight:g}" if several else metric
    with matplotlib.rc_context(style.STYLE):
      made = [*_maps(group, rows, comparisons), *_sequences(rows), *_lines(group, rows)]
    for number, title, figure, alt, caption, fold, suffix in made:
      file = f"{prefix}{PREFIX}{number}_{slug(name)}{suffix}"
      picture = page.picture(file, figure, alt, caption)
      drawn.append(Drawn(f"{title} ({what})", picture, folded or fold))
  return drawn


def slug(text: str) -> str:
  """A text as a part of a file's name."""
  return re.sub(r"[^A-Za-z0-9.]+", "_", text)[:80].strip(".")


def _sweeps(group: Group) -> dict:
  """{(metric, weight): rows at taps}, of each metric the weight nearest 1 first."""
  rows = [row for row in group.regularised if row.key.taps]
  metrics = list(dict.fromkeys(row.key.metric for row in rows))
  rows = sorted(
    rows, key=lambda row: (metrics.index(row.key.metric), abs(row.key.weight - 1), row.key.weight)
  )
  by = itertools.groupby(rows, key=lambda row: (row.key.metric, row.key.weight))
  return {key: list(swept_rows) for key, swept_rows in by}


def _maps(group: Group, rows: list, comparisons: list) -> list:
  """Figures 3 and 4."""
  seeds = _seeds(group, rows)
  taps = "; ".join(row.key.layer for row in rows)
  made = []
  figure = heat_maps.regularised_pairs(group.baseline, rows)
  if figure is not None:
    made.append(
      (
        3,
        "LinCKA of the first two members",
        figure,
        f"Heat maps from 0 to 1, every tap of member 0 against every tap of member 1, regularised "
        f"at taps {taps}.",
        "LinCKA of every tap of the unregularised member 0 against every tap of member 1, which "
        "was regularised against it at the tap that solid lines mark (Wald et al. 2023, Figure 3). "
        f"Mean over seeds ({seeds}).",
        False,
        "",
      )
    )
  figure = heat_maps.across_sequences(group.baseline, rows, comparisons)
  if figure is not None:
    pairs = {row.key.label: heat_maps.compared_seeds(row, comparisons) for row in rows}
    made.append(
      (
        4,
        "LinCKA within and across sequences",
        figure,
        f"Heat maps from 0 to 1 in four columns, {', '.join(heat_maps.HEADS)}, a row for each of "
        f"the taps {taps}.".replace("\n", " "),
        "LinCKA of every tap of one model (x) against every tap of another (y). Lines mark the "
        "regularised tap: solid where the two were regularised against each other, dashed where "
        "they were not (Wald et al. 2023, Figure 4). The two columns on the left are means over "
        f"seeds ({seeds}), the two on the right are of sequences of different seeds "
        f"({layout.seeds_of(pairs)}).",
        False,
        "",
      )
    )
  return made


def _sequences(rows: list) -> list:
  """Figure 5 of every row, that of the paper's tap shown and the others folded."""
  rows = [row for row in rows if row.finished and max(map(len, row.members().values())) > 2]
  made, chosen = [], _nearest(rows)
  for row in sorted(rows, key=lambda row: row is not chosen):
    seed = next(iter(row.finished))
    figure = heat_maps.sequence(row, seed)
    if figure is not None:
      taps = f"tap{'s' * (len(row.key.taps) > 1)} {row.key.layer}"
      suffix = "_tap_" + "_".join(map(str, row.key.taps))
      made.append(
        (
          5,
          f"LinCKA between all members, {taps}",
          figure,
          f"Heat maps from 0 to 1, every tap against every tap, for all pairs of members of the "
          f"sequence of seed {seed}.",
          f"LinCKA between all members of one sequence, that of seed {seed}. Each was regularised "
          f"at {taps} (solid lines) against all before it (Wald et al. 2023, Figure 5).",
          row is not chosen,
          suffix,
        )
      )
  return made


def _nearest(rows: list) -> Row | None:
  """The row of the paper's tap, or else the middle one."""
  single = [row for row in rows if row.key.taps == (PAPER_TAP,)]
  return single[0] if single else rows[len(rows) // 2] if rows else None


def _lines(group: Group, rows: list) -> list:
  """Figures 7 and 9, which are one, and 8."""
  single = [row for row in rows if len(row.key.taps) == 1]
  several = [row for row in rows if len(row.key.taps) > 1]
  made = []
  for number, chosen, paper in ((7, single, "Figures 7 and 9"), (8, several and rows, "Figure 8")):
    figure = lines.diagonal(group.baseline, chosen) if chosen else None
    if figure is None:
      continue
    what = "one tap" if number == 7 else "sets of taps"
    made.append(
      (
        number,
        f"LinCKA tap by tap, {what} regularised",
        figure,
        "Lines: LinCKA of equal taps of member 0 and member 1, unregularised and regularised at "
        f"taps {'; '.join(row.key.layer for row in chosen)}, which are marked.",
        "LinCKA of each tap of member 0 with the same tap of member 1, which was regularised "
        f"against it at the marked taps (Wald et al. 2023, {paper}). Mean over seeds "
        f"({_seeds(group, chosen)}), bands ± one standard deviation.",
        False,
        "",
      )
    )
  return made


def _seeds(group: Group, rows: list) -> str:
  """The seeds of the rows and the baseline."""
  shown = [row for row in [group.baseline, *rows] if row is not None]
  return layout.seeds_of({row.key.label: list(row.finished) for row in shown})
