"""Where members look: diversity of input attribution, and the maps as a picture."""

import dataclasses
import math
import textwrap

import numpy as np

from dissim_jax.registry import entry
from dissim_jax.registry.entry import Quantity
from dissim_jax.render import images, page, style
from dissim_jax.render.table import Table, labelled, marked

PICTURES = ("attribution",)
METHODS = {"saliency": "saliency", "integrated_gradients": "integrated gradients"}
MEASURES = (
  Quantity("diversity", "Diversity A", +1, decimals=4),
  Quantity("diversity_right", "A where all members are right", +1, decimals=4),
)
COLOURS, WRONG = "magma", "#c22f44"
MOST_IMAGES = 10
# Inches: the label of an image, least and most sides of a map, above a map, above all.
LABEL, SMALLEST, LARGEST, TITLE, HEAD = 0.8, 0.76, 1.12, 0.17, 0.5
LETTERS = 13  # of a member's name that fit into an inch


def sections(results, record) -> list:
  """The section on an `Attribution`."""
  method = METHODS.get(record.method, record.method.replace("_", " "))
  with_steps = record.method == "integrated_gradients" and record.steps
  steps = f", {record.steps} steps" if with_steps else ""
  parts = [
    _table(record),
    page.Text(
      f"By {method}{steps}, on {record.images:,} test images: the logit of the true class with "
      "respect to the pixels. A (Rosales et al. 2023, Equation 7, of maps with unit norm) is the "
      "variance over members, summed over pixels; 0 = all members look at the same pixels. ± "
      "standard deviation over images.",
      note=True,
    ),
  ]
  if record.completeness:
    means, largest = zip(*record.completeness.values(), strict=True)
    ends = " to ".join(dict.fromkeys(entry.number(100 * end(means), 2) for end in (min, max)))
    parts.append(
      page.Text(
        "Completeness error, by which the sum of a map misses the change of the logit: means of "
        f"members {ends} %, at most {entry.number(100 * max(largest), 2)} %.",
        note=True,
      )
    )
  order = _members(results, record)
  if order:
    parts.append(_picture(results, record, order, method))
  return [page.Section("Where members look", parts)]


def _table(record) -> Table:
  """Diversity of maps by ensemble."""
  columns = []
  for measure in MEASURES:
    columns.append(
      marked(measure, {name: row[measure.key] for name, row in record.sequences.items()})
    )
  body = []
  for name, row in record.sequences.items():
    spread = entry.number(row["diversity_std"], 4)
    first = dataclasses.replace(columns[0][name], spread="" if spread == "–" else spread)
    body.append((name, [first, columns[1][name]]))
  return labelled("Ensemble", [("", [measure.title for measure in MEASURES])], [body])


def _members(results, record) -> list:
  """(sequence, its members not shown before) as far as they fit beside each other."""
  if record.shown is None or not len(record.shown["images"]):
    return []
  room = int((style.WIDTH - LABEL) / SMALLEST) - 1
  left, groups = list(record.shown["members"]), []
  for sequence, names in [*results.sequences.items(), ("", list(left))]:
    new = [name for name in names if name in left][:room]
    left = [name for name in left if name not in new]
    room -= len(new)
    if new:
      groups.append((sequence, new))
  return groups


def _picture(results, record, groups, method):
  count = sum(len(names) for _, names in groups)
  missing = len(record.shown["members"]) - count
  names = ", ".join(name for _, members in groups for name in members)
  caption = (
    f"Test images of {results.metrics['dataset']['name']} and each member's map by "
    f"{method}: bright pixels matter most to the logit of the true class. One colour "
    "scale a row; above a map the predicted class, red where it is wrong. Each member is "
    "shown once, in its first ensemble."
    + (f" {missing} more member{'s' * (missing > 1)} did not fit." if missing > 0 else "")
  )
  return page.picture(
    "attribution",
    draw(record, groups),
    f"Images: test images and the attribution maps of {names}.",
    caption,
  )


def draw(record, groups):
  """Rows are images, columns the image and every member's map.

  Args:
    record: an `Attribution` with maps.
    groups: [(sequence, members)] to show.
  """
  shown, columns = record.shown, 1 + sum(len(names) for _, names in groups)
  count = min(MOST_IMAGES, len(shown["images"]))
  side = min(LARGEST, (style.WIDTH - LABEL) / columns)
  across = LABEL + columns * side
  parts = max(1, min(count, int(style.WIDTH / across)))  # beside each other
  each = math.ceil(count / parts)
  figure, ax = images.blank(style.WIDTH, HEAD + each * (side + TITLE))
  for start in range(0, count, each):
    left = start // each * style.WIDTH / parts
    _part(ax, shown, groups, range(start, min(count, start + each)), left, side)
  return figure


def _part(ax, shown, groups, rows, left, side):
  """The images `rows` below each other, with heads above them."""
  top, inner = ax.get_ylim()[1], 0.94 * side
  bottoms = {row: top - HEAD - (place + 1) * (side + TITLE) for place, row in enumerate(rows)}
  left += LABEL
  for row, bottom in bottoms.items():
    images.image(ax, shown["images"][row], left, bottom, inner)
    label = textwrap.wrap(shown["classes"][shown["labels"][row]], 10)
    ax.text(left - 0.08, bottom + inner / 2, "\n".join(label[:3]), size=8, ha="right", va="center")
  for sequence, names in groups:
    ax.text(left + side, top - 0.16, sequence, size=9, weight="bold")
    for name in names:
      left += side
      lines = textwrap.wrap(
        name.replace("_", " "), max(4, int(LETTERS * inner)), break_long_words=False
      )
      ax.text(
        left + inner / 2,
        top - 0.22,
        "\n".join(lines[:2]),
        size=7,
        ha="center",
        va="top",
        linespacing=0.95,
      )
      for row, bottom in bottoms.items():
        _map(ax, shown, shown["members"].index(name), row, left, bottom, inner)


def _map(ax, shown, member, row, left, bottom, side):
  """A map, the largest value of any member's at full brightness, below the predicted class."""
  largest = float(np.nanmax(shown["maps"][:, row], initial=0.0)) or 1.0
  images.image(
    ax,
    np.asarray(shown["maps"][member, row], np.float64),
    left,
    bottom,
    side,
    cmap=COLOURS,
    vmin=0,
    vmax=largest,
  )
  predicted = int(shown["predictions"][member, row])
  right = predicted == shown["labels"][row]
  said, room = shown["classes"][predicted].removeprefix("class "), int(LETTERS * side)
  said = said if len(said) <= room else said[: room - 1] + "…"
  ax.text(
    left + side / 2,
    bottom + side + 0.03,
    said,
    size=8,
    ha="center",
    color=images.INK if right else WRONG,
    weight="normal" if right else "bold",
  )
