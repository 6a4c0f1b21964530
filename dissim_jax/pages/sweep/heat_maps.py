"""LinCKA heat maps as in Wald et al. 2023, Figures 3, 4 and 5."""

import dataclasses

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure

from dissim_jax.pages.sweep.rows import Row, lincka
from dissim_jax.render import heat_map, style

# Inches.
LEFT, GAP, ROW_GAP, TITLE, FOOT, BAR, EDGE = 0.62, 0.16, 0.16, 0.32, 0.36, 0.72, 0.08
LARGEST, PER_LINE = 2.2, 5  # side of a panel; panels side by side in Figure 3
SOLID, DASHED = "-", (0, (3, 2))
HEADS = (
  "unregularised –\nunregularised",
  "unregularised – regularised\nof its sequence",
  "unregularised – regularised\nof another sequence",
  "regularised – regularised\nof another sequence",
)


@dataclasses.dataclass(frozen=True)
class Panel:
  """One heat map.

  Attributes:
    values: [taps on x, taps on y]; None if there are none.
    title: above it.
    taps: regularised taps, which are marked by lines.
    against: whether the two models were regularised against each other there: solid, else dashed.
    x, y: labels, of panels at the edge.
  """

  values: np.ndarray | None
  title: str = ""
  taps: tuple = ()
  against: bool = True
  x: str = ""
  y: str = ""


def mean_map(maps: dict) -> np.ndarray | None:
  """Mean over seeds of maps of one shape; None without any."""
  shapes = {values.shape for values in maps.values()}
  return np.mean(list(maps.values()), axis=0) if len(shapes) == 1 else None


def regularised_pairs(baseline: Row | None, rows: list) -> Figure | None:
  """Figure 3: the first two members, one panel for each set of taps, mean over seeds."""
  panels = []
  for row in [baseline, *rows]:
    values = mean_map(row.lincka(0, 1)) if row is not None else None
    if values is not None:
      taps = row.key.taps
      title = f"tap{'s' * (len(taps) > 1)} {row.key.layer}" if taps else "baseline"
      panels.append(Panel(values, title, taps))
  if not any(panel.taps for panel in panels):
    return None
  lines = [panels[start : start + PER_LINE] for start in range(0, len(panels), PER_LINE)]
  lines = [
    [
      dataclasses.replace(panel, x="tap of member 0", y="tap of member 1" * (not column))
      for column, panel in enumerate(line)
    ]
    for line in lines
  ]
  return draw(lines)


def across_sequences(baseline: Row | None, rows: list, comparisons: list) -> Figure | None:
  """Figure 4: one line of four panels for each set of taps.

  Unregularised models; one and the regularised one of its sequence; one and that of another
  sequence; regularised ones of two sequences. The first two are means over seeds, the others over
  comparisons.
  """
  lines = []
  independent = mean_map(baseline.lincka(0, 1)) if baseline is not None else None
  for row in rows:
    mixed, apart = other_sequences(row, comparisons)
    if mixed is None and apart is None:
      continue
    taps, plural = row.key.taps, "s" * (len(row.key.taps) > 1)
    panels = (
      Panel(independent),
      Panel(mean_map(row.lincka(0, 1)), taps=taps),
      Panel(mixed, taps=taps, against=False),
      Panel(apart, taps=taps, against=False),
    )
    first, *rest = panels
    lines.append([dataclasses.replace(first, y=f"tap{plural} {row.key.layer}\n"), *rest])
  if not lines:
    return None
  lines[0] = [
    dataclasses.replace(panel, title=title) for panel, title in zip(lines[0], HEADS, strict=True)
  ]
  lines[-1] = [dataclasses.replace(panel, x="tap") for panel in lines[-1]]
  return draw(lines)


def other_sequences(row: Row, comparisons: list) -> tuple:
  """LinCKA of members of different sequences of a row, means over its comparisons.

  Args:
    row: whose sequences were compared.
    comparisons: [{((run, member), (run, member)): [taps, taps]}].

  Returns:
    ([taps of a first member, taps of another sequence's second], [taps of a second member, taps of
    another sequence's second]); None for what was not compared.
  """
  places = {
    (run.name, name): place
    for seed, (run, _) in row.finished.items()
    for place, name in enumerate(row.members()[seed][:2])
  }
  mixed, apart = {}, {}
  for number, comparison in enumerate(comparisons):
    for (a, b), values in comparison.items():
      if a[0] == b[0] or a not in places or b not in places:
        continue
      if places[a] == places[b] == 1:
        apart[number, a, b] = values
      elif places[a] < places[b]:
        mixed[number, a, b] = values
      elif places[b] < places[a]:
        mixed[number, b, a] = values.T
  return mean_map(mixed), mean_map(apart)


def compared_seeds(row: Row, comparisons: list) -> list:
  """The seeds of a row whose sequences were compared with another one's."""
  seeds = {run.name: seed for seed, (run, _) in row.finished.items()}
  pairs = [{a[0], b[0]} for comparison in comparisons for a, b in comparison]
  return sorted({seeds[name] for pair in pairs if len(pair & set(seeds)) > 1 for name in pair})


def sequence(row: Row, seed: int) -> Figure | None:
  """Figure 5: all members of the sequence of one seed, the earlier on x, the later on y."""
  run, _ = row.finished[seed]
  names = row.members()[seed]
  lines = []
  for i in range(1, len(names)):
    line = []
    for j in range(len(names) - 1):
      values = lincka(run.results, names[j], names[i]) if j < i else None
      if values is None:
        line.append(None)
        continue
      line.append(
        Panel(
          values,
          "",
          row.key.taps,
          x=names[j] if i == len(names) - 1 else "",
          y=names[i] if j == 0 else "",
        )
      )
    lines.append(line)
  return draw(lines) if any(panel for line in lines for panel in line) else None


def draw(lines: list) -> Figure:
  """Panels in a grid, one scale from 0 to 1; None is a place without a panel."""
  count = max(map(len, lines))
  side = min(LARGEST, (style.WIDTH - LEFT - BAR - GAP * (count - 1)) / count)
  titles = [any(panel and panel.title for panel in line) for line in lines]
  tall = max(panel.title.count("\n") for line in lines for panel in line if panel) * 0.16
  feet = [any(panel and panel.x for panel in line) for line in lines]
  heights = [
    side + ROW_GAP + (TITLE + tall) * title + FOOT * foot
    for title, foot in zip(titles, feet, strict=True)
  ]
  width, height = LEFT + count * (side + GAP) - GAP + BAR, sum(heights) + EDGE
  width = max(width, 0.75 * style.WIDTH)
  figure, top, image = Figure(figsize=(width, height)), height - EDGE, None
  for line, title, line_height in zip(lines, titles, heights, strict=True):
    bottom = top - (TITLE + tall) * title - side
    for column, panel in enumerate(line):
      if panel is not None:
        x = LEFT + column * (side + GAP)
        ax = figure.add_axes([x / width, bottom / height, side / width, side / height])
        image = _panel(ax, panel, side) or image
    top -= line_height
  left = LEFT + count * (side + GAP) - GAP + 0.14
  top = height - EDGE - (TITLE + tall) * titles[0]
  box = (left / width, (top - side) / height, 0.13 / width, side / height)
  heat_map.colour_bar(figure, image, box)
  return figure


def _panel(ax, panel: Panel, side: float):
  """Draws one panel; returns its image, or None if it has no values."""
  ax.grid(False)
  ax.spines[:].set_visible(False)
  if panel.title:
    ax.set_title(panel.title, size=9)
  if panel.y.endswith("\n") or panel.values is None:
    ax.set_ylabel(panel.y.strip(), size=9, weight="bold")
  else:
    ax.set_ylabel(panel.y, size=8)
  ax.set_xlabel(panel.x, size=8)
  if panel.values is None:
    ax.set(xticks=[], yticks=[], facecolor="#f1f3f5")
    ax.text(
      0.5,
      0.5,
      "not yet finished",
      ha="center",
      va="center",
      transform=ax.transAxes,
      size=8,
      color=style.GREY,
    )
    return None
  image = heat_map.draw(ax, panel.values)
  for axis, count, label in (
    (ax.xaxis, panel.values.shape[0], panel.x),
    (ax.yaxis, panel.values.shape[1], panel.y),
  ):
    heat_map.set_ticks(axis, list(range(count)), side, bool(label))
  for tap in panel.taps:
    if 0 <= tap < min(panel.values.shape):
      mark(ax, tap, panel.against)
  return image


def mark(ax, tap: int, against: bool) -> None:
  """Lines through a regularised tap: dashed if the models were not regularised by each other."""
  outline = [
    patheffects.Stroke(linewidth=2.8, foreground="#14181d", alpha=0.75),
    patheffects.Normal(),
  ]
  for line in (ax.axvline, ax.axhline):
    line(tap, color="white", lw=1.2, ls=SOLID if against else DASHED, path_effects=outline)
