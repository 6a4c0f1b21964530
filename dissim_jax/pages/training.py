"""The picture of training: losses, accuracies, similarity and diversity per epoch."""

import math

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dissim_jax.files import run
from dissim_jax.render import plot
from dissim_jax.render.style import colours

INK = "#4c5560"


def curves(results) -> Figure | None:
  """Loss, accuracy, similarity with its least-squares check and diversity, per epoch.

  A line for every member, or for every group of members that were trained jointly.
  """
  if not results.curves:
    return None
  joint = any(_defined(rows, "train_diversity") for rows in results.curves.values())
  panels = [
    (
      "Loss",
      (
        ("train_cross_entropy", "-", "cross-entropy"),
        ("train_loss", ":", "as minimised" if joint else "with the penalty"),
      ),
    ),
    (
      "Accuracy",
      (
        ("train_accuracy", "-", "training"),
        ("train_ensemble_accuracy", "-.", "training, ensemble"),
        ("validation_accuracy", "--", "validation"),
        ("validation_ensemble_accuracy", ":", "validation, ensemble"),
      ),
    ),
    (
      "Similarity to earlier members",
      (
        ("train_similarity", "-", run.metric_name(results)),
        ("r2_least_squares", "--", "least-squares R²"),
      ),
    ),
    ("Diversity of a group", (("train_diversity", "-", "diversity term"),)),
  ]
  panels = [
    panel
    for panel in panels
    if any(_defined(rows, key) for rows in results.curves.values() for key, *_ in panel[1])
  ]
  if not panels:
    return None
  names = {name: label(results, name) for name in results.curves}
  longest = max(map(len, names.values()))
  columns = max(1, min(len(names), 150 // (longest + 5)))  # what fits beside each other
  owners = dict.fromkeys(row.get("group") or name for name, row in results.members.items())
  lines = dict(zip(owners, colours(len(owners)), strict=True))
  handles = [Line2D([], [], color=lines[name], lw=2, label=text) for name, text in names.items()]
  figure, axes = plot.panels(len(panels), 3.2, handles, legend_columns=columns)
  for ax, (title, series) in zip(axes, panels, strict=True):
    _panel(ax, results, lines, title, series)
  return figure


def label(results, name: str) -> str:
  """A member's name, or a group's with how many members it has."""
  if name in results.members:
    return name
  members = sum(row.get("group") == name for row in results.members.values())
  return f"{name} (mean of {members} members)"


def _panel(ax, results, lines, title, series):
  styles = []
  for key, line, text in series:
    shown = {name: rows for name, rows in results.curves.items() if _defined(rows, key)}
    if key == "train_loss":  # equal to the cross-entropy where nothing is added to it
      shown = {
        name: rows
        for name, rows in shown.items()
        if _defined(rows, "train_similarity") or _defined(rows, "train_diversity")
      }
    for name, rows in shown.items():
      values = [math.nan if row.get(key) is None else row[key] for row in rows]
      ax.plot(
        [row["epoch"] for row in rows],
        values,
        line,
        color=lines[name],
        lw=1.4,
        marker="." if len(rows) < 4 else None,
      )
    if shown:
      styles.append(Line2D([], [], color=INK, ls=line, lw=1.4, label=text))
  ax.set(title=title, xlabel="epoch")
  ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  ax.margins(x=0.02)
  ax.xaxis.get_major_locator().set_params(integer=True)
  if len(styles) > 1 or title.startswith(("Similarity", "Diversity")):
    ax.legend(handles=styles, loc="best", framealpha=0.85, frameon=True, edgecolor="none")


def _defined(rows, key):
  return any(row.get(key) is not None and not math.isnan(row[key]) for row in rows)
