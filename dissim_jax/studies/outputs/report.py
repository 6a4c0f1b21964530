"""Diversity, ensembles by consensus rule and calibration as sections of the page."""

from dissim_jax.registry import entry
from dissim_jax.registry.entry import Quantity
from dissim_jax.registry.metrics import RULES, SCORES, quantities
from dissim_jax.render import page
from dissim_jax.render.table import Cell, Table, labelled, marked
from dissim_jax.studies.outputs import figures

PICTURES = ("reliability", "specialisation", "specialisation_by_class", "interpolation", "greedy")
_GONTIJO = "Gontijo-Lopes et al. 2022"


def sections(results, record) -> list:
  """The sections on a `Diversity`."""
  calibration = (
    "calibrated: each member's logits are divided by its own temperature, fitted on "
    f"{record.num_validation:,} validation images"
    if record.calibrated
    else "not calibrated: no validation images (data.validation=0)"
    if not record.num_validation
    else "not calibrated"
  )
  calibration = f"{calibration[0].upper()}{calibration[1:]}."
  uncalibrated = "" if record.calibrated else f" {calibration}"
  first = page.Section(
    "Diversity of errors and predictions",
    [
      diversity_table(record),
      page.Text(
        "The arrow points to more diverse; measures of two members are means over all "
        "pairs. Most diverse of a row bold, more diverse than the baseline underlined, "
        f"both at the printed precision. {calibration}",
        note=True,
      ),
      *_picture(results, record, "specialisation"),
      *_picture(results, record, "specialisation_by_class"),
    ],
  )
  second = page.Section(
    "Consensus rules and calibration",
    [
      rule_table(record),
      page.Text(
        f"{'Before → after calibration. ' if record.calibrated else ''}The conversion rate "
        "is the share that the ensemble gets right of the images that some but not all "
        "members get right; the error reduction is 1 − the ensemble's error by its "
        f"members' mean error.{uncalibrated}",
        note=True,
      ),
      member_table(record),
      *_picture(results, record, "reliability"),
    ],
  )
  third = [*_picture(results, record, "interpolation"), *_picture(results, record, "greedy")]
  return [
    first,
    second,
    *([page.Section("Weights and choice of members", third)] if third else []),
  ]


def diversity_table(record) -> Table:
  """All measures of diversity by ensemble, before and after calibration."""
  keys = dict.fromkeys(
    key for sequence in record.sequences.values() for key in sequence.before.diversity
  )
  known = {measure.key: measure for measure in quantities("diversity")}
  measures = [measure for key, measure in known.items() if key in keys]
  measures += [Quantity(key, key.replace("_", " "), 0) for key in keys if key not in known]
  stages = [("", "before"), (" after", "after")] if record.calibrated else [("", "before")]
  body = []
  for measure in measures:
    columns = []
    for _, stage in stages:
      values = {
        name: getattr(getattr(sequence, stage), "diversity", {}).get(measure.key)
        for name, sequence in record.sequences.items()
      }
      columns.append(marked(measure, values))
    body.append((measure.title, [column[name] for column in columns for name in record.sequences]))
  heads = list(record.sequences)
  groups = (
    [("Before calibration", heads), ("After calibration", heads)]
    if record.calibrated
    else [("", heads)]
  )
  return labelled("Diversity", groups, [body])


def rule_table(record) -> Table:
  """Ensembles by consensus rule, a body an ensemble."""
  bodies, measures = [], (*SCORES, *quantities("gains"))
  for name, sequence in record.sequences.items():
    after = sequence.after.ensembles if sequence.after else {}
    bodies.append(
      [
        (
          f"{name}, {RULES.get(rule, rule)}",
          _change(measures, sequence.before.ensembles[rule], after.get(rule)),
        )
        for rule in record.rules
      ]
    )
  return labelled("Ensemble", [("", [measure.title for measure in measures])], bodies)


def member_table(record) -> Table:
  """Temperatures of members, and what calibration changes."""
  body = [
    (
      name,
      [Cell(entry.number(member.temperature, 2)), *_change(SCORES, member.before, member.after)],
    )
    for name, member in record.members.items()
  ]
  return labelled("Member", [("", ["Temperature", *(measure.title for measure in SCORES)])], [body])


def _change(measures, before, after) -> list:
  """One cell a measure: "before → after", or one value where they are equal or only one is."""
  cells = []
  for measure in measures:
    texts = [measure.text(scores.values[measure.key]) for scores in (before, after) if scores]
    cells.append(Cell(" → ".join(dict.fromkeys(texts))))
  return cells


def _picture(results, record, name) -> list:
  figure = getattr(figures, name)(record)
  if figure is None:
    return []
  names = ", ".join(record.sequences)
  images = results.metrics["dataset"]["name"]
  alt, caption = {
    "reliability": (
      f"Reliability diagrams: accuracy against confidence for {names} and their members.",
      "Accuracy against confidence by bins of confidence; members thin, the ensemble "
      f"({RULES.get(record.rule, record.rule)}) thick; on the dashed line confidence is accuracy. "
      "Bars: the share of images in a bin of the ensemble.",
    ),
    "specialisation": (
      f"Histograms of the angle of confidences, two members of {names}, by who is right.",
      f"Test images of {images} by who classifies them correctly (columns), against the angle of "
      "the two confidences θ = π/4 − atan2(confidence of b, confidence of a): at the right the "
      f"first member (a) is more confident, at the left the second (b) ({_GONTIJO}, Figure 3). One "
      "y axis a column.",
    ),
    "specialisation_by_class": (
      f"Bars: mean angle of confidences by class, two members of {names}.",
      "Mean angle θ of the images of a class: above zero the first member (a) is more confident on "
      "it, below zero the second (b).",
    ),
    "interpolation": (
      f"Lines: accuracy between two members of {names} by weight.",
      "Accuracy of the calibrated logits (1 − t) a + t b of two members, validation images dashed, "
      "test images solid. By class: the classes on which b is better on validation images take "
      f"their logits with weight t from b, the others with weight t from a ({_GONTIJO}, Figure "
      "11).",
    ),
    "greedy": (
      "Lines: accuracy of an ensemble that grows by one member at a time.",
      "From the best single member on, the member that raises the accuracy on validation images "
      "most is added; validation images dashed, test images solid "
      f"({_GONTIJO}, Figure 5).",
    ),
  }[name]
  return [page.picture(name, figure, alt, caption)]
