"""LinCKA heat maps of all pairs of members, the regularised taps outlined."""

import dataclasses

from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dissim_jax.render import heat_map

# Inches.
WIDTH, LEFT, GAP, TITLE, FOOT, BAR = 10.8, 0.72, 0.1, 0.38, 0.5, 0.75
MANY_PAIRS = 40  # above this, pairs that share no sequence are left out
LARGEST, SMALLEST, MARK = 2.75, 0.9, 0.13  # panel sides; side of the smallest outline


@dataclasses.dataclass(frozen=True)
class Block:
  """A grid of panels: members of `columns` on x, members of `rows` on y, tap 0 at lower left."""

  title: str
  pairs: tuple

  @property
  def columns(self) -> list:
    return list(dict.fromkeys(a for a, _ in self.pairs))

  @property
  def rows(self) -> list:
    return list(dict.fromkeys(b for _, b in self.pairs))


def lincka_maps(results) -> Figure | None:
  """Heat maps as in Wald et al. 2023, Figures 3 to 5, one block a sequence, one scale 0 to 1.

  Solid outline: the pair was regularised against each other at this tap. Dashed: a member was
  regularised at this tap, but not against the other.
  """
  blocks = map_blocks(results)
  if not blocks:
    return None
  lines, side = arrange(blocks)
  heights = [TITLE + FOOT + max(len(block.rows) for block in line) * (side + GAP) for line in lines]
  width = max(sum(_block_width(block, side) for block in line) for line in lines) + BAR
  width, height = max(width, WIDTH), sum(heights)
  figure = Figure(figsize=(width, height))
  top, image = height, None
  for line, line_height in zip(lines, heights, strict=True):
    left = 0.0
    for block in line:
      image = _draw_block(figure, results, block, side, left, top - TITLE)
      left += _block_width(block, side)
    top -= line_height
  right = (max(sum(_block_width(block, side) for block in line) for line in lines) + 0.1) / width
  bar_height = min(2.75, height - TITLE - FOOT)
  box = (right, 1 - (TITLE + bar_height) / height, 0.13 / width, bar_height / height)
  heat_map.colour_bar(figure, image, box)
  return figure


def map_blocks(results) -> list:
  """One block for each sequence, and one for the pairs that share no sequence.

  Of more than `MANY_PAIRS` pairs only those of a sequence are shown. A run of one member has no
  pairs: its taps are compared with each other.
  """
  groups = {name: [] for name in (*results.sequences, "across")}
  for a, b in results.pairs:
    if (a, b) in results.arrays["lincka"]:
      groups[results.kind(a, b)].append((a, b))
  if len(results.pairs) > MANY_PAIRS:
    groups["across"] = []
  titles = {"across": "across sequences"}
  blocks = [Block(titles.get(name, name), tuple(pairs)) for name, pairs in groups.items() if pairs]
  if blocks:
    return blocks
  self_pairs = [
    (name, name) for name in results.members if (name, name) in results.arrays["lincka"]
  ]
  return [Block("taps of one member", (pair,)) for pair in self_pairs]


def arrange(blocks) -> tuple:
  """Packs blocks side by side as long as panels stay readable.

  Returns:
    (lines of blocks, side of a panel in inches).
  """
  for per_line in range(len(blocks), 0, -1):
    lines = [blocks[start : start + per_line] for start in range(0, len(blocks), per_line)]
    side = min(
      (WIDTH - BAR - sum(LEFT + 0.12 + GAP * len(block.columns) for block in line))
      / sum(len(block.columns) for block in line)
      for line in lines
    )
    if side >= SMALLEST:
      break
  return lines, min(max(side, SMALLEST), LARGEST)


def _block_width(block, side):
  return LEFT + len(block.columns) * (side + GAP) + 0.12


def _draw_block(figure, results, block, side, left, top):
  """Draws the panels below `top`; returns an image for the colour bar."""
  width, height = figure.get_size_inches()
  columns, rows = block.columns, block.rows
  bottoms = {a: max(rows.index(b) for other, b in block.pairs if other == a) for a in columns}
  firsts = {b: min(columns.index(a) for a, other in block.pairs if other == b) for b in rows}
  figure.text((left + LEFT) / width, (top + 0.1) / height, block.title, weight="bold", size=10)
  image = None
  for a, b in block.pairs:
    column, row = columns.index(a), rows.index(b)
    x = left + LEFT + column * (side + GAP)
    y = top - (row + 1) * side - row * GAP
    ax = figure.add_axes([x / width, y / height, side / width, side / height])
    image = _panel(ax, results, a, b, MARK / side)
    counts = results.arrays["lincka"][a, b].shape
    _ticks(ax.xaxis, counts[0], side, a if bottoms[a] == row else None)
    _ticks(ax.yaxis, counts[1], side, b if firsts[b] == column else None)
  return image


def _panel(ax, results, a, b, mark):
  values = results.arrays["lincka"][a, b]
  image = heat_map.draw(ax, values)
  at_taps = a != b and (results.teachers(a) or results.teachers(b))
  for tap in results.regularised_taps if at_taps else []:
    if 0 <= tap < values.shape[1]:
      place = results.matched(a, b)[tap], tap
      _outline(ax, values.T.shape, place, mark, dashed=results.relation(a, b) == "other")
  return image


def _outline(ax, shape, place, mark, dashed):
  """A frame around the cell at `place` (x, y), not smaller than the share `mark` of the panel."""
  width, height = (max(1.0, count * mark) for count in (shape[1], shape[0]))
  style = (0, (1.6, 1.2)) if dashed else "-"
  ax.add_patch(
    Rectangle(
      (place[0] - width / 2, place[1] - height / 2),
      width,
      height,
      fill=False,
      ec="white",
      lw=1.3,
      ls=style,
      clip_on=False,
      zorder=4,
      path_effects=[
        patheffects.Stroke(linewidth=2.8, foreground="#14181d", alpha=0.75),
        patheffects.Normal(),
      ],
    )
  )


def _ticks(axis, count, side, label):
  heat_map.set_ticks(axis, list(range(count)), side, bool(label))
  if label:
    axis.set_label_text(label, size=8)
