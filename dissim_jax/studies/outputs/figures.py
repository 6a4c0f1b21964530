"""The pictures of calibration, specialisation, interpolation and greedy choice."""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dissim_jax.render import images, plot, style
from dissim_jax.render.style import PALETTE
from dissim_jax.studies.outputs.record import GROUPS

COLUMNS = 4  # of panels
MOST_BARS = 100  # classes that are drawn as bars
_GROUP_TITLES = {
  "both_right": "both right",
  "only_a": "only a right",
  "only_b": "only b right",
  "neither": "neither right",
}
_GROUP_COLOURS = dict(zip(GROUPS, (PALETTE[3], PALETTE[0], PALETTE[2], style.GREY), strict=True))
_SETS = (("validation_accuracy", "--", "validation images"), ("test_accuracy", "-", "test images"))


def reliability(record) -> Figure:
  """Reliability diagrams of every ensemble and its members, before and after calibration."""
  panels = []
  for name, sequence in record.sequences.items():
    members = [record.members[member] for member in record.names[name] if member in record.members]
    for stage in ("before", "after") if record.calibrated else ("before",):
      block = getattr(sequence, stage)
      if block is not None:
        title = f"{name}, {stage}" if record.calibrated else name
        parts = [getattr(member, stage) for member in members]
        panels.append(
          (title, block.ensembles[record.rule], [scores.reliability for scores in parts if scores])
        )
  handles = [
    Line2D([], [], color=PALETTE[0], lw=0.8, label="members"),
    Line2D([], [], color=PALETTE[1], lw=2.4, label="ensemble"),
    Line2D([], [], color="#cfd4d9", lw=6, label="share of images"),
  ]
  figure, axes = plot.panels(len(panels), 2.85, handles, columns=COLUMNS)
  for ax, (title, ensemble, members) in zip(axes, panels, strict=True):
    count = np.nan_to_num(ensemble.reliability.count)
    widths = np.diff(ensemble.reliability.edges)
    ax.bar(
      ensemble.reliability.edges[:-1],
      count / max(1.0, count.sum()),
      widths,
      align="edge",
      color="#cfd4d9",
      zorder=1,
    )
    ax.plot([0, 1], [0, 1], color=images.INK, lw=0.8, ls="--")
    for member in members:
      _reliability_line(ax, member, color=PALETTE[0], lw=0.8)
    _reliability_line(ax, ensemble.reliability, color=PALETTE[1], lw=2.4, marker=".", ms=6)
    error = 100 * ensemble.values["expected_calibration_error"]
    ax.set_title(title, size=9, loc="left")
    if not math.isnan(error):
      ax.text(
        0.04,
        0.95,
        f"calibration error {error:.2f} %",
        size=8,
        va="top",
        transform=ax.transAxes,
        bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1.5},
      )
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence")
  for ax in axes[::COLUMNS]:
    ax.set_ylabel("accuracy")
  return figure


def _reliability_line(ax, record, **look):
  full = (record.count > 0) & np.isfinite(record.confidence) & np.isfinite(record.accuracy)
  ax.plot(record.confidence[full], record.accuracy[full], **look)


def specialisation(record) -> Figure | None:
  """Histograms of θ by who is right, a row an ensemble (Gontijo-Lopes et al. 2022, Figure 3)."""
  rows = _specialised(record)
  if not rows:
    return None
  figure, axes = plot.panels(len(GROUPS) * len(rows), 1.95, columns=len(GROUPS))
  highest = {
    group: max(np.nanmax(row[group], initial=0.0) for row in rows.values()) for group in GROUPS
  }
  for index, ax in enumerate(axes):
    (name, row), group = list(rows.items())[index // len(GROUPS)], GROUPS[index % len(GROUPS)]
    edges = row["edges"]
    ax.bar(
      edges[:-1],
      np.nan_to_num(row[group]),
      np.diff(edges),
      align="edge",
      lw=0,
      color=_GROUP_COLOURS[group],
    )
    ax.axvline(0, color=images.INK, lw=0.8)
    total = np.nansum(row[group])
    ax.set_title(f"{_GROUP_TITLES[group]} ({total:,.0f})", size=9, loc="left", weight="normal")
    ax.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.06 * highest[group] or 1.0))
    ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.set_xlabel("θ   ← b surer · a surer →", size=8)
    if group == GROUPS[0]:
      ax.set_ylabel(f"{name}\na = {row['a']}\nb = {row['b']}", size=7)
  return figure


def _specialised(record):
  return {
    name: sequence.specialisation
    for name, sequence in record.sequences.items()
    if sequence.specialisation is not None
  }


def specialisation_by_class(record) -> Figure | None:
  """Mean θ by class: a bar for every ensemble, or sorted lines of very many classes."""
  rows = {
    name: row["by_class"]
    for name, row in _specialised(record).items()
    if not np.isnan(row["by_class"]).all()
  }
  if not rows:
    return None
  looks = images.looks(record.sequences)
  classes = max(len(values) for values in rows.values())
  handles = [Line2D([], [], color=looks[name]["color"], lw=5, label=name) for name in rows]
  figure, (ax,) = plot.panels(1, 2.4, handles, legend_columns=8)
  for index, (name, values) in enumerate(rows.items()):
    if classes > MOST_BARS:
      ax.plot(np.sort(values), color=looks[name]["color"], lw=1.6)
      continue
    width = 0.8 / len(rows)
    places = np.arange(len(values)) + (index - (len(rows) - 1) / 2) * width
    ax.bar(places, np.nan_to_num(values), 0.9 * width, color=looks[name]["color"])
  ax.axhline(0, color=images.INK, lw=0.8)
  ax.set(
    xlabel="class" if classes <= MOST_BARS else "classes, sorted",
    ylabel="mean θ",
    xlim=(-0.6, classes - 0.4),
    title="Specialisation by class",
  )
  ax.xaxis.set_major_locator(MaxNLocator(20, integer=True))
  ax.grid(axis="x", visible=False)
  return figure


def interpolation(record) -> Figure | None:
  """Accuracy between two members by weight (Gontijo-Lopes et al. 2022, Figure 11)."""
  rows = {
    name: sequence.interpolation
    for name, sequence in record.sequences.items()
    if sequence.interpolation is not None
  }
  if not rows:
    return None
  kinds = (("", PALETTE[0], "simple"), ("by_class_", PALETTE[1], "by class"))
  handles = [Line2D([], [], color=colour, lw=1.6, label=text) for _, colour, text in kinds]
  handles += [
    Line2D([], [], color=images.INK, lw=1.4, ls=line, label=text) for _, line, text in _SETS
  ]
  figure, axes = plot.panels(len(rows), 2.5, handles, columns=min(COLUMNS, len(rows)))
  for ax, (name, row) in zip(axes, rows.items(), strict=True):
    for prefix, colour, _ in kinds:
      for key, line, _ in _SETS:
        ax.plot(row["weights"], 100 * row[prefix + key], ls=line, color=colour, lw=1.5)
    ax.set_title(name, size=9, loc="left")
    ax.set_xlabel(f"t   a = {row['a']}, b = {row['b']}", size=8)
    ax.set_xlim(row["weights"].min(initial=0.0), row["weights"].max(initial=1.0))
    ax.yaxis.set_major_locator(MaxNLocator(4))
  for ax in axes[::COLUMNS]:
    ax.set_ylabel("accuracy [%]")
  return figure


def greedy(record) -> Figure | None:
  """Accuracy of an ensemble that grows by the most useful member."""
  row = record.greedy
  if row is None or not row["order"]:
    return None
  handles = [
    Line2D([], [], color=PALETTE[0], lw=1.6, marker=".", ls=line, label=text)
    for _, line, text in _SETS
  ]
  figure, (ax,) = plot.panels(1, 2.5, handles)
  for key, line, _ in _SETS:
    ax.plot(100 * row[key], ls=line, color=PALETTE[0], lw=1.6, marker=".", ms=7)
  names = [name if not index else f"+ {name}" for index, name in enumerate(row["order"])]
  ax.set_xticks(range(len(names)), names)
  ax.set(ylabel="accuracy [%]", xlim=(-0.4, len(names) - 0.6), title="Greedy choice of members")
  ax.yaxis.set_major_locator(MaxNLocator(4))
  return figure
