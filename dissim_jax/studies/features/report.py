"""What two members' last features add to each other, and how far they can be compressed."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from dissim_jax.render import images, page, plot

PICTURES = ("features",)


def sections(results, record) -> list:
  """The section on `Features`; nothing where there are no two members."""
  del results
  if not record.sequences:
    return []
  pairs = "; ".join(
    f"{name}: a = {row['a']}, b = {row['b']}, {row['width']} features"
    for name, row in record.sequences.items()
  )
  caption = (
    "Logistic regression on features before the last layer of two members, fitted on "
    f"{record.num_train:,} training images, measured on {record.num_test:,} test images "
    f"(C = {record.regularisation:g}). Left: a share of a's features and the rest of b's, as many "
    "as one member has. Right: all features of both, the first so many in the order of least "
    "covariance with the other member's (solid) or at random (dashed). Means and standard "
    f"deviations of {record.draws} draws (Gontijo-Lopes et al. 2022, Figure 6). {pairs}."
  )
  alt = (
    f"Lines: accuracy against the share of one member's features, and against the number of "
    f"features, for {', '.join(record.sequences)}."
  )
  return [
    page.Section(
      "Features of two members joined", [page.picture("features", draw(record), alt, caption)]
    )
  ]


def draw(record) -> Figure:
  """Accuracy against the share of a's features, and against the number of features."""
  looks = images.looks(record.sequences)
  handles = [
    Line2D([], [], color=looks[name]["color"], lw=2, label=name) for name in record.sequences
  ]
  handles += [
    Line2D([], [], color=images.INK, lw=1.4, ls=line, label=text)
    for line, text in (("-", "least covariance first"), ("--", "random order"))
  ]
  figure, (left, right) = plot.panels(2, 3.3, handles, legend_columns=6)
  for name, row in record.sequences.items():
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
    {value for row in record.sequences.values() for value in row["dimensions"] if value > 0}
  )
  if ticks:
    right.set_xscale("log", base=2)
    right.xaxis.set_minor_locator(NullLocator())
    right.set_xticks(*_spaced(ticks))
  return figure


def _spaced(ticks):
  """Positions and labels, those left out that are within a third of an octave of the last."""
  kept = []
  for tick in ticks:
    if not kept or tick > 1.26 * kept[-1]:
      kept.append(tick)
  return kept, [f"{tick:g}" for tick in kept]
