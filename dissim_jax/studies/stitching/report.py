"""Stitching in words and tables: captions, a finding, the page's table, the terminal's tables."""

import math

import rich.console
import rich.text

from dissim_jax.registry.entry import number
from dissim_jax.registry.stitching import EXPERIMENTS
from dissim_jax.render import page, terminal
from dissim_jax.render.table import Cell, Table, labelled
from dissim_jax.studies.stitching import figures, panels, record
from dissim_jax.studies.stitching.looks import METHODS

PREFIX = "stitching_"  # of a picture's name
PICTURES = tuple(PREFIX + name for name in EXPERIMENTS)
_PAPER = "Csiszárik et al. 2021"
_TRAINED = "task loss trained {epochs} epochs on {labels} labels from the {start} start"
# What is on the axes, how stitches were trained, and where the paper has it.
_SHOWN = {
  "matching": (
    "Accuracy of the stitched network relative to the target's own (y) at every tap (x), and "
    "LinCKA and R² between the target's tap and what least squares made of the source's",
    _TRAINED,
    "Experiment 1, Figure 2",
  ),
  "width": (
    "Relative accuracy (y) against the width multiplier of both networks (x), a panel a tap",
    _TRAINED,
    "Experiment 2, Figure 3",
  ),
  "indices": (
    "LinCKA, R², CCA and SVCCA between the target's tap and the stitched source's (left axis) and "
    "cross-entropy to the target's probabilities (right axis) against the epoch of task loss (x), "
    "a panel a tap; R² below −1 leaves the picture",
    "{epochs} epochs on {labels} labels from the least squares start",
    "Experiment 3, Figure 4",
  ),
  "low_cka": (
    "CKA of a stitched tap with the tap itself and accuracy relative to the network's own (y) "
    "against the epoch (x) where the loss penalises the CKA, a panel a tap",
    "{epochs} epochs on {labels} labels from the identity",
    "Experiment 4, Figure 5",
  ),
  "initialisation": (
    "Relative accuracy (y) of each solution by its start at every tap (x), a line at the mean",
    "each trained {epochs} epochs on {labels} labels",
    "Experiment 5, Figure 6",
  ),
  "connectivity": (
    "Relative accuracy (y) of (1 − t) S₁ + t S₂ against t (x) for all pairs of solutions from "
    "random starts that were accurate enough to be kept, a panel a tap",
    "each trained {epochs} epochs on {labels} labels",
    "Experiment 6",
  ),
  "sparsity": (
    "Relative accuracy (y) against the share of zeros in the stitching matrix (x) under growing L1 "
    "regularisation, a panel a tap, and examples of the matrices (red: positive, blue: negative, "
    "white: zero, each to its own scale)",
    _TRAINED,
    "Experiment 7, Figure 8",
  ),
  "low_rank": (
    "Relative accuracy (y) against the rank of the stitch (x), a panel a tap",
    _TRAINED,
    "Section 7, Figure 7",
  ),
}
_ALT = {
  "matching": "Lines: relative accuracy of stitched networks by tap and method",
  "width": "Lines: relative accuracy of stitched networks by width multiplier, a panel a tap",
  "indices": "Lines: similarity and cross-entropy by epoch, a panel a tap",
  "low_cka": "Lines: CKA and relative accuracy by epoch, a panel a tap",
  "initialisation": "Points: relative accuracy of solutions by start and tap",
  "connectivity": "Lines: relative accuracy between two solutions, a panel a tap",
  "sparsity": "Lines: relative accuracy by sparsity, a panel a tap, above stitching matrices",
  "low_rank": "Lines: relative accuracy by rank, a panel a tap",
}
_WHOSE = {
  "independent": ("an independent member's accuracy", "an independent one's"),
  "against": ("a dissimilar member's accuracy", "a dissimilar one's"),
  "joint": ("a jointly trained member's accuracy", "a jointly trained one's"),
  "other": ("a member's it was not trained against", "one's it was not trained against"),
  "itself": ("its own accuracy", "its own"),
}
_SHORT = {
  "independent": "independent",
  "against": "dissimilar",
  "joint": "joint",
  "other": "other",
  "itself": "itself",
  "regularised taps": "reg.",
  "all taps": "all",
}
_HEADS = {"identity": "no map"}  # shorter, for a column
KINDS_BESIDE = 2  # in a table of the page
MOST_NAMED = 6  # taps in a sentence
STITCH_COLUMNS = (
  ("accuracy", "accuracy\n%", 100, 2),
  ("relative_accuracy", "relative\n%", 100, 2),
  ("cross_entropy", "cross-\nentropy", 1, 3),
  ("lincka", "LinCKA", 1, 3),
  ("r2", "R²", 1, 3),
  ("sparsity", "sparsity\n%", 100, 1),
)


def sections(results, stitching) -> list[page.Section]:
  """The section on a `Stitching`; nothing where no experiment was done."""
  if not stitching.pairs and not stitching.left_out:
    return []
  parts = [
    page.Text(
      "The lower half of one network (the source), a 1×1 convolution (the stitch), and the upper "
      "half of another (the target). Relative accuracy is that of the joined network divided by "
      "the target's own."
    )
  ]
  for experiment, pairs in stitching.pairs.items():
    parts += [
      page.Heading(EXPERIMENTS[experiment].label),
      page.picture(
        PREFIX + experiment,
        figures.draw(results, experiment, pairs),
        alt(experiment, pairs),
        caption(experiment, results, pairs),
      ),
    ]
    if experiment == "matching":
      parts += _matching_blocks(results, stitching)
  return [
    page.Section("Stitching", [*parts, *(page.Text(t, note=True) for t in stitching.left_out)])
  ]


def _matching_blocks(results, stitching) -> list:
  tables = matching_tables(results, stitching)
  regularised = len(tables[0].bodies[-1].rows) > 1
  note = (
    "Relative accuracy in percent, ± standard deviation of several pairs"
    f"{'; * regularised taps' if regularised else ''}. Below: means over taps and pairs."
  )
  return [*tables, page.Text(note, note=True)]


def caption(experiment, results, pairs) -> str:
  """What a figure shows, of which images and which training, where the paper has it."""
  shown, trained, where = _SHOWN[experiment]
  settings = {
    key: _values(pair.settings[key] for pair in pairs) for key in ("epochs", "labels", "start")
  }
  text = (
    f"{shown}; on {_counts(pair.num_test for pair in pairs)} test images of "
    f"{results.metrics['dataset']['name']}, fitted on "
    f"{_counts(pair.num_train for pair in pairs)} training images, "
    f"{trained.format(**settings)} ({_PAPER}, {where})."
  )
  several = any(
    len({(pair.source, pair.target) for pair in group}) > 1
    for group in record.by_kind(pairs).values()
  )
  if several and experiment not in ("initialisation", "connectivity"):
    text += " Lines are means over pairs, bands ± one standard deviation."
  taps = record.all_taps(pairs)
  some = panels.shown_taps(results, pairs)
  if experiment in panels.DRAW and len(some) < len(taps):
    marked = " and the regularised" if set(some) & set(results.regularised_taps) else ""
    text += f" {len(some)} of {len(taps)} taps are shown, evenly spaced{marked}."
  return text


def alt(experiment, pairs) -> str:
  """What a reader who cannot see the picture is told."""
  kinds = "; ".join(record.heading(kind, group) for kind, group in record.by_kind(pairs).items())
  return f"{_ALT[experiment]}, for {kinds}."


def _values(values):
  return " or ".join(str(value).replace("_", " ") for value in dict.fromkeys(values))


def _counts(values):
  return " or ".join(f"{value:,}" for value in dict.fromkeys(values))


def sentence(results, stitching) -> str:
  """How much of the target's accuracy direct matching and task loss keep, for each kind of pair.

  At the regularised taps that were stitched, or else at all taps that were.
  """
  pairs = stitching.pairs.get("matching", [])
  groups = record.by_kind(pairs)
  taps = record.all_taps(pairs)
  marked = [tap for tap in results.regularised_taps if tap in taps]
  used = marked or list(taps)
  parts = []
  for method, how in (
    ("least_squares", "stitched by least squares"),
    ("task_loss", "trained on the task"),
  ):
    kept = {kind: record.mean_over(group, method, used) for kind, group in groups.items()}
    kept = {kind: share for kind, share in kept.items() if not math.isnan(share)}
    if kept:
      parts.append((how, kept))
  if not parts:
    return ""
  sources = {pair.source for pair in pairs}
  who = sources.pop() if len(sources) == 1 else "the source"
  several = len(used) > 1 or any(len(group) > 1 for group in groups.values())
  where = results.tap_label(used) if len(used) <= MOST_NAMED else f"{len(used)} taps"
  (how, kept), rest = parts[0], parts[1:]
  text = (
    f"{how.capitalize()} at {where}, {who} keeps "
    f"{'on average ' if several else ''}{_shares(kept, owners=True)}"
  )
  for how, kept in rest:
    text += f"; {how}, {_shares(kept, owners=kept.keys() != parts[0][1].keys())}"
  return f"{text}."


def _shares(kept, owners):
  texts = []
  for index, (kind, share) in enumerate(kept.items()):
    of = f" of {_WHOSE[kind][index > 0]}" if owners else ""
    texts.append(f"{number(100 * share, 0)} %{of}")
  return " and ".join(texts) if len(texts) < 3 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def matching_tables(results, stitching) -> list[Table]:
  """Relative accuracies of `matching` by tap, kind of pair and method, in percent.

  Returns:
    A table for every `KINDS_BESIDE` kinds: taps, regularised ones marked, then means over taps, by
    method; nothing where nothing was matched.
  """
  groups = list(record.by_kind(stitching.pairs.get("matching", [])).items())
  return [
    _matching_table(results, dict(groups[start : start + KINDS_BESIDE]))
    for start in range(0, len(groups), KINDS_BESIDE)
  ]


def _matching_table(results, groups) -> Table:
  pairs = [pair for group in groups.values() for pair in group]
  taps, methods, columns = record.all_taps(pairs), _ordered_methods(pairs), []
  for group in groups.values():
    for method in methods:
      band = record.method_band(group, method)
      columns.append(
        {
          tap: Cell(_percent(mean), spread=_spread(std) if len(group) > 1 else "")
          for tap, mean, std in zip(band.x, band.mean, band.std, strict=True)
        }
      )
  rows = [
    (
      f"{tap} ({name})" + " *" * (tap in results.regularised_taps),
      [column.get(tap, Cell("–")) for column in columns],
    )
    for tap, name in taps.items()
  ]
  means = [
    (
      label,
      [
        Cell(_percent(record.mean_over(group, method, chosen)))
        for group in groups.values()
        for method in methods
      ],
    )
    for label, chosen in _tap_sets(results, taps)
  ]
  heads = [_HEADS.get(method) or _label(method) for method in methods]
  kinds = [(record.heading(kind, group), heads) for kind, group in groups.items()]
  return labelled("Tap", kinds, [rows, means])


def _spread(share) -> str:
  return "" if math.isnan(share) else _percent(share)


def _percent(share):
  return number(100 * share, 1)


def _ordered_methods(pairs):
  known = record.methods_of(pairs)
  return sorted(known, key=lambda name: list(METHODS).index(name) if name in METHODS else 99)


def _label(method):
  return METHODS[method]["label"] if method in METHODS else str(method).replace("_", " ")


def _tap_sets(results, taps):
  marked = [tap for tap in results.regularised_taps if tap in taps]
  return [("regularised taps", marked)] * bool(marked) + [("all taps", list(taps))]


def print_matching(results, stitching, console) -> None:
  """Prints mean relative accuracies by method: at the regularised taps and at all, a kind a pair.

  Columns that do not fit are left out from the right.
  """
  pairs = stitching.pairs.get("matching")
  if not pairs:
    return
  groups, taps = record.by_kind(pairs), record.all_taps(pairs)
  sets = _tap_sets(results, taps)
  heads, columns = [], []
  for kind, group in groups.items():
    for index, (label, chosen) in enumerate(sets):
      heads.append(f"{'' if index else _SHORT[kind]}\n{_SHORT[label]}")
      columns.append(
        [_percent(record.mean_over(group, method, chosen)) for method in _ordered_methods(pairs)]
      )
  reg = f" (reg.: {', '.join(map(str, sets[0][1]))})" if len(sets) > 1 else ""
  console.print(rich.text.Text(f"Stitched: accuracy in % of the target's, mean over taps{reg}"))
  rows = [
    (_label(method), list(map(Cell, texts)))
    for method, *texts in zip(_ordered_methods(pairs), *columns, strict=True)
  ]
  terminal.print_table(labelled("\nmethod", [("", heads)], [rows]), console)


def print_stitches(title: str, rows: list, console: rich.console.Console | None = None) -> None:
  """Prints how stitches of one seam do; columns that do not fit are left out from the right.

  Args:
    title: printed above the table, e.g. "tap 3 (block 3) to tap 3 (block 3)".
    rows: {"method", "accuracy", "relative_accuracy", "cross_entropy", "lincka", "r2", "sparsity"}
      of each stitch; shares are 0 to 1. A value that is missing, None or NaN is "–".
    console: where to print; the default writes to stdout.
  """
  console = console or rich.console.Console()
  console.print(rich.text.Text(title))
  body = []
  for row in rows:
    values = [(row.get(key), scale, decimals) for key, _, scale, decimals in STITCH_COLUMNS]
    texts = (
      number(value if value is None else scale * value, decimals)
      for value, scale, decimals in values
    )
    body.append((_label(row["method"]), list(map(Cell, texts))))
  heads = [head for _, head, *_ in STITCH_COLUMNS]
  terminal.print_table(labelled("method", [("", heads)], [body]), console)
