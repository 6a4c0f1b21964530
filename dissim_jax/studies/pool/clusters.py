"""Spectral clusters of a similarity matrix, and the words that tell them apart."""

import warnings

import numpy as np
import scipy.linalg
from scipy.sparse.csgraph import laplacian as csgraph_laplacian
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from dissim_jax.seeds import folded


def affinity(similarity: np.ndarray) -> np.ndarray:
  """The weights of the graph that is clustered: the similarity, with three rules.

  A similarity below 0 (less than 1 % of the images fooled) counts as 0: it is not shifted, so that
  all others keep the paper's weights. A pair without a value gets the mean of what its two models
  have with all others. The diagonal is 0, as in Ng et al. 2001.

  Args:
    similarity: float64 [M, M], symmetric; NaN where a pair was not computed.

  Returns:
    float64 [M, M], symmetric, >= 0.
  """
  weights = np.clip(np.asarray(similarity, np.float64), 0, None)
  np.fill_diagonal(weights, np.nan)
  known = np.isfinite(weights)
  counts, sums = known.sum(1), np.where(known, weights, 0.0).sum(1)
  overall = sums.sum() / max(1, counts.sum())
  means = np.where(counts > 0, sums / np.maximum(counts, 1), overall)
  weights = np.where(known, weights, (means[:, None] + means) / 2)
  np.fill_diagonal(weights, 0.0)
  return weights


def spectral_clusters(similarity: np.ndarray, k: int, restarts: int, seed: int) -> np.ndarray:
  """Spectral clustering with the normalised Laplacian (Hwang et al., section 3.1 and appendix C).

  The best of `restarts` runs of K-means on `spectral_features`: scikit-learn's SpectralClustering,
  but with a dense eigenvalue solver, as its sparse one gives another basis in every process where
  eigenvalues coincide.

  Differs from the paper: A is `affinity(similarity)`, which is >= 0 and has no gaps.

  Args:
    similarity: float64 [M, M], symmetric.
    k: number of clusters; of M and more, every model is its own.
    restarts: of K-means.
    seed: of K-means.

  Returns:
    int [M], numbers from 0; larger clusters first, equal ones by their first model. Where points
    coincide there can be fewer than k; one if all pairs are equally similar.
  """
  count = len(similarity)
  if k >= count:
    return np.arange(count)
  weights = affinity(similarity)[~np.eye(count, dtype=bool)]
  if k == 1 or np.ptp(weights) <= 1e-9 * weights.max():
    return np.zeros(count, int)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # Points may coincide.
    labels = KMeans(k, n_init=restarts, random_state=folded(seed)).fit_predict(
      spectral_features(similarity, k)
    )
  firsts = {label: int(np.argmax(labels == label)) for label in np.unique(labels)}
  order = sorted(firsts, key=lambda label: (-np.sum(labels == label), firsts[label]))
  return np.array([order.index(label) for label in labels])


def spectral_features(similarity: np.ndarray, k: int) -> np.ndarray:
  """The k first eigenvectors of `I - D^-1/2 A D^-1/2`, divided by the root of the degrees.

  Returns:
    float64 [M, k], or [M, M] if k is larger; of each column the entry of largest size is positive.
  """
  laplacian, root = csgraph_laplacian(affinity(similarity), normed=True, return_diag=True)
  last = min(k, len(laplacian)) - 1
  features = scipy.linalg.eigh(laplacian, subset_by_index=(0, last))[1] / root[:, None]
  largest = np.take_along_axis(features, np.abs(features).argmax(0)[None], axis=0)
  return features * np.where(largest < 0, -1.0, 1.0)


def words(components: dict) -> list:
  """A model's document: "component: value" of every component that has a value."""
  return [
    f"{name.replace('_', ' ')}: {value}" for name, value in components.items() if str(value) != ""
  ]


def keywords(documents: list, clusters: np.ndarray, count: int) -> list:
  """The words of the highest mean TF-IDF in each cluster (Hwang et al., section 3.1).

  TF is 1, as a model has each word once; the IDF is scikit-learn's smooth one, `ln((1 + n) /
  (1 + n_w)) + 1` of n models, n_w with the word. Documents are not normalised, so the score is the
  IDF times the share of the cluster that has the word. Words that all models have are left out:
  they tell nothing apart.

  Args:
    documents: [words] of each model; seeds of one architecture count one by one.
    clusters: int [M].
    count: words for each cluster.

  Returns:
    For each cluster [(word, score)], the highest first, equal ones in alphabetical order.
  """
  if not any(documents):
    return [[] for _ in np.unique(clusters)]
  vectorizer = CountVectorizer(analyzer=list)
  counts = vectorizer.fit_transform(documents)
  scores = TfidfTransformer(norm=None, smooth_idf=True).fit_transform(counts).toarray()
  present = counts.toarray() > 0
  names, shared = vectorizer.get_feature_names_out(), present.all(0)
  top_words = []
  for cluster in np.unique(clusters):
    means = scores[clusters == cluster].mean(0)
    order = [w for w in np.lexsort((names, -means.round(12))) if means[w] > 0 and not shared[w]]
    top_words.append([(str(names[w]), float(means[w])) for w in order[:count]])
  return top_words
