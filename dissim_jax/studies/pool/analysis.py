"""Everything that is computed of a pool, before anything is drawn or written."""

import dataclasses
import itertools
import math

import numpy as np

from dissim_jax.render.words import Spread
from dissim_jax.studies.pool import categories, clusters, distillation, ensembles, measures
from dissim_jax.studies.pool.importance import Importance, importance
from dissim_jax.studies.pool.record import Pool, architecture, architecture_names, is_student
from dissim_jax.studies.pool.settings import Settings
from dissim_jax.studies.pool.statistics import Correlation, correlation, mantel, spread


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
  """What was found of a pool.

  Attributes:
    everything: the pool with its students; `pool` is without, and all but `students` is of it.
    kinds: name of the architecture of each model.
    pairs: values of all pairs.
    clusters, features, keywords: see `clusters`.
    importance: of components; None if they cannot tell.
    architecture_p: of the difference between same- and cross-architecture pairs, by permutation.
    reduction, reduction_p: {rule: correlation of similarity and error reduction rate, and its p
      by permutation}.
    ensembles: {(N, k): (Measured, how many were measured, how many there are)}.
    categories: of each pair; `compared` of them are of models within the accuracy band.
    outside: names of the models outside of it.
    students, lost: see `distillation.students`.
  """

  everything: Pool
  pool: Pool
  settings: Settings
  kinds: list
  pairs: measures.Pairs
  clusters: np.ndarray
  features: np.ndarray
  keywords: list
  importance: Importance | None
  architecture_p: float
  reduction: dict
  reduction_p: dict
  ensembles: dict
  categories: np.ndarray
  compared: np.ndarray
  outside: list
  students: list
  lost: list

  @property
  def same(self) -> Spread:
    """Similarity of pairs of one architecture."""
    return spread(self.pairs.similarity[self.pairs.same_architecture])

  @property
  def cross(self) -> Spread:
    """Similarity of pairs of two architectures."""
    return spread(self.pairs.similarity[~self.pairs.same_architecture])

  @property
  def flawless(self) -> int:
    """Pairs of which no model errs."""
    return int(np.isnan(self.pairs.values["err_logits"]).sum())

  @property
  def missing(self) -> int:
    """Pairs whose similarity was not computed."""
    return int(np.isnan(self.pairs.similarity).sum())

  @property
  def least_p(self) -> float:
    """The least p that the permutations can find."""
    return 1 / (1 + self.settings.permutations)

  @property
  def order(self) -> np.ndarray:
    """Places of the models by cluster, and in a cluster by architecture."""
    keys = [
      (self.clusters[i], self.pool.bases[i], self.kinds[i], i) for i in range(len(self.kinds))
    ]
    return np.array(sorted(range(len(keys)), key=lambda i: keys[i]), int)

  def within(self, category: str) -> np.ndarray:
    """Which pairs of the accuracy band are of a category."""
    return self.compared & (self.categories == category)


def analyse(everything: Pool, settings: Settings) -> Analysis:
  """Computes everything; the same pool and settings give the same numbers."""
  learned = [i for i, member in enumerate(everything.members) if not is_student(member)]
  pool = everything.only(learned)
  pairs, names = measures.measure_pairs(pool), architecture_names(pool.members)
  count = len(pool.members)
  k = settings.cluster_count(count) if count else 0
  cluster_labels = clusters.spectral_clusters(pool.similarity, k, settings.restarts, settings.seed)
  documents = [clusters.words(member["components"]) for member in pool.members]
  same = pairs.matrix(pairs.same_architecture.astype(float), count)
  low, high = settings.accuracy_band
  inside = (pool.accuracy >= low) & (pool.accuracy <= high)
  students, lost = distillation.students(everything)
  kinds = [architecture(member) for member in pool.members]
  return Analysis(
    everything,
    pool,
    settings,
    names,
    pairs,
    cluster_labels,
    clusters.spectral_features(pool.similarity, k) if k else np.zeros((count, 0)),
    clusters.keywords(documents, cluster_labels, settings.keywords),
    importance(
      [member["components"] for member in pool.members],
      kinds,
      pairs.first,
      pairs.second,
      pairs.similarity,
      settings,
    ),
    mantel(pool.similarity, same, settings.permutations, settings.seed),
    _reductions(pairs, settings, correlation),
    _reductions(
      pairs,
      settings,
      lambda s, rate: mantel(
        pool.similarity, pairs.matrix(rate, count), settings.permutations, settings.seed
      ),
    ),
    _ensembles(pool, cluster_labels, settings),
    np.array(
      [
        categories.category(pool.members[a], pool.members[b])
        for a, b in zip(pairs.first, pairs.second, strict=True)
      ],
      object,
    ),
    inside[pairs.first] & inside[pairs.second],
    [name for name, kept in zip(pool.names, inside, strict=True) if not kept],
    students,
    lost,
  )


def _reductions(pairs: measures.Pairs, settings: Settings, function) -> dict:
  return {rule: function(pairs.similarity, pairs.values[f"err_{rule}"]) for rule in measures.RULES}


def _ensembles(pool: Pool, cluster_labels: np.ndarray, settings: Settings) -> dict:
  measured, groups = {}, len(np.unique(cluster_labels))
  for size in range(2, min(settings.ensemble_size, len(cluster_labels)) + 1):
    for k in range(1, min(size, groups) + 1):
      drawn = ensembles.draw(cluster_labels, size, k, settings.most_ensembles, settings.seed)
      if drawn.total:
        measured[size, k] = (
          ensembles.measure(drawn.members, pool.logits, pool.labels),
          len(drawn.members),
          drawn.total,
        )
  return measured


def by_base(analysis: Analysis) -> list:
  """[(base, base, Spread of the similarity)] of cross-architecture pairs, the most alike first."""
  bases, pairs = analysis.pool.bases, analysis.pairs
  ends = np.array(
    [sorted((bases[a], bases[b])) for a, b in zip(pairs.first, pairs.second, strict=True)], object
  ).reshape(-1, 2)
  cross = ~pairs.same_architecture
  kinds = itertools.combinations_with_replacement(sorted(set(bases)), 2)
  rows = [
    (one, other, spread(pairs.similarity[cross & (ends == (one, other)).all(1)]))
    for one, other in kinds
  ]
  return sorted([row for row in rows if row[2].count], key=lambda row: -row[2].mean)


def within_architectures(analysis: Analysis) -> list:
  """[(architecture, category, Spread of the similarity)] of pairs of one architecture."""
  pairs, rows = analysis.pairs, []
  owners = np.array([analysis.kinds[a] for a in pairs.first], object)
  for kind in dict.fromkeys(analysis.kinds):
    for category in categories.CATEGORIES:
      chosen = (owners == kind) & pairs.same_architecture & (analysis.categories == category)
      if chosen.any():
        rows.append((kind, category, spread(pairs.similarity[chosen])))
  return rows


def gain_correlation(analysis: Analysis) -> Correlation:
  """Error inconsistency with the gain over the mean member, of the pairs in the band."""
  values = analysis.pairs.values
  return correlation(
    values["error_inconsistency"][analysis.compared], values["gain_mean_probs"][analysis.compared]
  )


def distillation_correlations(students: list) -> list:
  """[(architecture of the students, subset, Correlation of the paper's abscissa and accuracy,
  Correlation of the student's own similarity and accuracy)]."""
  rows = []
  for kind in dict.fromkeys(student.kind for student in students):
    for which in distillation.SUBSETS:
      chosen = distillation.subset([student for student in students if student.kind == kind], which)
      accuracy = [student.accuracy for student in chosen]
      rows.append(
        (
          kind,
          which,
          correlation([s.to_undistilled for s in chosen], accuracy),
          correlation([s.to_student for s in chosen], accuracy),
        )
      )
  return rows


def plain_accuracy(analysis: Analysis, kind: str) -> float:
  """Mean accuracy of the undistilled models of an architecture; NaN if there are none."""
  everything = analysis.everything
  names = architecture_names(everything.members)
  place = next((i for i, name in enumerate(names) if name == kind), None)
  if place is None:
    return math.nan
  undistilled = distillation.undistilled(everything, architecture(everything.members[place]))
  return float(np.mean(everything.accuracy[undistilled])) if undistilled else math.nan
