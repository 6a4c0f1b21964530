"""The pictures of points and lines: errors, ensembles, categories, students."""

import math

import numpy as np
from matplotlib.figure import Figure

from dissim_jax.render import plot, style
from dissim_jax.render.images import INK
from dissim_jax.studies.pool import analysis as analysis_lib
from dissim_jax.studies.pool import categories
from dissim_jax.studies.pool.analysis import Analysis
from dissim_jax.studies.pool.figures import ROW
from dissim_jax.studies.pool.statistics import spread, trend

MARKERS = "osD^vPX*"
COLOURS = dict(
  zip(
    (
      categories.ARCHITECTURE,
      categories.REINITIALISATION,
      categories.HYPERPARAMETERS,
      categories.OBJECTIVE,
    ),
    style.PALETTE,
    strict=False,
  )
)
ALL = "all pairs of architectures"


def _looks(place: int) -> dict:
  return {
    "color": style.PALETTE[place % len(style.PALETTE)],
    "marker": MARKERS[place % len(MARKERS)],
  }


def _band(ax, x, y, confidence):
  """Least-squares line and its band, where there is one."""
  fit = trend(x, y, confidence)
  if fit is not None:
    ax.plot(fit.x, fit.line, color=INK, lw=1.6, zorder=3)
    ax.fill_between(fit.x, fit.low, fit.high, color=INK, alpha=0.16, lw=0, zorder=2)


def _dots(count: int) -> dict:
  """Smaller and paler points where there are many."""
  return {"s": 20 if count < 500 else 9, "alpha": 0.75 if count < 500 else 0.4, "lw": 0}


def reduction(analysis: Analysis) -> Figure:
  """Similarity against the error reduction rate of ensembles of two (Figure 2)."""
  figure, panels = plot.panels(2, 3.7)
  pairs = analysis.pairs
  titles = {"logits": "mean of logits", "probs": "mean of probabilities"}
  for ax, (rule, title) in zip(panels, titles.items(), strict=True):
    rate = 100 * pairs.values[f"err_{rule}"]
    groups = (
      (pairs.same_architecture, categories.REINITIALISATION, "same architecture", "s"),
      (~pairs.same_architecture, categories.ARCHITECTURE, "two architectures", "o"),
    )
    for chosen, kind, label, marker in groups:
      if chosen.any():
        ax.scatter(
          pairs.similarity[chosen],
          rate[chosen],
          color=COLOURS[kind],
          marker=marker,
          label=label,
          zorder=4 if marker == "s" else 2.5,
          **_dots(int(chosen.sum())),
        )
    _band(ax, pairs.similarity, rate, analysis.settings.confidence)
    ax.set(title=title, xlabel="similarity s", ylabel="error reduction rate [%]")
  panels[0].legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none")
  return figure


def ensembles(analysis: Analysis) -> Figure:
  """Error, error reduction rate and images that all get wrong, by N and k (Figure 3)."""
  figure, panels = plot.panels(3, 3.6)
  titles = (
    ("error", "error of the ensemble [%]"),
    ("reduction", "error reduction rate [%]"),
    ("all_wrong", "images that all get wrong [%]"),
  )
  every = sorted({size for size, _ in analysis.ensembles})
  for k in sorted({k for _, k in analysis.ensembles}):
    sizes = [size for size, other in analysis.ensembles if other == k]
    for ax, (name, _) in zip(panels, titles, strict=True):
      values = [100 * getattr(analysis.ensembles[size, k][0], name).mean for size in sizes]
      ax.plot(sizes, values, lw=1.5, ms=5, label=f"{k} cluster{'s' * (k > 1)}", **_looks(k - 1))
  for ax, (_, title) in zip(panels, titles, strict=True):
    ax.set(title=title, xlabel="models N", xticks=every, xlim=(every[0] - 0.25, every[-1] + 0.25))
  panels[0].legend(title="drawn from", title_fontsize=8)
  return figure


def gains(analysis: Analysis) -> Figure:
  """Gain in accuracy against error inconsistency, by category (Gontijo-Lopes et al., Figure 2)."""
  figure, panels = plot.panels(2, 3.7)
  values = analysis.pairs.values
  shown = {"gain_mean_probs": "over the mean of the two", "gain_best_probs": "over the better one"}
  x = 100 * values["error_inconsistency"]
  for ax, (name, title) in zip(panels, shown.items(), strict=True):
    y = 100 * values[name]
    for marker, category in zip("so^D", categories.CATEGORIES, strict=True):
      chosen = analysis.within(category)
      if chosen.any():
        few = 4 if chosen.sum() < 0.3 * analysis.compared.sum() else 2.5
        ax.scatter(
          x[chosen],
          y[chosen],
          color=COLOURS[category],
          label=category,
          marker=marker,
          zorder=few,
          **_dots(int(chosen.sum())),
        )
    _band(ax, x[analysis.compared], y[analysis.compared], analysis.settings.confidence)
    ax.axhline(0, color=INK, lw=0.8)
    ax.set(title=f"gain {title}", xlabel="error inconsistency [%]", ylabel="gain [points]")
  panels[0].legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none")
  return figure


def within(analysis: Analysis, rows: list) -> Figure:
  """Similarity within each architecture by category, beside all others (Figure D.1)."""
  lines = [(kind, category) for kind, category, _ in rows] + [(ALL, categories.ARCHITECTURE)]
  pairs = analysis.pairs
  owners = np.array([analysis.kinds[a] for a in pairs.first], object)
  figure, (ax,) = plot.panels(1, ROW * len(lines) + 0.65)
  for row, (kind, category) in enumerate(lines):
    chosen = (
      ~pairs.same_architecture
      if kind == ALL
      else ((owners == kind) & pairs.same_architecture & (analysis.categories == category))
    )
    values = pairs.similarity[chosen]
    similarity = spread(values)
    ax.scatter(
      values,
      np.full(len(values), row),
      color=COLOURS[category],
      lw=0,
      s=14,
      alpha=0.3 if len(values) > 20 else 0.8,
    )
    error = 0 if math.isnan(similarity.std) else similarity.std
    ax.errorbar(similarity.mean, row, xerr=error, color=INK, fmt="|", ms=9, lw=1.2, capsize=3)
  ax.set_yticks(
    range(len(lines)),
    [ALL if kind == ALL else f"{kind[:34]}: {category}" for kind, category in lines],
  )
  ax.set(ylim=(len(lines) - 0.4, -0.6), xlabel="similarity s")
  ax.grid(axis="y", visible=False)
  return figure


def students(analysis: Analysis) -> Figure:
  """Students' accuracy against similarity of their teachers (Figure 5)."""
  kinds = list(dict.fromkeys(student.kind for student in analysis.students))
  figure, axes = plot.panels(2 * len(kinds), 3.5, columns=2)
  titles = {
    "to_undistilled": "similarity of teacher and undistilled model",
    "to_student": "similarity of teacher and student",
  }
  for line, kind in zip(zip(axes[::2], axes[1::2], strict=True), kinds, strict=True):
    kind_students = [student for student in analysis.students if student.kind == kind]
    plain = 100 * analysis_lib.plain_accuracy(analysis, kind)
    for ax, (name, title) in zip(line, titles.items(), strict=True):
      for same, label, place in ((True, "teacher of the same base", 0), (False, "other base", 1)):
        chosen = [student for student in kind_students if student.same_base == same]
        x = np.array([getattr(student, name) for student in chosen])
        y = np.array([100 * student.accuracy for student in chosen])
        if chosen:
          ax.plot(x, y, ls="", ms=6, mew=0, alpha=0.85, label=label, **_looks(place))
      if not math.isnan(plain):
        ax.axhline(plain, color=INK, lw=1.1, ls="--", label="undistilled")
      ax.set(title=kind[:50], xlabel=title, ylabel="student accuracy [%]")
    line[0].legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none")
  return figure
