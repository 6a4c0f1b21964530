"""The stitching experiments of Csiszárik et al. 2021, each a function of one pair of networks.

An experiment takes a `StitchPair` to `(results, arrays)`: what a figure needs, as JSON, and the
stitching matrices. A new one is such a function and an entry in `registry.stitching`. Results have
one entry a tap in every list.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dissim_jax.similarity import MEASURES, Moments
from dissim_jax.studies.stitching import maps
from dissim_jax.studies.stitching.maps import Stitch
from dissim_jax.studies.stitching.pair import DIRECT, Row, StitchPair, solve

Result = tuple[dict[str, Any], dict[str, np.ndarray]]


def _columns(per_tap: Sequence[Sequence[Row]], names: Sequence[str]) -> dict[str, dict[str, list]]:
  """`[tap][method]` rows as `{method: {quantity: [value of each tap]}}`."""
  return {
    name: {key: [rows[i][key] for rows in per_tap] for key in per_tap[0][i]}
    for i, name in enumerate(names)
  }


def matching(study: StitchPair, methods: Sequence[str] = (*DIRECT, "task_loss")) -> Result:
  """Experiment 1: least squares and other direct maps against task loss, at every tap."""
  per_tap, arrays = [], {}
  for index, (tap, _) in enumerate(study.seams):
    stitches = [solve(study, index, name) for name in methods]
    per_tap.append(study.score(index, stitches))
    for name, stitch in zip(methods, stitches, strict=True):
      arrays[f"{name}/{tap}/kernel"], arrays[f"{name}/{tap}/bias"] = map(np.asarray, stitch)
  return {"methods": _columns(per_tap, methods)}, arrays


def indices(study: StitchPair) -> Result:
  """Experiment 3: similarity indices while a stitch is trained, from the least-squares start.

  Per tap and epoch (0 is the start): accuracy, cross-entropy, LinCKA and R^2 at the seam, CCA and
  SVCCA between S(source) and target, all on test images.
  """
  per_tap = []
  for index in range(len(study.seams)):
    history: list[Stitch] = []
    start = study.start(index, study.settings.start, study.seed)
    study.train(index, start, after_epoch=lambda _, stitch, h=history: h.append(stitch))
    rows = study.score(index, history)
    for row, stitch in zip(rows, history, strict=True):
      row |= {name: float(v) for name, v in _cca_indices(study.tested[index], stitch).items()}
    per_tap.append({key: [row[key] for row in rows] for key in rows[0]})
  return {"taps_by_epoch": per_tap}, {}


@jax.jit
def _cca_indices(m: Moments, stitch: Stitch) -> dict[str, jax.Array]:
  at_seam = maps.stitched_moments(m, stitch)
  return {name: MEASURES[name].from_moments(at_seam) for name in ("cca", "svcca")}


def low_cka(study: StitchPair) -> Result:
  """Experiment 4: a network stitched to itself, from the identity, with a penalty on the CKA.

  Per tap and epoch: accuracy and the CKA of S(z) with z.
  """
  per_tap, arrays = [], {}
  for index, (tap, _) in enumerate(study.seams):
    history: list[Stitch] = []
    study.train(
      index,
      study.start(index, "identity"),
      cka_weight=study.settings.cka_weight,
      after_epoch=lambda _, stitch, h=history: h.append(stitch),
    )
    rows = study.score(index, history)
    per_tap.append({key: [row[key] for row in rows] for key in rows[0]})
    arrays[f"low_cka/{tap}/kernel"] = np.asarray(history[-1].kernel)
  return {"taps_by_epoch": per_tap}, arrays


def initialisation(study: StitchPair) -> Result:
  """Experiment 5: does the start matter? Several random starts, several from least squares.

  Starts of one kind differ by the seed, which draws the random kernel and the order of the images.
  Per tap: the relative accuracy and cross-entropy of each.
  """
  per_tap = []
  for index in range(len(study.seams)):
    per_tap.append(
      {
        start: [
          {key: row[key] for key in ("relative_accuracy", "cross_entropy")}
          for row in study.score(index, study.solutions(index, start))
        ]
        for start in ("random", "least_squares")
      }
    )
  return {"starts_by_tap": per_tap}, {}


def connectivity(study: StitchPair) -> Result:
  """Experiment 6: linear mode connectivity of the solutions from random starts.

  Per tap, for all pairs of solutions that keep `settings.connected_accuracy` of the target's
  accuracy: the relative accuracy of `(1 - t) S_1 + t S_2` at `settings.connected_points` values of
  t from 0 to 1.
  """
  shares = np.linspace(0.0, 1.0, study.settings.connected_points)
  per_tap = []
  for index in range(len(study.seams)):
    solutions = study.solutions(index, "random")
    rows = study.score(index, solutions)
    least = study.settings.connected_accuracy
    kept = [i for i, row in enumerate(rows) if row["relative_accuracy"] >= least]
    curves = []
    for i, j in itertools.combinations(kept, 2):
      between = [
        jax.tree.map(lambda a, b, t=t: (1.0 - t) * a + t * b, solutions[i], solutions[j])
        for t in shares
      ]
      curves.append([row["relative_accuracy"] for row in study.score(index, between)])
    per_tap.append({"kept": len(kept), "tried": len(solutions), "curves": curves})
  return {"shares": shares.tolist(), "paths_by_tap": per_tap}, {}


def sparsity(study: StitchPair) -> Result:
  """Experiment 7: accuracy against sparsity, L1-regularised direct and task-loss matching.

  The strengths `settings.l1_direct` are shares of the smallest one that makes the kernel zero;
  `settings.l1_task` are weights of the sum of absolute entries beside the cross-entropy. Entries
  below 1e-4 are set to zero before anything is measured. Per tap and strength.
  """
  per_tap, arrays = [], {}
  for index, (tap, _) in enumerate(study.seams):
    by_method = {
      "direct": [solve(study, index, "sparse", l1=l1) for l1 in study.settings.l1_direct],
      "task_loss": [
        maps.cut(solve(study, index, "task_loss", l1=l1)) for l1 in study.settings.l1_task
      ],
    }
    per_tap.append({name: study.score(index, stitches) for name, stitches in by_method.items()})
    for name, stitches in by_method.items():
      arrays[f"{name}/{tap}/kernels"] = np.stack([np.asarray(s.kernel) for s in stitches])
  strengths = {"direct": list(study.settings.l1_direct), "task_loss": list(study.settings.l1_task)}
  return {"strengths": strengths, "by_tap": per_tap}, arrays


def low_rank(study: StitchPair) -> Result:
  """Section 7: reduced-rank least squares against a trained bottleneck of the same rank."""
  per_tap, used = [], []
  for index in range(len(study.seams)):
    channels = min(study.fitted[index].xy.shape)
    ranks = [rank for rank in study.settings.ranks if rank <= channels]
    per_tap.append(
      {
        name: study.score(index, [solve(study, index, method, rank) for rank in ranks])
        for name, method in (("least_squares", "reduced_rank"), ("task_loss", "task_loss"))
      }
    )
    used.append(ranks)
  return {"ranks_by_tap": used, "by_tap": per_tap}, {}


def width(study: StitchPair) -> Result:
  """Experiment 2, for one width: least squares and task loss. Widths are runs of their own."""
  return matching(study, ("least_squares", "task_loss"))
