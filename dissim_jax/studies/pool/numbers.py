"""All numbers of an analysis as JSON."""

import dataclasses
import json
import math

import numpy as np

from dissim_jax.studies.pool import analysis as analysis_lib
from dissim_jax.studies.pool import categories, measures
from dissim_jax.studies.pool.analysis import Analysis
from dissim_jax.studies.pool.statistics import spread


def text(analysis: Analysis) -> str:
  """`analysis.json`; what is not defined is null."""
  return json.dumps(_plain(content(analysis)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def content(analysis: Analysis) -> dict:
  """The numbers of every section."""
  names = analysis.pool.names
  return {
    "settings": dataclasses.asdict(analysis.settings),
    "models": [
      {
        "name": name,
        "architecture": kind,
        "cluster": int(cluster),
        "accuracy": accuracy,
        "white_box": white_box,
      }
      for name, kind, cluster, accuracy, white_box in zip(
        names,
        analysis.kinds,
        analysis.clusters,
        analysis.pool.accuracy,
        analysis.pool.white_box,
        strict=True,
      )
    ],
    "clusters": [
      {
        "members": [names[i] for i in analysis.order if analysis.clusters[i] == cluster],
        "keywords": keywords,
      }
      for cluster, keywords in zip(np.unique(analysis.clusters), analysis.keywords, strict=True)
    ],
    "spectral_features": analysis.features,
    "importance": analysis.importance,
    "same_architecture": analysis.same,
    "cross_architecture": analysis.cross,
    "architecture_p": analysis.architecture_p,
    "bases": [{"a": a, "b": b, "similarity": s} for a, b, s in analysis_lib.by_base(analysis)],
    "error_reduction": {
      rule: {"correlation": analysis.reduction[rule], "permutation_p": analysis.reduction_p[rule]}
      for rule in measures.RULES
    },
    "pairs": len(analysis.pairs.first),
    "pairs_without_errors": analysis.flawless,
    "pairs_without_similarity": analysis.missing,
    "ensembles": [
      {"models": size, "clusters": k, "measured": shown, "possible": total, **measured._asdict()}
      for (size, k), (measured, shown, total) in analysis.ensembles.items()
    ],
    "categories": {
      category: _category(analysis, category)
      for category in categories.CATEGORIES
      if analysis.within(category).any()
    },
    "gain_against_error_inconsistency": analysis_lib.gain_correlation(analysis),
    "outside_accuracy_band": analysis.outside,
    "within_architectures": [
      {"architecture": kind, "category": category, "similarity": s}
      for kind, category, s in analysis_lib.within_architectures(analysis)
    ],
    "students": [_student(analysis, student) for student in analysis.students],
    "students_without_teacher": analysis.lost,
    "distillation": [
      {
        "architecture": kind,
        "teachers": which,
        "undistilled": plain,
        "student": student_correlation,
      }
      for kind, which, plain, student_correlation in analysis_lib.distillation_correlations(
        analysis.students
      )
    ],
  }


def _category(analysis: Analysis, category: str) -> dict:
  chosen = analysis.within(category)
  return {
    "pairs": int(chosen.sum()),
    "similarity": spread(analysis.pairs.similarity[chosen]),
    **{name: spread(values[chosen]) for name, values in analysis.pairs.values.items()},
  }


def _student(analysis: Analysis, student) -> dict:
  names = analysis.everything.names
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
