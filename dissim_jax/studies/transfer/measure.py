"""Attack transfer between members: whether images made to fool one of them fool the others.

Hwang et al., "Similarity of neural architectures based on input gradient transferability", call two
networks similar when adversarial images made for the one fool the other (section 2, Eq. 1).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dissim_jax import metrics
from dissim_jax.attacks import Attack, check_attack
from dissim_jax.data.examples import balanced_part
from dissim_jax.errors import UserError
from dissim_jax.members.member import Member, classifier
from dissim_jax.metrics import checks
from dissim_jax.studies.context import Context
from dissim_jax.studies.transfer.attacked import attack_member, logits_on

SHOWN = 8  # adversarial images that are kept to look at


def log_similarity(fooled_ab, fooled_ba, count, floor: float) -> np.ndarray:
  """How similar A and B are: `log max(floor, 100 / (2 |X_AB|) * (fooled_ab + fooled_ba))`.

  Hwang et al., Eq. 1, with the natural logarithm; symmetric.

  Args:
    fooled_ab: on how many images of X_AB, those that both get right, B errs once A's attack has
      changed them; number or array.
    fooled_ba: the same of A and B's attack.
    count: |X_AB|.
    floor: eps_s, above 0: the smallest percentage that is told from 0. The paper calls it "a small
      value".

  Returns:
    float64 in log(floor) (nothing transfers) .. log(100) = 4.605 (every attack fools both: a
    network and itself, under a perfect attack); NaN where count is 0.
  """
  return one_sided_log_similarity(np.add(fooled_ab, fooled_ba), np.multiply(count, 2), floor)


def one_sided_log_similarity(fooled, count, floor: float) -> np.ndarray:
  """The approximation by one attack alone: `log max(floor, 100 / |X_ST| * fooled)`.

  What a network that is added to a pool is compared by (Hwang et al., appendix G): the target errs
  on `fooled` of the `count` images that both it and the source get right. Not symmetric. Range,
  direction and `floor` as of `log_similarity`.
  """
  count = np.asarray(count, np.float64)
  share = np.divide(fooled, count, out=np.full(np.shape(count), np.nan), where=count > 0)
  return np.log(np.maximum(floor, 100.0 * share))


def check_floor(floor: float, field: str) -> None:
  """Raises UserError unless it is a percentage above 0."""
  if not 0 < floor <= 100:
    raise UserError(f"{field}={floor!r}: must be a number above 0 and up to 100")


def pair_arrays(
  predictions: np.ndarray, right: np.ndarray, labels: np.ndarray, floor: float
) -> dict[str, np.ndarray]:
  """What predictions on adversarial images say of every pair.

  Args:
    predictions: int `[M, M, N]`, what target t predicts on the image n made for source s, axes
      source, target, image; -1 where s was wrong on the clean image. A pair all of whose
      predictions are -1 counts as not computed.
    right: bool `[M, N]`, who gets which clean image right.
    labels: integer `[N]`.
    floor: see `log_similarity`.

  Returns:
    "counts" int `[M, M]`, |X_AB|; "fooled" float64 `[M, M]`, the share of X_AB that is fooled, axes
    source and target, NaN where not computed; "similarity" float64 `[M, M]`, symmetric, one-sided
    where only one direction was computed, NaN where none; "computed" bool `[M, M]`.
  """
  both = right[:, None] & right[None]
  counts = both.sum(-1)
  computed = (predictions >= 0).any(-1)
  number = np.sum((predictions != labels) & both, -1)
  some = computed & (counts > 0)
  fooled = np.divide(number, counts, out=np.full(counts.shape, np.nan), where=some)
  one = np.where(computed, one_sided_log_similarity(number, counts, floor), np.nan)
  similarity = np.where(
    computed & computed.T,
    log_similarity(number, number.T, counts, floor),
    np.where(computed, one, one.T),
  )
  return {"counts": counts, "fooled": fooled, "similarity": similarity, "computed": computed}


def attack_of(settings: dict[str, Any]) -> Attack:
  """The attack of a config's `transfer` block."""
  fields = ("epsilon", "step_size", "iterations", "random_start", "momentum", "seed")
  return Attack(settings["attack"], **{field: settings[field] for field in fields})


def measure(
  context: Context, settings: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """`transferability` on some of the test images, by the settings of `settings.asked`."""
  images, labels = context.dataset.test_images, context.dataset.test_labels
  used = balanced_part(labels, settings["images"])
  return transferability(
    context.members,
    context.sequences,
    images[used],
    labels[used],
    attack=attack_of(settings),
    floor=settings["floor"],
    batch_size=context.config.evaluate.batch_size,
    rule=settings["rule"],
  )


def transferability(
  members: Sequence[Member],
  sequences: dict[str, list[str]],
  images: np.ndarray,
  labels: np.ndarray,
  *,
  attack: Attack,
  floor: float,
  batch_size: int,
  rule: str,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Attacks every member, shows the images to all, and combines their answers to ensembles'.

  A member is attacked on the images that it gets right.

  Args:
    members: one or more, of one resolution.
    sequences: name of a sequence (an ensemble) -> the names of its members.
    images: uint8 `[N, H, W, C]`.
    labels: integer `[N]`.
    attack: which, and how.
    floor: see `log_similarity`.
    batch_size: images at once.
    rule: how members are combined, see `metrics.ensemble_predictions`.

  Returns:
    A dictionary for JSON: "attack" (its settings), "floor", "images" N, "members" (names),
    "accuracy" (name -> on the clean images), "white_box" (name -> share fooled by its own attack of
    those it got right), "pairs" (of a before b: "a", "b", "images" |X_AB|, "a_to_b": the share of
    X_AB on which b is fooled by a's attack, "b_to_a", "similarity"), and "ensembles" (of the first
    "size" members of every sequence and every attacked "source": "sequence", "members", "clean" and
    "attacked" accuracy, all images that the source got right replaced, "members_attacked", that of
    each of its members, and "kept", the share that stays right of the images that both source and
    ensemble got right). None where no image is left.
    Arrays: `SHOWN` images, if possible such that all get right: "original" `[k, H, W, C]`,
    "adversarial" float32 `[M, k, H, W, C]`, "labels" `[k]`, "predictions" int16 `[M, k]` of each
    member on its own, and "members".

  Raises:
    UserError: a setting cannot be used.
    ValueError: images or labels do not fit each other or the members.
  """
  check_attack(attack)
  check_floor(floor, "floor")
  names, size = [member.name for member in members], min(batch_size, len(images))
  networks = [classifier(member) for member in members]
  clean, labels = np.stack([logits_on(each, images, size) for each in networks]), np.asarray(labels)
  checks.check_indices(num_classes=clean.shape[-1], labels=labels)
  checks.check_count("labels", labels, "images", images, axis=0)
  right = clean.argmax(-1) == labels
  shown = _shown(right, labels)
  predictions = np.full((len(names), *right.shape), -1, np.int16)
  rows, pictures = [], []
  for source, network in enumerate(networks):
    there = np.flatnonzero(right[source])
    adversarial = attack_member(network, images, labels, attack, size, right[source])
    logits = clean.copy()  # The images that were not attacked are as they were.
    for target in range(len(names)) if len(there) else ():
      logits[target, there] = logits_on(networks[target], adversarial[there], size)
      predictions[source, target, there] = logits[target, there].argmax(-1)
    rows += _ensemble_rows(sequences, names, source, clean, logits, labels, rule, attack.seed)
    pictures.append(adversarial[shown])
  arrays = pair_arrays(predictions, right, labels, floor)
  result = {
    "attack": dataclasses.asdict(attack),
    "floor": floor,
    "images": len(images),
    "members": names,
    "accuracy": {
      name: float(member_right.mean()) for name, member_right in zip(names, right, strict=True)
    },
    "white_box": {name: _number(arrays["fooled"][i, i]) for i, name in enumerate(names)},
    "pairs": [_pair_row(names, arrays, i, j) for j in range(len(names)) for i in range(j)],
    "ensembles": rows,
  }
  white_box_predictions = predictions[np.arange(len(names)), np.arange(len(names))]
  return result, {
    "original": images[shown],
    "adversarial": np.stack(pictures),
    "labels": labels[shown],
    "predictions": white_box_predictions[:, shown],
    "members": np.array(names),
  }


def _number(value: float) -> float | None:
  return float(value) if np.isfinite(value) else None


def _shown(right: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Images to look at: of those that most members get right, as many of every class."""
  score = right.sum(0)
  best = np.flatnonzero(score == score.max())
  if len(best) < SHOWN:
    return np.sort(np.argsort(-score, kind="stable")[:SHOWN])
  return best[balanced_part(np.asarray(labels)[best], SHOWN)]


def _pair_row(names: list[str], arrays: dict[str, np.ndarray], i: int, j: int) -> dict:
  return {
    "a": names[i],
    "b": names[j],
    "images": int(arrays["counts"][i, j]),
    "a_to_b": _number(arrays["fooled"][i, j]),
    "b_to_a": _number(arrays["fooled"][j, i]),
    "similarity": _number(arrays["similarity"][i, j]),
  }


def _ensemble_rows(sequences, names, source, clean, logits, labels, rule, seed) -> list[dict]:
  """Every sequence at every size before and after the attack of one member."""
  rows, source_right = [], clean[source].argmax(-1) == labels
  for sequence, chosen in sequences.items():
    for size in range(1, len(chosen) + 1):
      group = np.array([names.index(name) for name in chosen[:size]])
      before, after = (
        np.asarray(metrics.combine(each[group], rule, seed)[1]) == labels
        for each in (clean, logits)
      )
      members = (logits[group].argmax(-1) == labels).mean(-1)
      both = source_right & before
      rows.append(
        {
          "sequence": sequence,
          "members": list(chosen[:size]),
          "size": size,
          "source": names[source],
          "clean": float(before.mean()),
          "attacked": float(after.mean()),
          "members_attacked": [float(accuracy) for accuracy in members],
          "kept": float(after[both].mean()) if both.any() else None,
        }
      )
  return rows
