"""The folder of attack transfers: what is kept of each member, and what analyses read.

transfer.json, transfer.npz   what analyses read, written last
rows/<member>.npz             a member's clean logits, and what all say to its adversarial images
images/<member>.npz           its adversarial images, for members that are added later
"""

import dataclasses
import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from dissim_jax.config.values import plain
from dissim_jax.errors import UserError
from dissim_jax.files import layout
from dissim_jax.files.atomic import read_json, write_arrays
from dissim_jax.members.find import SavedMember
from dissim_jax.models import MODELS

_FIRST_STEM = 32  # of members whose file does not say it
RESULT, ARRAYS = "transfer.json", "transfer.npz"
_log = logging.getLogger(__name__)


@dataclasses.dataclass
class Row:
  """What is known of a member.

  Attributes:
    logits: on the clean images, float32 `[N, K]`; None if not yet computed.
    predictions: identity of a target -> what it says to the member's adversarial images, int16
      `[N]`, -1 where the member is wrong on the clean image.
  """

  logits: np.ndarray | None = None
  predictions: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def read_result(folder: Path, field: str) -> dict[str, Any] | None:
  """What `transfer.json` says; None where there is none.

  Raises:
    UserError: it is damaged, or the folder is that of something else.
  """
  path = folder / RESULT
  try:
    facts = read_json(path)
    return facts if all(key in facts for key in ("attack", "floor", "images", "members")) else None
  except FileNotFoundError:
    if (folder / layout.CONFIG).exists() or (folder / layout.MEMBER).exists():
      raise UserError(f"{field}={folder}: is the folder of a run, choose another") from None
    return None
  except NotADirectoryError as error:
    raise UserError(f"{field}={folder}: a file is in its way, a folder is needed") from error
  except (OSError, ValueError) as error:
    raise UserError(f"{field}={folder}: {RESULT} cannot be read ({error})") from error


def identity(member: SavedMember, attack: dict[str, Any], images: np.ndarray) -> str:
  """Changes when a member is trained again, or is attacked in another way or on other images."""
  digest = hashlib.sha256(json.dumps([str(member.folder), attack, images.shape]).encode())
  digest.update((member.folder / layout.MEMBER).read_bytes())
  digest.update(np.ascontiguousarray(images))
  return digest.hexdigest()[:16]


def place(folder: Path, kind: str, member: SavedMember) -> Path:
  """The file of a member: of a readable name that does not depend on other members."""
  readable = re.sub(r"[^\w.-]", "_", "_".join(member.folder.parts[-3:]).strip("/"))
  suffix = hashlib.sha256(str(member.folder).encode()).hexdigest()[:8]
  return folder / kind / f"{readable[-80:]}-{suffix}.npz"


def read_row(folder: Path, member: SavedMember, identity: str) -> Row:
  """What is known of a member; nothing where its file is missing, damaged or of another attack."""
  arrays = _read(place(folder, "rows", member), identity, ("logits", "targets", "predictions"))
  if arrays is None:
    return Row()
  targets = arrays["targets"].tolist()
  return Row(arrays["logits"], dict(zip(targets, arrays["predictions"], strict=True)))


def write_row(folder: Path, member: SavedMember, identity: str, row: Row) -> None:
  """Writes what is known of a member, whole or not at all."""
  write_arrays(
    place(folder, "rows", member),
    {
      "identity": np.array(identity),
      "logits": row.logits,
      "targets": np.array(list(row.predictions)),
      "predictions": np.stack(list(row.predictions.values())),
    },
  )


def has_images(folder: Path, member: SavedMember) -> bool:
  """Whether a member's adversarial images were kept, whatever has become of them."""
  return place(folder, "images", member).exists()


def read_images(folder: Path, member: SavedMember, identity: str) -> np.ndarray | None:
  """A member's adversarial images float32 `[N, H, W, C]`; None where none can be read."""
  arrays = _read(place(folder, "images", member), identity, ("adversarial",))
  return None if arrays is None else arrays["adversarial"]


def write_images(folder: Path, member: SavedMember, identity: str, images: np.ndarray) -> None:
  """Keeps a member's adversarial images."""
  arrays = {"identity": np.array(identity), "adversarial": images}
  write_arrays(place(folder, "images", member), arrays)


def _read(path: Path, identity: str, keys: tuple[str, ...]) -> dict[str, np.ndarray] | None:
  """The arrays of a file that was written for this identity."""
  arrays = _load(path, ("identity", *keys)) if path.exists() else None
  return arrays if arrays is not None and str(arrays["identity"]) == identity else None


def _load(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray] | None:
  try:
    with np.load(path, allow_pickle=False) as file:
      return {key: file[key] for key in keys}
  except Exception as error:  # Damaged bytes can raise nearly anything.
    _log.warning("%s cannot be read (%s), it is made again", path, error)
    return None


def member_facts(member: SavedMember, accuracy: float) -> dict[str, Any]:
  """What `transfer.json` says of a member."""
  facts, config = member.facts, member.config
  shape = facts["image_shape"]
  stem = facts.get("stem", _FIRST_STEM)
  patch_size = facts.get("patch_size", 0)
  components = MODELS[facts["model"]].components(
    image_size=min(shape[:2]), stem=stem, patch_size=patch_size
  )
  return {
    "name": member.name,
    "folder": str(member.folder),
    "run": str(member.run),
    "model": facts["model"],
    "width_multiplier": facts["width_multiplier"],
    "stem": stem,
    "patch_size": patch_size,
    "image_shape": shape,
    "num_classes": facts["num_classes"],
    "objective": facts["objective"],
    "teachers": [str((member.folder / teacher).resolve()) for teacher in facts["teachers"]],
    "parameters": facts["parameters"],
    "accuracy": accuracy,
    "seed": config.seed,
    "index": _index(member.folder.name),
    "components": dataclasses.asdict(components),
    "config": plain(config),
  }


def _index(name: str) -> int:
  """The place of a member in its run, which is the number at the end of its name."""
  digits = name.rpartition("_")[2]
  return int(digits) if digits.isdecimal() else 0
