"""What two members' last features add to each other, and how far they can be compressed."""

import dataclasses

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from dissim_jax.report import blocks, canvas, optional, style

FILE = "features.json"
PICTURES = ("features",)
LEFT, BOTTOM, TOP, HEIGHT, GAP = 0.6, 0.75, 0.3, 2.5, 0.6  # inches


@dataclasses.dataclass(frozen=True)
class Features:
  """What `evaluation/features.json` holds.

  Attributes:
    draws: random choices that means and standard deviations are over.
    regularisation: of the logistic regression.
    num_train, num_test: images it was fitted and measured on.
    sequences: {name: {"a", "b", "width", "shares", "accuracy", "accuracy_std", "dimensions",
      "diverse", "random", "random_std"}}, the baseline first; the lists are float64 arrays.
  """

  draws: int
  regularisation: float
  num_train: int
  num_test: int
  sequences: dict


def read(results) -> Features | None:
  """Reads the file of a run; None where features were not studied.

  Raises:
    UserError: it is damaged; the sentence names it.
  """
  content = optional.read_json(results.workdir, FILE)
  if content is None:
    return None
  with optional.form(results.workdir, FILE):
    return Features(
      int(content["draws"]),
      optional.number(content["regularisation"]),
      int(content["num_train"]),
      int(content["num_test"]),
      {
        name: _sequence(content["sequences"][name])
        for name in optional.in_order(results, content["sequences"])
      },
    )


def _sequence(row):
  lists = {
    "shares": optional.places(row["shares"]),
    **{key: optional.numbers(row[key]) for key in ("accuracy", "accuracy_std")},
  }
  compression = {
    "dimensions": optional.places(row["compression"]["dimensions"]),
    **{
      key: optional.numbers(row["compression"][key]) for key in ("diverse", "random", "random_std")
    },
  }
  optional.same_length(**lists)
  optional.same_length(**compression)
  return {
    "a": str(row["a"]),
    "b": str(row["b"]),
    "width": int(row["width"]),
    **lists,
    **compression,
  }


def sections(results, found) -> list:
  """The section on `Features`; nothing where there are no two members."""
  del results
  if not found.sequences:
    return []
  pairs = "; ".join(
    f"{name}: a = {row['a']}, b = {row['b']}, {row['width']} features"
    for name, row in found.sequences.items()
  )
  caption = (
    "Logistic regression on features before the last layer of two members, fitted on "
    f"{found.num_train:,} training images, measured on {found.num_test:,} test images (C = "
    f"{found.regularisation:g}). Left: a share of a's features and the rest of b's, as many as one "
    "member has. Right: all features of both, the first so many in the order of least covariance "
    f"with the other member's (solid) or at random (dashed). Means and standard deviations of "
    f"{found.draws} draws (Gontijo-Lopes et al. 2022, Figure 6). {pairs}."
  )
  alt = (
    f"Lines: accuracy against the share of one member's features, and against the number of "
    f"features, for {', '.join(found.sequences)}."
  )
  return [
    blocks.Section(
      "Features of two members joined", [blocks.picture("features", draw(found), alt, caption)]
    )
  ]


def draw(found) -> Figure:
  """Accuracy against the share of a's features, and against the number of features."""
  height = TOP + HEIGHT + BOTTOM
  figure = Figure(figsize=(style.WIDTH, height))
  width = (style.WIDTH - LEFT - GAP - 0.15) / 2
  left, right = (
    figure.add_axes(
      [
        (LEFT + index * (width + GAP)) / style.WIDTH,
        BOTTOM / height,
        width / style.WIDTH,
        HEIGHT / height,
      ]
    )
    for index in range(2)
  )
  looks = canvas.looks(found.sequences)
  for name, row in found.sequences.items():
    colour = looks[name]["color"]
    left.errorbar(
      100 * row["shares"],
      100 * row["accuracy"],
      yerr=np.nan_to_num(100 * row["accuracy_std"]),
      color=colour,
      lw=1.6,
      marker=".",
      ms=7,
      capsize=2.5,
      elinewidth=1.0,
    )
    x, mean, std = row["dimensions"], 100 * row["random"], 100 * row["random_std"]
    right.plot(x, 100 * row["diverse"], color=colour, lw=1.6, marker=".", ms=7)
    right.plot(x, mean, color=colour, lw=1.3, ls="--")
    right.fill_between(x, mean - std, mean + std, color=colour, alpha=0.15, lw=0)
  left.set(xlabel="share of a's features [%]", ylabel="accuracy [%]", title="Features mixed")
  right.set(xlabel="number of features", title="Features compressed")
  ticks = sorted(
    {value for row in found.sequences.values() for value in row["dimensions"] if value > 0}
  )
  if ticks:
    right.set_xscale("log", base=2)
    right.xaxis.set_minor_locator(NullLocator())
    right.set_xticks(*_spaced(ticks))
  handles = [
    Line2D([], [], color=looks[name]["color"], lw=2, label=name) for name in found.sequences
  ]
  handles += [
    Line2D([], [], color=canvas.INK, lw=1.4, ls=line, label=text)
    for line, text in (("-", "least covariance first"), ("--", "random order"))
  ]
  figure.legend(handles=handles, loc="lower center", ncols=min(6, len(handles)))
  return figure


def _spaced(ticks):
  """Positions and labels, those left out that are within a third of an octave of the last."""
  kept = []
  for tick in ticks:
    if not kept or tick > 1.26 * kept[-1]:
      kept.append(tick)
  return kept, [f"{tick:g}" for tick in kept]
