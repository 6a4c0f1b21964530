"""All numbers of an analysis as JSON."""

import dataclasses
import json
import math

import numpy as np

from dissim_jax.studies.pool import analysis as analysis_lib
from dissim_jax.studies.pool import categories, measures
from dissim_jax.studies.pool.analysis import Analysis
from dissim_jax.studies.pool.statistics import spread


def text(found: Analysis) -> str:
  """`analysis.json`; what is not defined is null."""
  return json.dumps(_plain(content(found)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def content(found: Analysis) -> dict:
  """The numbers of every section."""
  names = found.pool.names
  return {
    "settings": dataclasses.asdict(found.settings),
    "models": [
      {
        "name": name,
        "architecture": kind,
        "cluster": int(cluster),
        "accuracy": accuracy,
        "white_box": white_box,
      }
      for name, kind, cluster, accuracy, white_box in zip(
        names, found.kinds, found.clusters, found.pool.accuracy, found.pool.white_box, strict=True
      )
    ],
    "clusters": [
      {
        "members": [names[i] for i in found.order if found.clusters[i] == cluster],
        "keywords": keywords,
      }
      for cluster, keywords in zip(np.unique(found.clusters), found.keywords, strict=True)
    ],
    "spectral_features": found.features,
    "importance": found.importance,
    "same_architecture": found.same,
    "cross_architecture": found.cross,
    "architecture_p": found.architecture_p,
    "bases": [{"a": a, "b": b, "similarity": s} for a, b, s in analysis_lib.by_base(found)],
    "error_reduction": {
      rule: {"correlation": found.reduction[rule], "permutation_p": found.reduction_p[rule]}
      for rule in measures.RULES
    },
    "pairs": len(found.pairs.first),
    "pairs_without_errors": found.flawless,
    "pairs_without_similarity": found.missing,
    "ensembles": [
      {"models": size, "clusters": k, "measured": shown, "possible": total, **measured._asdict()}
      for (size, k), (measured, shown, total) in found.ensembles.items()
    ],
    "categories": {
      category: _category(found, category)
      for category in categories.CATEGORIES
      if found.within(category).any()
    },
    "gain_against_error_inconsistency": analysis_lib.gain_correlation(found),
    "outside_accuracy_band": found.outside,
    "within_architectures": [
      {"architecture": kind, "category": category, "similarity": s}
      for kind, category, s in analysis_lib.within_architectures(found)
    ],
    "students": [_student(found, student) for student in found.students],
    "students_without_teacher": found.lost,
    "distillation": [
      {"architecture": kind, "teachers": which, "undistilled": plain, "student": own}
      for kind, which, plain, own in analysis_lib.distillation_correlations(found.students)
    ],
  }


def _category(found: Analysis, category: str) -> dict:
  chosen = found.within(category)
  return {
    "pairs": int(chosen.sum()),
    "similarity": spread(found.pairs.similarity[chosen]),
    **{name: spread(values[chosen]) for name, values in found.pairs.values.items()},
  }


def _student(found: Analysis, student) -> dict:
  names = found.everything.names
  return {**student._asdict(), "place": names[student.place], "teacher": names[student.teacher]}


def _plain(value):
  """Arrays, tuples and NaN as JSON has them."""
  if hasattr(value, "_asdict"):
    return _plain(value._asdict())
  if isinstance(value, dict):
    return {str(key): _plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple | np.ndarray):
    return [_plain(item) for item in value]
  if isinstance(value, np.generic):
    value = value.item()
  return None if isinstance(value, float) and not math.isfinite(value) else value
