"""Whether images made to fool one member fool the others, and what an ensemble gains by that."""

import math

import numpy as np

from dissim_jax.files import run, typed
from dissim_jax.registry.entry import Quantity
from dissim_jax.render import images, page, style
from dissim_jax.render.table import Cell, Table, labelled, marked
from dissim_jax.studies.transfer.record import _describe

PICTURES = ("attacked_images",)
FOOLED = Quantity("fooled", "Fooled", -1, 1, "%")
SIMILARITY = Quantity("similarity", "Similarity s", -1, 2)
ATTACKED = (
  Quantity("members", "Members alone", +1, 1, "%"),
  Quantity("attacked", "Ensemble", +1, 1, "%"),
  Quantity("gain", "Gain over the members' mean", +1, 1, "points"),
  Quantity("gain_over_best", "Gain over the best member", +1, 1, "points"),
)
LABEL, HEAD, TITLE, LARGEST = 1.35, 0.3, 0.17, 0.9  # inches
WRONG = "#c22f44"


def sections(results, record) -> list:
  """The section on a `Transferability`."""
  parts = [page.Text(sentence) for sentence in [answer(results, record)] if sentence]
  if record.pairs:
    parts += [pair_table(results, record), page.Text(_pair_note(record), note=True)]
  table = ensemble_table(results, record)
  if table is not None:
    parts += [
      table,
      page.Text(
        "Accuracy on all test images used when those that the attacked member got right are "
        "replaced by images made to fool it. Gain: the ensemble's accuracy less that of its "
        "members (bold: best of the ensembles under the same attack; underlined: better than the "
        "baseline). An ensemble that contains the attacked member has been attacked in part by its "
        "own gradients.",
        note=True,
      ),
    ]
  if record.shown is not None and len(record.shown["original"]):
    parts.append(_picture(results, record))
  return [page.Section("Attack transfer between members", parts)]


def answer(results, record) -> str:
  """Whether members that were forced apart are also apart for an attacker, in numbers."""
  parts = []
  for relation, word in (("independent", "independent"), ("against", "dissimilar")):
    rows = [row for pair, row in record.pairs.items() if results.relation(*pair) == relation]
    values = np.array([value for row in rows for value in (row["a_to_b"], row["b_to_a"])])
    values = values[~np.isnan(values)]
    if len(values):
      scores = np.array([row["similarity"] for row in rows])
      parts.append(
        f"{FOOLED.text(values.mean())} % for pairs that are {word} "
        f"(mean s {SIMILARITY.text(np.nanmean(scores))}, "
        f"{len(rows)} pair{'s' * (len(rows) > 1)})"
      )
  if len(parts) < 2:
    return ""
  return (
    "Of the images that both members of a pair get right, those made to fool one also fool "
    f"the other in {' and '.join(parts)}."
  )


def pair_table(results, record) -> Table:
  """Every pair, by how it was trained."""
  bodies = {}
  for (a, b), row in record.pairs.items():
    relation = run.RELATION_NAMES[results.relation(a, b)]
    numbers = [
      Cell(f"{row['images']:.0f}" if row["images"] else "0"),
      *(Cell(FOOLED.text(row[key])) for key in ("a_to_b", "b_to_a")),
      Cell(SIMILARITY.text(row["similarity"])),
    ]
    bodies.setdefault(relation, []).append((f"{a}, {b} ({relation})", numbers))
  heads = ["images both get right", "second fooled [%]", "first fooled [%]", "similarity s"]
  order = [name for name in run.RELATION_NAMES.values() if name in bodies]
  return labelled("Pair", [("", heads)], [bodies[name] for name in order])


def _pair_note(record) -> str:
  rates = [value for value in record.white_box.values() if not math.isnan(value)]
  ends = " to ".join(dict.fromkeys(FOOLED.text(end(rates)) for end in (min, max))) if rates else "–"
  return (
    f"{_describe(record.attack)}, on {record.images:,} test images. Second fooled: of the "
    "images that both get right, the share on which the second errs once the attack on the "
    "first has changed them. s = log of the mean of both shares in per cent (Hwang et al., "
    "Equation 1): log 100 = 4.61 where every attack fools both. A member's own attack fools "
    f"it on {ends} % of the images that it gets right."
  )


def ensemble_table(results, record) -> Table | None:
  """Ensembles of several members under the attack of each member."""
  rows = {key: row for key, row in record.ensembles.items() if row["size"] > 1}
  if not rows:
    return None
  names = typed.in_order(results, {sequence: 0 for _, sequence in rows})
  bodies = []
  for source in record.white_box:
    source_rows = {name: rows[source, name] for name in names if (source, name) in rows}
    columns = [
      marked(measure, {name: row[measure.key] for name, row in source_rows.items()})
      for measure in ATTACKED
    ]
    bodies.append(
      [
        (
          f"{source}: {name} of {row['size']}",
          [Cell(FOOLED.text(row["clean"])), *(column[name] for column in columns)],
        )
        for name, row in source_rows.items()
      ]
    )
  heads = ["Clean ensemble [%]", *(measure.title for measure in ATTACKED)]
  return labelled("Attack on: ensemble", [("", heads)], [body for body in bodies if body])


def _picture(results, record):
  caption = (
    f"Test images of {results.metrics['dataset']['name']} as they are and changed to fool "
    "each member; above an image what the attacked member takes it for, red where it is "
    "wrong (– where it was wrong on the image as it is)."
  )
  return page.picture(
    "attacked_images",
    draw(record),
    "Images: test images before and after the attack on each member.",
    caption,
  )


def draw(record):
  """Rows: the images as they are, then changed for every member."""
  shown = record.shown
  count = len(shown["original"])
  side = min(LARGEST, (style.WIDTH - LABEL) / count)
  rows = 1 + len(shown["members"])
  figure, ax = images.blank(style.WIDTH, HEAD + rows * (side + TITLE))
  pixels = [
    shown["original"],
    *(
      np.round(255 * np.clip(adversarial, 0, 1)).astype(np.uint8)
      for adversarial in shown["adversarial"]
    ),
  ]
  for row, (name, pictures) in enumerate(zip(("as it is", *shown["members"]), pixels, strict=True)):
    bottom = ax.get_ylim()[1] - HEAD - (row + 1) * (side + TITLE) + TITLE
    ax.text(LABEL - 0.1, bottom + side / 2, name, size=8, ha="right", va="center")
    for column, picture in enumerate(pictures):
      left = LABEL + column * side
      images.image(ax, picture, left, bottom, 0.94 * side)
      label = int(shown["labels"][column])
      guess = label if row == 0 else int(shown["predictions"][row - 1, column])
      ax.text(
        left + 0.47 * side,
        bottom + 0.94 * side + 0.02,
        "–" if guess < 0 else str(guess),
        size=8,
        ha="center",
        color=images.INK if guess in (label, -1) else WRONG,
        weight="normal" if guess in (label, -1) else "bold",
      )
  return figure
