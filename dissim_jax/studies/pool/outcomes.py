"""Sections of the page on what similarity is worth: ensembles, categories, students."""

import math

from dissim_jax.registry.entry import number
from dissim_jax.render import page, words
from dissim_jax.render.table import Cell, labelled, of_texts
from dissim_jax.studies.pool import analysis as analysis_lib
from dissim_jax.studies.pool import categories, plots
from dissim_jax.studies.pool.analysis import Analysis
from dissim_jax.studies.pool.sections import note
from dissim_jax.studies.pool.statistics import spread

TWO = "Not made: it takes two models that are no students."
CLEAR = 0.05  # p below which a sentence says which way a relation goes
# Columns of the table of categories: value, head, decimals, factor.
_COMPARED = (
  ("error_inconsistency", "Error inconsistency [%]", 2, 100.0),
  ("error_consistency", "Error consistency κ", 3, 1.0),
  ("gain_mean_probs", "over the mean, probabilities", 2, 100.0),
  ("gain_best_probs", "over the better, probabilities", 2, 100.0),
  ("gain_mean_logits", "over the mean, logits", 2, 100.0),
  ("gain_best_logits", "over the better, logits", 2, 100.0),
)


def reduction(analysis: Analysis) -> page.Section:
  """Similarity against the error reduction rate."""
  title = "Similarity and what an ensemble of two gains"
  if not len(analysis.pairs.first):
    return page.Section(title, [note(TWO)])
  rows = [
    (
      f"mean of {'probabilities' if rule == 'probs' else rule}",
      [
        words.value(correlation.count, 0),
        words.value(correlation.r, 3),
        _p(correlation.p),
        words.value(correlation.rho, 3),
        _p(correlation.rho_p),
        _p(analysis.reduction_p[rule], analysis.least_p),
      ],
    )
    for rule, correlation in analysis.reduction.items()
  ]
  settings, flawless = analysis.settings, analysis.flawless
  picture = page.picture(
    "error_reduction",
    plots.reduction(analysis),
    (
      "Points: error reduction rate of all pairs against their similarity, pairs of one "
      "architecture marked."
    ),
    "Error reduction rate 1 − Err_ens / mean Err of all pairs against their "
    f"similarity, least-squares line and {100 * settings.confidence:g}\u00a0% band of its mean. "
    "Hwang et al., Figure 2.",
  )
  text = (
    "Pearson's and Spearman's p take pairs for independent, as the paper's does; the last "
    f"one does not: {settings.permutations:,} permutations of the models (Mantel)."
  )
  if flawless:
    text += f" Left out: {words.plural(flawless, 'pair')} of which no model errs."
  heads = ["Pairs", "Pearson r", "p", "Spearman ρ", "p ", "p by permutation of r"]
  return page.Section(
    title,
    [
      page.Text(reduction_sentence(analysis)),
      picture,
      labelled("Ensemble", [("", heads)], [rows]),
      note(text),
    ],
  )


def _p(p: float, least: float = 1e-300) -> Cell:
  text = words.p_value(p, least).removeprefix("p ").removeprefix("= ")
  return Cell("–" if math.isnan(p) else text)


def reduction_sentence(analysis: Analysis) -> str:
  """Whether less similar pairs gain more."""
  correlation = analysis.reduction["logits"]
  if math.isnan(correlation.r):
    return (
      "Similarity and error reduction rate have no correlation to tell: fewer than three "
      "pairs have both, or one of the two does not vary."
    )
  p = analysis.reduction_p["logits"]
  way = f"{'less' if correlation.r < 0 else 'more'} similar pairs gain more"
  way = way if p < CLEAR else "no clear relation"
  return (
    "Similarity and the error reduction rate of averaged logits have Pearson r = "
    f"{number(correlation.r, 2)} over {words.plural(correlation.count, 'pair')} "
    f"({words.p_value(correlation.p)}; by permutation of models "
    f"{words.p_value(p, analysis.least_p)}): {way}."
  )


def ensembles(analysis: Analysis) -> page.Section:
  """Ensembles of N models from k clusters."""
  title = "Ensembles from few and from many clusters"
  if not analysis.ensembles:
    return page.Section(title, [note(TWO)])
  bodies, sampled = {}, False
  for (size, k), (measured, shown, total) in sorted(analysis.ensembles.items()):
    sampled = sampled or shown < total
    count = f"{shown:,} of {total:,}" if shown < total else f"{total:,}"
    cells = [Cell(count), *(words.cell(values, 2, 100.0) for values in measured)]
    bodies.setdefault(size, []).append((f"{size} models, {words.plural(k, 'cluster')}", cells))
  picture = page.picture(
    "ensembles",
    plots.ensembles(analysis),
    (
      "Lines: error, error reduction rate and share of images that all models get wrong, by number "
      "of models, a line for each number of clusters."
    ),
    "Means over ensembles of N models drawn from exactly k clusters that average their logits; "
    "more clusters are more diverse. Hwang et al., Figure 3.",
  )
  text = "Mean ± standard deviation over ensembles, which share models."
  if sampled:
    text += (
      f" Where there are more than {analysis.settings.most_ensembles:,}, as many were drawn "
      "at random."
    )
  heads = ["Ensembles", "Error [%]", "Error reduction rate [%]", "All wrong [%]"]
  return page.Section(
    title,
    [
      picture,
      page.Folded("The numbers", [labelled("", [("", heads)], bodies.values())]),
      note(text),
    ],
  )


def compared(analysis: Analysis) -> page.Section:
  """Gontijo-Lopes' categories."""
  title, (low, high) = "What two models differ in", analysis.settings.accuracy_band
  band = f"{100 * low:g}–{100 * high:g}\u00a0%"
  outside = ""
  if analysis.outside:
    outside = (
      f" Outside of the band, and left out: {words.plural(len(analysis.outside), 'model')}"
      f" ({words.some(analysis.outside)})."
    )
  rows = category_rows(analysis)
  if not rows:
    return page.Section(
      title,
      [
        note(
          f"Not made: fewer than two models have an accuracy within {band}, or nothing tells those "
          f"that have apart.{outside}"
        )
      ],
    )
  groups = [
    ("", ["Pairs", "Similarity s", *(head for _, head, _, _ in _COMPARED[:2])]),
    ("Gain in accuracy [points]", [head for _, head, _, _ in _COMPARED[2:]]),
  ]
  picture = page.picture(
    "gains",
    plots.gains(analysis),
    (
      "Points: gain of ensembles of two against their error inconsistency, coloured by what the "
      "two differ in."
    ),
    "Gain in accuracy of the mean of two models' probabilities against the share of "
    "images that exactly one of them gets right, least-squares line and "
    f"{100 * analysis.settings.confidence:g}\u00a0% band.",
  )
  return page.Section(
    title,
    [
      page.Text(gain_sentence(analysis)),
      picture,
      labelled("Models differ in", groups, [rows]),
      note(
        f"Models with an accuracy within {band}, by the first that differs of architecture, "
        "training objective, hyperparameters and initialisation; what comes later may differ as "
        "well. Mean ± standard deviation over pairs, which p takes for independent. Differs from "
        "Gontijo-Lopes et al. 2022: every pair counts, not only those with one base model, and "
        "models are not "
        f"calibrated.{outside}"
      ),
    ],
  )


def category_rows(analysis: Analysis) -> list:
  """[(category, cells)] of the pairs in the accuracy band."""
  rows = []
  for category in categories.CATEGORIES:
    chosen = analysis.within(category)
    if chosen.any():
      values = [
        words.cell(spread(analysis.pairs.values[name][chosen]), decimals, factor)
        for name, _, decimals, factor in _COMPARED
      ]
      rows.append(
        (
          category,
          [
            words.value(int(chosen.sum()), 0),
            words.cell(spread(analysis.pairs.similarity[chosen])),
            *values,
          ],
        )
      )
  return rows


def gain_sentence(analysis: Analysis) -> str:
  """Whether pairs of less consistent errors gain more."""
  correlation = analysis_lib.gain_correlation(analysis)
  if math.isnan(correlation.r):
    return "Gain and error inconsistency have no correlation to tell."
  return (
    f"The gain over the mean of two models and their error inconsistency have Pearson r = "
    f"{number(correlation.r, 2)} ({words.p_value(correlation.p)}) over "
    f"{words.plural(correlation.count, 'pair')}."
  )


def within(analysis: Analysis) -> page.Section:
  """Spread within an architecture beside all architectures."""
  title, rows = "Within an architecture", analysis_lib.within_architectures(analysis)
  if not rows:
    return page.Section(title, [note("Not made: no architecture has two models.")])
  cells = [
    (f"{kind}: {category}", [words.value(similarity.count, 0), words.cell(similarity)])
    for kind, category, similarity in rows
  ]
  cross = [(plots.ALL, [words.value(analysis.cross.count, 0), words.cell(analysis.cross)])]
  picture = page.picture(
    "within",
    plots.within(analysis, rows),
    (
      "Points: similarity of the pairs within each architecture, by what they differ in, and of "
      "pairs of architectures."
    ),
    "Every pair, mean and standard deviation. All models count, "
    "whatever their accuracy. Hwang et al., Table D.1 and Figure D.1.",
  )
  return page.Section(
    title,
    [
      picture,
      page.Folded(
        "The numbers", [labelled("Pairs", [("", ["Pairs", "Similarity s"])], [cells, cross])]
      ),
    ],
  )


def students(analysis: Analysis) -> list:
  """The section on distillation; none without students."""
  title, lost = "Distillation", analysis.lost
  left = f"Left out, as their teacher is not in the pool: {words.some(lost)}." if lost else ""
  if not analysis.students:
    return [page.Section(title, [note(left)])] if lost else []
  rows, shown = (
    [],
    (
      lambda correlation: [str(correlation.count), number(correlation.r, 2), _p(correlation.p).text]
    ),
  )
  for kind, which, plain, student_correlation in analysis_lib.distillation_correlations(
    analysis.students
  ):
    rows.append([kind, which, *shown(plain), *shown(student_correlation)])
  names = analysis.everything.names
  single = [
    [
      names[s.place],
      names[s.teacher],
      "same" if s.same_base else "other",
      number(100 * s.accuracy, 2),
      number(s.to_undistilled, 2),
      number(s.to_student, 2),
    ]
    for s in analysis.students
  ]
  picture = page.picture(
    "distillation",
    plots.students(analysis),
    ("Points: accuracy of students against the similarity of their teachers."),
    "Accuracy of students that learned a teacher's hard labels, against the similarity of the "
    "teacher and undistilled models of the student's architecture (left, the paper's; mean over "
    "those there are) and the student itself (right). Hwang et al., Figure 5.",
  )
  return [
    page.Section(
      title,
      [
        *map(page.Text, distillation_sentences(analysis)),
        picture,
        of_texts(
          ["Students", "Teachers", "n", "r, undistilled", "p", "n ", "r, student", "p "], rows, 2
        ),
        page.Folded(
          "Every student",
          [
            of_texts(
              ["Student", "Teacher", "Base", "Accuracy [%]", "s, undistilled", "s, student"],
              single,
              3,
            )
          ],
        ),
        note(
          "Pearson r of similarity and accuracy; of fewer than three students there is none. "
          f"{left} Students are in no other section."
        ),
      ],
    )
  ]


def distillation_sentences(analysis: Analysis) -> list:
  """The correlation for each architecture of students and kind of teacher."""
  correlations = [
    (kind, which, plain)
    for kind, which, plain, _ in analysis_lib.distillation_correlations(analysis.students)
    if not math.isnan(plain.r)
  ]
  teachers = {
    "all": "all teachers",
    "same base": "teachers of the same base",
    "other base": "teachers of another base",
  }
  return [
    f"Distilled {kind}, {teachers[which]}: accuracy and similarity of the teacher have "
    f"Pearson r = {number(plain.r, 2)} ({words.p_value(plain.p)}, n = {plain.count})."
    for kind, which, plain in correlations
  ]
