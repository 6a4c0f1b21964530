"""Members and ensembles on corrupted test images: accuracy, shared errors, and the ensemble's gain.

Rosales et al. 2023, sections 3.3 and 4, ask whether diverse members make an ensemble more resilient
to natural corruptions; Wald et al. 2023, appendix B.2, give the measures of shared errors.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax import corruptions, metrics
from dissim_jax.data.augment import normalise
from dissim_jax.data.pixels import check_images
from dissim_jax.members.member import Member
from dissim_jax.registry.metrics import metrics_of
from dissim_jax.seeds import folded
from dissim_jax.studies.context import Context


def measure(
  context: Context, settings: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """`robustness` on the test images, by the settings of `settings.asked`."""
  return robustness(
    context.members,
    context.sequences,
    context.dataset.test_images,
    context.dataset.test_labels,
    batch_size=context.config.evaluate.batch_size,
    **settings,
  )


def robustness(
  members: Sequence[Member],
  sequences: dict[str, list[str]],
  images: np.ndarray,
  labels: np.ndarray,
  *,
  names: Sequence[str],
  severities: Sequence[float],
  seed: int,
  batch_size: int,
  rule: str,
  preprocess: Callable[[jax.Array], jax.Array] | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Predictions of all members on clean images and under every corruption at every severity.

  A member that several sequences share is computed once. Corrupted images are made batch by batch
  on the device and not kept.

  Args:
    members: one or more; of equal names the last counts.
    sequences: name of a sequence (an ensemble) -> the names of its members.
    images: uint8 [N, H, W, C].
    labels: integer [N].
    names: of corruptions, see `corruptions.CORRUPTIONS`.
    severities: each >= 0.
    seed: of the corruptions, and of ties between votes.
    batch_size: images at once.
    rule: how members are combined, see `metrics.ensemble_predictions`.
    preprocess: from uint8 images to the networks' input; None normalises for each member with its
      own mean and standard deviation.

  Returns:
    A dictionary for JSON: "severities", "seed", "rule", "corruptions" (name and title), "clean" and
    "conditions" (a list, with "corruption" and "severity"), these two with "members" (name ->
    accuracy) and "sequences" (name -> `ensemble_row`).
    Arrays: "original" uint8 [H, W, C], the first image, and "images" uint8 [corruptions,
    severities, H, W, C], what becomes of it.

  Raises:
    UserError: an unknown corruption, or a severity that is negative or not finite.
    ValueError: other arguments do not fit.
  """
  chosen = [corruptions.get(name) for name in names]
  severities = [corruptions.check_severity(severity) for severity in severities]
  members = {member.name: member for member in members}
  _check(members, sequences, images, labels, batch_size)
  predict = _predictor(list(members.values()), preprocess, len(images), batch_size)
  describe = functools.partial(
    _describe, names=list(members), sequences=sequences, labels=labels, rule=rule, seed=seed
  )
  logits, _ = predict(lambda start, size: images[corruptions.rows(len(images), start, size)])
  metrics.checks.check_indices(num_classes=logits.shape[-1], labels=np.asarray(labels))
  result = {
    "severities": severities,
    "seed": int(seed),
    "rule": rule,
    "corruptions": [{"name": c.name, "title": c.label} for c in chosen],
    "clean": describe(logits),
    "conditions": [],
  }
  pictures = np.empty((len(chosen), len(severities), *images.shape[1:]), np.uint8)
  for i, corruption in enumerate(chosen):
    for j, severity in enumerate(severities):
      corrupted = functools.partial(
        corruptions.corrupt_batch, corruption.name, images, severity, seed
      )
      logits, pictures[i, j] = predict(corrupted)
      condition = {"corruption": corruption.name, "severity": severity}
      result["conditions"].append(condition | describe(logits))
  return result, {"original": np.array(images[0]), "images": pictures}


def ensemble_row(
  logits: np.ndarray, labels: np.ndarray, rule: str, seed: int
) -> dict[str, float | None]:
  """What an ensemble of members with logits [M, N, K] gains, and how alike its members err.

  "member_accuracy" is the mean over the members, "best_member_accuracy" that of the member which is
  the best on these images; "gain_over_mean" and "gain_over_best" are the ensemble's accuracy less
  these, "error_reduction_rate" is 1 - error of the ensemble / mean error of the members. Kappas and
  the Jensen-Shannon divergence are means over all pairs.

  Returns:
    Python floats; None where a value is not defined: pairs of a single member, a kappa of members
    without errors, the error reduction where no member errs.
  """
  predictions, combined, pairs = jax.device_get(_combine(logits, labels, rule, folded(seed)))
  wrong, count = np.sum(predictions != labels, axis=1), len(labels)
  total, fewest, ensemble = (int(n) for n in (wrong.sum(), wrong.min(), np.sum(combined != labels)))
  # From whole numbers, so that an ensemble like its members gains 0 and not 1e-16.
  row = {
    "member_accuracy": 1 - total / (count * len(wrong)),
    "best_member_accuracy": 1 - fewest / count,
    "ensemble_accuracy": 1 - ensemble / count,
    **{name: float(pairs[name]) for name in metrics_of("pair") if name in pairs},
    "gain_over_best": (fewest - ensemble) / count,
    "gain_over_mean": (total - ensemble * len(wrong)) / (count * len(wrong)),
    "error_reduction_rate": 1 - ensemble * len(wrong) / total if total else math.nan,
  }
  return {name: value if math.isfinite(value) else None for name, value in row.items()}


@functools.partial(jax.jit, static_argnames="rule")
def _combine(logits, labels, rule, seed):
  """Predictions [M, N] of the members and [N] of the ensemble, and the pair measures."""
  predictions, probs = jnp.argmax(logits, -1), jax.nn.softmax(logits)
  combined = metrics.ensemble_predictions(logits, rule, key=jax.random.key(seed))
  given = {"classes": predictions, "probabilities": probs, "labels": labels}
  pairs = {
    name: metrics.pairwise_mean(metric.function, *(given[argument] for argument in metric.takes))
    if len(logits) > 1
    else jnp.nan
    for name, metric in metrics_of("pair").items()
    if "conditions" in metric.tables
  }
  return predictions, combined, pairs


def _describe(logits, names, sequences, labels, rule, seed):
  """Accuracies of the members and rows of the sequences of logits [M, N, K]."""
  accuracies = np.mean(logits.argmax(-1) == labels, axis=1)
  return {
    "sequences": {
      sequence: ensemble_row(
        logits[np.array([names.index(member) for member in chosen])], labels, rule, seed
      )
      for sequence, chosen in sequences.items()
    },
    "members": {name: float(value) for name, value in zip(names, accuracies, strict=True)},
  }


def _predictor(members, preprocess, count, batch_size):
  """A function from `(start, size) -> batch` to all logits [M, N, K] and the first image."""

  @jax.jit
  def forward(variables, images):
    outputs = []
    for member, member_variables in zip(members, variables, strict=True):
      ready = preprocess(images) if preprocess else normalise(images, member.mean, member.std)
      outputs.append(member.model.apply(member_variables, ready)[0].astype(jnp.float32))
    return jnp.stack(outputs)

  variables = [member.variables for member in members]
  size = min(batch_size, count)

  def predict(make_batch):
    logits, first = [], None
    for start in range(0, count, size):
      batch = make_batch(start, size)
      first = np.asarray(batch[0]) if first is None else first
      logits.append(np.asarray(forward(variables, batch)))
    return np.concatenate(logits, axis=1)[:, :count], first

  return predict


def _check(members, sequences, images, labels, batch_size):
  """Raises ValueError, in a sentence, for arguments that do not fit each other."""
  check_images(images)
  if not len(images) or np.shape(labels) != (len(images),):
    raise ValueError(
      f"labels: shape {np.shape(labels)}, expected one for each of {len(images)} images, 1 or more"
    )
  if not np.issubdtype(np.asarray(labels).dtype, np.integer):
    raise ValueError(f"labels: dtype {np.asarray(labels).dtype}, expected integers")
  if batch_size < 1:
    raise ValueError(f"batch_size={batch_size}: must be 1 or more")
  if not members:
    raise ValueError("members: none, expected 1 or more")
  for sequence, chosen in sequences.items():
    unknown = [name for name in chosen if name not in members]
    if unknown or not chosen:
      raise ValueError(
        f"sequences[{sequence!r}]={list(chosen)}: must name members of {list(members)}"
      )
