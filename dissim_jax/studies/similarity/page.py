"""A finished comparison of members: heat maps, a table for the terminal, a self-contained page.

Reads `comparison.json` and `comparison.npz` only: no model, no device, no jax.
"""

import dataclasses
import itertools
import math
from pathlib import Path

import matplotlib
import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text
from matplotlib.figure import Figure

from dissim_jax.files import layout
from dissim_jax.files.atomic import encoded, read_json, write_bytes
from dissim_jax.registry.entry import number
from dissim_jax.render import heat_map as drawn
from dissim_jax.render import page, style
from dissim_jax.render.table import of_facts, of_texts
from dissim_jax.studies.similarity import heat_maps

# Inches: a line of text, what lies right of the panels, and right of the colour bar.
LINE, BAR_GAP, BAR_WIDTH, MARGIN = 0.15, 0.12, 0.13, 0.5
FONT, SMALLEST_FONT, LETTER = 8.0, 4.5, 0.62  # points; width of a letter to its height
COLUMNS = 80  # of the terminal
PREFIX = "heatmap_"  # of a picture's name


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What a comparison saved.

  Attributes:
    facts: content of `comparison.json`.
    arrays: {(measure, a, b): float [L_a, L_b]}.
  """

  facts: dict
  arrays: dict

  @property
  def taps(self) -> dict:
    """Tap numbers of every member by name."""
    return {member["name"]: member["taps"] for member in self.facts["members"]}

  def pairs(self, measure: str) -> list:
    """The pairs of members that a measure was taken of, in the order of the members."""
    every = itertools.product(self.taps, self.taps)
    return [pair for pair in every if (measure, *pair) in self.arrays]


def read_comparison(folder) -> Comparison:
  """Reads the files of a comparison."""
  folder = Path(folder)
  facts = read_json(folder / "comparison.json")
  with np.load(folder / "comparison.npz", allow_pickle=False) as archive:
    arrays = {tuple(key.split("/")): np.asarray(archive[key], float) for key in archive.files}
  return Comparison(facts, arrays)


def summary(comparison: Comparison) -> list:
  """One row for each measure and pair of members.

  Returns:
    rows {"measure", "a", "b", "mean", "lowest", "highest"}: the mean over equal taps of two members
    (or, where only one was compared, over its pairs of different taps), and (taps, value) of the
    lowest and the highest among them; NaN and no taps where no pair of taps has a value.
  """
  rows = []
  for measure in comparison.facts["measures"]:
    for a, b in comparison.pairs(measure["name"]):
      if a == b and len(comparison.taps) > 1:
        continue
      values = comparison.arrays[measure["name"], a, b]
      every = itertools.product(enumerate(comparison.taps[a]), enumerate(comparison.taps[b]))
      cells = {(s, t): values[i, j] for (i, s), (j, t) in every if (s == t) == (a != b)}
      cells = {taps: value for taps, value in cells.items() if not math.isnan(value)}
      mean = float(np.mean(list(cells.values()))) if cells else math.nan
      ends = [order(cells, key=cells.get, default=None) for order in (min, max)]
      lowest, highest = ((_tap_text(t), cells[t]) if t else ("", math.nan) for t in ends)
      rows.append(
        {
          "measure": measure["name"],
          "a": a,
          "b": b,
          "mean": mean,
          "lowest": lowest,
          "highest": highest,
        }
      )
  return rows


def _tap_text(taps: tuple) -> str:
  """One number for equal taps, else both."""
  return str(taps[0]) if taps[0] == taps[1] else f"{taps[0]}-{taps[1]}"


def averaged(comparison: Comparison) -> str:
  """Over what the means of `summary` are."""
  return "equal taps" if len(comparison.taps) > 1 else "pairs of different taps"


def print_table(folder, console: rich.console.Console | None = None) -> None:
  """Prints the mean, lowest and highest similarity by measure and pair, at most 80 columns wide."""
  comparison = read_comparison(folder)
  console = console or rich.console.Console()
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1))
  for head in ("a", "b"):
    table.add_column(head, overflow="fold")
  for head in ("mean", "lowest at tap", "highest at tap"):
    table.add_column(head, justify="right", no_wrap=True)
  before = None
  for row in summary(comparison):
    if row["measure"] != before:
      table.add_section()
      table.add_row(rich.text.Text(row["measure"], style="bold"))
    before = row["measure"]
    ends = [f"{number(value)}{tap:>6}" for tap, value in (row["lowest"], row["highest"])]
    names = (row[key].replace(":", ":\n") for key in ("a", "b"))
    cells = (*names, number(row["mean"]), *ends)
    table.add_row(*(rich.text.Text(cell) for cell in cells))
  note = f"Over {averaged(comparison)}; 1 = alike."
  console.print(table, width=min(COLUMNS, console.width))
  console.print(rich.text.Text(note), width=min(COLUMNS, console.width))


def heat_map(comparison: Comparison, measure: dict) -> Figure:
  """All pairs of members by one measure: the first on x, the second on y, tap 0 at lower left.

  One colour scale for all panels, from the value of unrelated to that of identical
  representations (its negative part only if there are negative values); grey has no value.
  """
  pairs = comparison.pairs(measure["name"])
  _, side = heat_maps.arrange([heat_maps.Block("", tuple(pairs))])
  names = list(comparison.taps)
  grid, foot = len(names) * (side + heat_maps.GAP), heat_maps.FOOT + LINE
  bar_left = heat_maps.LEFT + LINE + grid + BAR_GAP
  width, height = bar_left + BAR_WIDTH + MARGIN, heat_maps.TITLE + grid + foot
  figure = Figure(figsize=(width, height))
  figure.text(heat_maps.LEFT / width, 1 - 0.24 / height, _title(measure), weight="bold", size=10)
  low, high = colour_range(comparison, measure)
  image = None
  for a, b in pairs:
    column, row = names.index(a), names.index(b)
    x = heat_maps.LEFT + LINE + column * (side + heat_maps.GAP)
    y = height - heat_maps.TITLE - (row + 1) * side - row * heat_maps.GAP
    ax = figure.add_axes([x / width, y / height, side / width, side / height])
    image = drawn.draw(ax, comparison.arrays[measure["name"], a, b], low, high)
    _ticks(ax.xaxis, comparison.taps[a], side, a if row == len(names) - 1 else None)
    _ticks(ax.yaxis, comparison.taps[b], side, b if column == 0 else None)
  bar_height = min(heat_maps.LARGEST, grid - heat_maps.GAP)
  box = (
    bar_left / width,
    1 - (heat_maps.TITLE + bar_height) / height,
    BAR_WIDTH / width,
    bar_height / height,
  )
  drawn.colour_bar(figure, image, box, np.linspace(low, high, 5))
  return figure


def _title(measure: dict) -> str:
  """Name and the options that were given, e.g. "svcca (variance=0.95)"."""
  given = measure["given"]
  options = ", ".join(f"{key}={value}" for key, value in measure["options"].items() if key in given)
  return f"{measure['name']} ({options})" if options else measure["name"]


def colour_range(comparison: Comparison, measure: dict) -> tuple:
  """Values of the first and the last colour, the same for all panels of a measure."""
  name = measure["name"]
  values = [values for (key, *_), values in comparison.arrays.items() if key == name]
  negative = any(np.nanmin(array, initial=0.0) < 0 for array in values)
  return (measure["low"] if negative else max(0.0, measure["low"])), measure["high"]


def _ticks(axis, taps, side, label):
  drawn.set_ticks(axis, taps, side, bool(label))
  if label:
    lines = label.replace(":", ":\n")
    longest = max(map(len, lines.split("\n")))
    size = min(FONT, 72 * side / (LETTER * longest))
    axis.set_label_text(lines, size=max(SMALLEST_FONT, size))


def write_page(folder) -> Path:
  """Writes `heatmap_<measure>.png` and the page that embeds them; returns the page's path.

  Heat maps of measures that the comparison does not have are removed.
  """
  folder = Path(folder)
  comparison = read_comparison(folder)
  with matplotlib.rc_context(style.STYLE):
    parts = sections(comparison)
  pictures = {folder / f"{each.name}.png": each.png for part in parts for each in part.pictures}
  for path, content in pictures.items():
    write_bytes(path, content)
  for stale in set(folder.glob(f"{PREFIX}*.png")) - set(pictures):
    stale.unlink()
  write_bytes(folder / layout.COMPARISON_PAGE, encoded(render(comparison, parts)))
  return folder / layout.COMPARISON_PAGE


_HEADS = ("Measure", "First", "Second", "Mean", "Lowest", "at tap", "Highest", "at tap")


def sections(comparison: Comparison) -> list[page.Section]:
  """A heat map for each measure, the numbers, and what was compared."""
  rows = [
    (
      row["measure"],
      row["a"],
      row["b"],
      number(row["mean"]),
      *(text for tap, value in (row["lowest"], row["highest"]) for text in (number(value), tap)),
    )
    for row in summary(comparison)
  ]
  note = f"Over {averaged(comparison)}; 1 = alike. Every value: comparison.csv and comparison.npz."
  return [
    *(_map_section(comparison, measure) for measure in comparison.facts["measures"]),
    page.Section("In numbers", [of_texts(_HEADS, rows, 3), page.Text(note, note=True)]),
    _compared(comparison.facts),
  ]


def _map_section(comparison: Comparison, measure: dict) -> page.Section:
  """One heat map with what it shows."""
  figure, name = heat_map(comparison, measure), measure["name"]
  members = ", ".join(comparison.taps)
  picture = page.picture(
    PREFIX + name,
    figure,
    f"Heat maps by {name}, every tap against every tap, for {members}.",
    _caption(comparison, measure),
  )
  picture = dataclasses.replace(picture, width=int(100 * figure.get_size_inches()[0]))
  sample = _SAMPLES[measure["samples"]]
  if comparison.facts["resize"] and measure["samples"] == "position":
    sample += "; of two taps the larger is resized to the smaller"
  text = f"{measure['describe'][0].upper()}{measure['describe'][1:]}. A sample is {sample}."
  return page.Section(_title(measure), [page.Text(text), picture])


_SAMPLES = {
  "example": "one image, compared with the others of its batch",
  "pooled": "one image, its taps averaged over space",
  "position": "one position of one image",
}


def _caption(comparison: Comparison, measure: dict) -> str:
  text, name = "Every tap against every tap; bright is alike.", measure["name"]
  if not measure["symmetric"]:
    text += " The first is the member on x, the second the one on y."
  if any(np.isnan(comparison.arrays[name, a, b]).any() for a, b in comparison.pairs(name)):
    sizes = measure["samples"] == "position"
    which = "the taps have different spatial sizes or hold" if sizes else "a tap holds"
    text += f" Grey: no value, as {which} NaN or infinity."
  return text


def _compared(facts: dict) -> page.Section:
  """The members, the command, versions and hardware."""
  members = [
    (
      member["name"],
      member["model"] + _width(member["width_multiplier"]),
      ", ".join(map(str, member["taps"])),
      member["folder"],
    )
    for member in facts["members"]
  ]
  data = ", ".join(
    f"{key} {'(default)' if value == '' else value}" for key, value in facts["data"].items()
  )
  rows = [
    ("data", data),
    ("seconds", f"{facts['seconds']:.1f}"),
    *((name, str(value)) for name, value in facts["environment"].items()),
  ]
  command = [page.Text("To reproduce:"), page.Code(facts["command"])] if facts["command"] else []
  return page.Section(
    "What was compared",
    [of_texts(("Member", "Model", "Taps", "Folder"), members, 4), *command, of_facts(rows)],
  )


def _width(multiplier: float) -> str:
  return "" if multiplier == 1 else f" x {multiplier:g}"


def render(comparison: Comparison, parts: list[page.Section]) -> str:
  """The page as text."""
  facts = comparison.facts
  data, count = facts["data"]["name"], len(facts["members"])
  several = "s" * (count > 1)
  return page.render(
    f"Comparison of {count} member{several} on {data}",
    f"{facts['images']:,} {facts['split']} images, {facts['batch_size']} at a time.",
    parts,
    heading=f"How alike {count} member{several} represent{'' if several else 's'} {data}",
  )
