"""Sections of the page on similarity: clusters, components, architectures."""

import collections
import math

import numpy as np

from dissim_jax.registry.entry import number
from dissim_jax.render import page, words
from dissim_jax.render.table import labelled, of_texts
from dissim_jax.studies.pool import analysis as analysis_lib
from dissim_jax.studies.pool import figures
from dissim_jax.studies.pool.analysis import Analysis
from dissim_jax.studies.pool.record import NOT_IN_PAPER


def note(text: str) -> page.Text:
  """A paragraph in small print."""
  return page.Text(text, note=True)


def members(analysis: Analysis) -> page.Section:
  """What the pool is made of."""
  pool, rows = analysis.everything, []
  cluster = dict(zip(analysis.pool.names, analysis.clusters, strict=True))
  for i, name in enumerate(pool.names):
    others = np.delete(pool.similarity[i], i)
    known = others[np.isfinite(others)]
    parameters = pool.members[i].get("parameters")
    rows.append(
      [
        name,
        pool.members[i]["model"],
        pool.bases[i],
        str(cluster[name] + 1) if name in cluster else "student",
        number(100 * pool.accuracy[i], 2),
        number(100 * pool.white_box[i], 1),
        number(known.mean(), 2) if known.size else "–",
        f"{parameters:,}" if isinstance(parameters, int) else "–",
      ]
    )
  heads = [
    "Model",
    "Architecture",
    "Base",
    "Cluster",
    "Accuracy [%]",
    "White-box success [%]",
    "Mean s to others",
    "Parameters",
  ]
  return page.Section(
    "Models",
    [
      of_texts(heads, rows, 3),
      note(
        "Accuracy on the images of this study. White-box success: the share of the images a model "
        "gets right that its own attack takes from it; an attack that fails here says nothing "
        "of transfer."
      ),
    ],
  )


def clusters(analysis: Analysis) -> page.Section:
  """Heat map, spectral features, members and keywords of the clusters."""
  title, count = "Similarity, by cluster", len(analysis.pool.members)
  if count < 2:
    return page.Section(title, [note("Not made: it takes two models that are no students.")])
  shown = [_heat_map(analysis)]
  if count < 3:
    return page.Section(title, [*shown, note("No clusters: they take three models.")])
  rows = []
  for cluster, keywords in zip(np.unique(analysis.clusters), analysis.keywords, strict=True):
    text = ", ".join(f"{word} ({number(score, 2)})" for word, score in keywords)
    count = int(np.sum(analysis.clusters == cluster))
    rows.append([str(cluster + 1), str(count), _kinds(analysis, cluster), text or "–"])
  return page.Section(
    title,
    [
      *shown,
      page.Heading("Clusters and what tells them apart"),
      of_texts(["Cluster", "Models", "Architectures", "Keywords (mean TF-IDF)"], rows, 4),
      note(cluster_note(analysis)),
    ],
  )


def _kinds(analysis: Analysis, cluster: int) -> str:
  """The architectures of a cluster, with how many of their models are in it."""
  total = collections.Counter(analysis.kinds)
  counts = collections.Counter(
    analysis.kinds[i] for i in analysis.order if analysis.clusters[i] == cluster
  )
  return ", ".join(
    kind
    if total[kind] == 1
    else f"{kind} ({count})"
    if count == total[kind]
    else f"{kind} ({count} of {total[kind]})"
    for kind, count in counts.items()
  )


def cluster_note(analysis: Analysis) -> str:
  """How the clusters were made."""
  settings, wanted = analysis.settings, analysis.settings.cluster_count(len(analysis.clusters))
  below = int((analysis.pairs.similarity < 0).sum())
  there = len(np.unique(analysis.clusters))
  if there == 1 < wanted:
    return "All pairs are equally similar (similarities below 0 count as 0): there are no clusters."
  text = (
    f"Spectral clustering into {wanted}: normalised Laplacian, best of {settings.restarts} "
    "runs of K-means. "
  )
  if not settings.clusters:
    text += "The number keeps the paper's ratio of 10 clusters to 69 models, and is at least 2. "
  if there < wanted:
    text += f"Only {there} are apart. "
  text += (
    "Weights of the graph are the similarities; those below 0 count as 0 "
    f"({words.plural(below, 'pair')})"
  )
  if analysis.missing:
    text += (
      f", pairs that were not computed ({analysis.missing}) as the mean of what their two "
      "models have with all others"
    )
  return (
    f"{text}. TF-IDF: every “component: value” is a word and every model a document; IDF is "
    "ln((1 + n) / (1 + n_w)) + 1, and words that all models have are left out."
  )


def _heat_map(analysis: Analysis) -> page.Picture:
  pairs = analysis.pairs
  caption = (
    "Similarity s = log max(ε_s, 100 · share fooled), both directions together; the "
    f"highest there can be is log 100 = {math.log(100):.2f}, on the diagonal if a model's "
    "own attack always succeeds. The colours span the values of pairs. Frames: clusters. "
    "Right: the eigenvectors that the models are clustered by. Hwang et al., Figures D.2 "
    "and C.1."
  )
  if analysis.missing:
    caption += f" Grey: not computed ({words.plural(analysis.missing, 'pair')})."
  if pairs.one_sided.any():
    caption += (
      f" Of {words.plural(int(pairs.one_sided.sum()), 'pair')} only one model's attack was tried."
    )
  return page.picture(
    "similarity",
    figures.heat_map(analysis),
    (f"Heat map of the similarity of {len(analysis.pool.names)} models, ordered by cluster."),
    caption,
  )


def components(analysis: Analysis) -> page.Section:
  """Importance of components."""
  title, importance = "Which component makes models differ", analysis.importance
  if importance is None:
    return page.Section(
      title,
      [
        note(
          "Not made: it takes three pairs with a similarity, and a "
          "component in which some of them differ and others do "
          "not."
        )
      ],
    )
  settings = analysis.settings
  picture = page.picture(
    "importance",
    figures.importances(importance),
    (f"Bars: importance of {', '.join(name.replace('_', ' ') for name in importance.names)}."),
    f"How far R² falls when a component's differences are permuted, mean ± standard deviation of "
    f"{settings.repeats} permutations. Hwang et al., Figure 1.",
  )
  extra_names = [name for name in NOT_IN_PAPER if name in importance.names]
  text = (
    f"Boosted trees ({settings.stages} stages, depth {settings.max_depth}, learning rate "
    f"{settings.rate:g}, nodes of fewer than {settings.least_samples} pairs not split) "
    "predict s of a pair from which components differ. Components that always differ "
    "together share their importance. "
  )
  if importance.constant:
    names = ", ".join(name.replace("_", " ") for name in importance.constant)
    text += f"Left out, as they tell no pair from another: {names}. "
  if extra_names:
    text += f"Not among the paper's 13 components: {', '.join(extra_names)}."
  return page.Section(title, [page.Text(fit(importance)), picture, note(text)])


def fit(importance) -> str:
  """How well components explain similarity."""
  text = f"R² of the fit is {number(importance.r2, 2)}, in-sample as in the paper; "
  if math.isnan(importance.held_out_r2):
    return text + "there are too few architectures to hold some out."
  return (
    text + f"{number(importance.held_out_r2, 2)} for pairs with an architecture that was held out."
  )


def architectures(analysis: Analysis) -> page.Section:
  """Same-architecture against cross-architecture pairs, and pairs of bases."""
  title = "Same architecture against another"
  if not len(analysis.pairs.first):
    return page.Section(title, [note("Not made: it takes two models that are no students.")])
  rows = [
    (label, [words.value(similarity.count, 0), words.cell(similarity)])
    for label, similarity in (
      ("same architecture", analysis.same),
      ("two architectures", analysis.cross),
    )
    if similarity.count
  ]
  bases = [
    (f"{one} – {other}", [words.value(similarity.count, 0), words.cell(similarity)])
    for one, other, similarity in analysis_lib.by_base(analysis)
  ]
  bodies = [body for body in (rows, bases) if body]
  return page.Section(
    title,
    [
      page.Text(architecture_sentence(analysis)),
      labelled("Pairs of", [("", ["Pairs", "Similarity s"])], bodies),
      note(
        "Mean ± standard deviation over pairs; where bases are named, of pairs of two "
        "architectures. Pairs share models and are not independent, so p is from "
        f"{analysis.settings.permutations:,} permutations of the models, not of pairs (Mantel)."
      ),
    ],
  )


def architecture_sentence(analysis: Analysis) -> str:
  """Whether models of one architecture are more alike."""
  same, cross = analysis.same, analysis.cross
  if not (same.count and cross.count):
    there = "one architecture" if same.count else "different architectures"
    similarity = same if same.count else cross
    if not similarity.count:
      return "No pair has a similarity."
    return (
      f"All pairs are of {there}: s = {words.mean_std(similarity)} "
      f"({words.plural(similarity.count, 'pair')}); there is nothing to compare them with."
    )
  way = "more" if same.mean > cross.mean else "less" if same.mean < cross.mean else "no more"
  p = words.p_value(analysis.architecture_p, analysis.least_p)
  return (
    f"Models of the same architecture are {way} alike: s = {words.mean_std(same)} "
    f"({words.plural(same.count, 'pair')}) against {words.mean_std(cross)} across "
    f"architectures ({words.plural(cross.count, 'pair')}), a difference of "
    f"{number(same.mean - cross.mean, 2)} ({p})."
  )
