"""Reads the files of a transfer study."""

import dataclasses
import math
import os
import zipfile

import numpy as np

from dissim_jax.errors import UserError
from dissim_jax.files.atomic import read_json
from dissim_jax.registry.objectives import DISTILL

FACTS, ARRAYS = "transfer.json", "transfer.npz"
# Words of `components` that are not among the 13 of Hwang et al., Table 1.
NOT_IN_PAPER = ("kernel", "width", "depth")


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
  """Models and what their attacks did to each other.

  Attributes:
    folder: as it was given.
    members: what `transfer.json` says of each model.
    labels: int [N].
    logits: float64 [M, N, K] on clean images.
    similarity: float64 [M, M], symmetric; NaN where a pair was not computed.
    counts: int [M, M], images both models of a pair get right.
    white_box: float64 [M], share of its own images that a model's own attack fools; or NaN.
    one_sided: bool [M, M], pairs of which only one model's attack was tried; symmetric.
    facts: the other fields of `transfer.json`.
  """

  folder: str
  members: list
  labels: np.ndarray
  logits: np.ndarray
  similarity: np.ndarray
  counts: np.ndarray
  white_box: np.ndarray
  one_sided: np.ndarray
  facts: dict

  @property
  def names(self) -> list:
    return [member["name"] for member in self.members]

  @property
  def predictions(self) -> np.ndarray:
    """int [M, N]."""
    return self.logits.argmax(-1)

  @property
  def correct(self) -> np.ndarray:
    """bool [M, N]."""
    return self.predictions == self.labels

  @property
  def accuracy(self) -> np.ndarray:
    """float64 [M], on the images here."""
    return self.correct.mean(-1)

  @property
  def bases(self) -> list:
    """The base architecture of each model."""
    return [str(member["components"]["base"]) for member in self.members]

  def only(self, indices) -> "Pool":
    """The pool of some of the models."""
    indices = np.asarray(list(indices), int)
    square = np.ix_(indices, indices)
    return dataclasses.replace(
      self,
      members=[self.members[i] for i in indices],
      logits=self.logits[indices],
      similarity=self.similarity[square],
      counts=self.counts[square],
      white_box=self.white_box[indices],
      one_sided=self.one_sided[square],
    )


def architecture(member: dict) -> tuple:
  """What two models of one architecture share."""
  return (member["model"], float(member["width_multiplier"]), member["stem"], member["patch_size"])


def architecture_names(members: list) -> list:
  """A name for the architecture of each member: the model's, and what else tells it apart."""
  kinds = [architecture(member) for member in members]
  names = []
  for kind in kinds:
    rivals = {other for other in kinds if other[0] == kind[0]}
    parts = [
      f"{title} {kind[place]:g}" if kind[place] is not None else f"no {title}"
      for place, title in ((1, "width"), (2, "stem"), (3, "patch"))
      if len({other[place] for other in rivals}) > 1
    ]
    names.append(" ".join([kind[0], *parts]))
  return names


def is_student(member: dict) -> bool:
  """Whether a model was trained on another's labels."""
  return member["objective"] == DISTILL


def read_pool(folder: str | os.PathLike) -> Pool:
  """Reads a folder that `python -m dissim_jax.transfer` wrote.

  Raises:
    UserError: a file is missing or damaged; the sentence names it.
  """
  shown = os.fspath(folder)
  facts, arrays = _read_facts(shown), _read_arrays(shown)
  file = FACTS
  try:
    members = [_member(row) for row in facts["members"]]
    number = {member["name"]: index for index, member in enumerate(members)}
    if not members or len(number) < len(members):
      raise ValueError("names of members must be unique, and there must be some")
    one_sided = np.zeros((len(members), len(members)), bool)
    for source, target in facts.get("one_sided", []):
      one_sided[number[source], number[target]] = one_sided[number[target], number[source]] = True
    file = ARRAYS
    fields = _arrays(arrays, [member["name"] for member in members])
  except KeyError as error:
    raise _damaged(shown, file, f"lacks {error}") from None
  except (ValueError, TypeError, AttributeError, IndexError) as error:
    raise _damaged(shown, file, f"has values of another form ({error})") from None
  rest = {key: value for key, value in facts.items() if key not in ("members", "one_sided")}
  return Pool(shown, members, **fields, one_sided=one_sided, facts=rest)


def _member(row: dict) -> dict:
  """The row, if it has what the analysis needs."""
  for name in ("name", "folder", "model", "objective"):
    if not isinstance(row[name], str):
      raise TypeError(f"{name} of a member is {row[name]!r}")
  for name in ("stem", "patch_size", "seed", "index"):
    if row[name] is not None and not isinstance(row[name], int):
      raise TypeError(f"{name} of {row['name']} is {row[name]!r}")
  if not math.isfinite(float(row["width_multiplier"])):
    raise ValueError(f"width_multiplier of {row['name']}")
  if not isinstance(row["components"], dict) or not isinstance(row["config"], dict):
    raise TypeError(f"components and config of {row['name']} must be objects")
  row["components"]["base"]
  list(row["teachers"])
  return row


def _arrays(arrays: dict, names: list) -> dict:
  labels, logits = arrays["labels"], arrays["logits"].astype(np.float64)
  similarity, counts = arrays["similarity"].astype(np.float64), arrays["counts"]
  fooled, models = arrays["fooled"].astype(np.float64), len(names)
  if [str(name) for name in arrays["names"]] != names:
    raise ValueError(f"names differ from those of {FACTS}")
  if logits.ndim != 3 or logits.shape[:2] != (models, len(labels)) or 0 in logits.shape:
    raise ValueError(f"logits {logits.shape}, labels {labels.shape}")
  if any(values.shape != (models, models) for values in (similarity, counts, fooled)):
    raise ValueError(f"similarity {similarity.shape}, counts {counts.shape}")
  if not np.isfinite(logits).all() or np.isinf(similarity).any():
    raise ValueError("logits or similarities that are not finite")
  if not np.allclose(similarity, similarity.T, atol=1e-9, equal_nan=True):
    raise ValueError("similarity is not symmetric")
  if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[-1]:
    raise ValueError(f"labels must be in 0..{logits.shape[-1] - 1}")
  return {
    "labels": labels,
    "logits": logits,
    "similarity": (similarity + similarity.T) / 2,
    "counts": counts,
    "white_box": np.diagonal(fooled).copy(),
  }


def _read_facts(folder: str) -> dict:
  try:
    return read_json(os.path.join(folder, FACTS))
  except (ValueError, OSError) as error:
    raise _damaged(folder, FACTS, f"cannot be read ({_reason(error)})") from None


def _read_arrays(folder: str) -> dict:
  try:
    with np.load(os.path.join(folder, ARRAYS), allow_pickle=False) as archive:
      return {key: archive[key] for key in archive.files if key != "predictions"}
  except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
    raise _damaged(folder, ARRAYS, f"cannot be read ({_reason(error)})") from None


def _reason(error: Exception) -> str:
  return getattr(error, "strerror", None) or str(error)


def _damaged(folder: str, name: str, reason: str) -> UserError:
  return UserError(
    f"{os.path.join(folder, name)} {reason}: make it with python -m "
    f"dissim_jax.transfer --members=... --out={folder}"
  )
