"""Members on disk: what a finished member's folder holds, and reading it back.

`member.json` is written last and marks the member as done. `weights.safetensors` holds its
variables, and `member.json` the checksum of that file; `weights/` holds them for orbax, and is read
where a member was written before there was the other.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import Mesh

from dissim_jax import plugins
from dissim_jax.data import Dataset
from dissim_jax.distributed import devices, processes
from dissim_jax.distributed.checkpoint import load_weights, save_weights
from dissim_jax.errors import UserError
from dissim_jax.files import layout
from dissim_jax.files.atomic import read_json, write_json
from dissim_jax.members import weights
from dissim_jax.members.member import Member
from dissim_jax.models import MODELS, Layered, nearest_stem, variable_shapes

_FIRST_STEM = 32  # of members whose file does not say it
_DIGEST = "weights_sha256"  # of `weights.safetensors`
# What a member is built from, and what is told of how it was trained.
_BUILT = ("model", "width_multiplier", "num_classes", "image_shape", "mean", "std")
TRAINED = ("teachers", "parameters", "epochs", "train_seconds")


def compute_dtype(setting: str) -> Any:
  """The dtype of activations: bfloat16 where `auto` finds an accelerator, else float32."""
  if setting == "auto":
    setting = "float32" if jax.default_backend() == "cpu" else "bfloat16"
  return jnp.dtype(setting)


def build_model(facts: dict, dtype: Any) -> Layered:
  """The architecture that the facts of a member describe, batch norm over the global batch."""
  return MODELS[facts["model"]](
    facts["num_classes"],
    width_multiplier=facts["width_multiplier"],
    stem=facts.get("stem", _FIRST_STEM),
    patch_size=facts.get("patch_size", 0),
    dtype=dtype,
    axis_name=devices.BATCH_AXIS,
  )


def planned_facts(config: ml_collections.ConfigDict, dataset: Dataset, model: str) -> dict:
  """What a member's file says of the member, before training."""
  return {
    "model": model,
    "width_multiplier": config.model.width_multiplier,
    "stem": config.model.stem or nearest_stem(min(dataset.image_shape[:2])),
    "patch_size": config.model.patch_size if MODELS[model].patches else 0,
    "num_classes": dataset.num_classes,
    "image_shape": list(dataset.image_shape),
    "mean": list(config.data.mean),
    "std": list(config.data.std),
    "data": config.data.name,
    "epochs": config.train.epochs,
    **({"plugins": plugins.loaded()} if plugins.loaded() else {}),
  }


def is_done(directory: Path) -> bool:
  """Whether the folder holds a finished member."""
  return (directory / layout.MEMBER).exists()


def save_member(directory: Path, variables: Any, facts: dict) -> None:
  """Writes the weights, then `member.json`."""
  save_weights(directory / layout.WEIGHTS, variables)

  def write() -> None:
    digest = weights.write(directory / layout.TENSORS, variables)
    write_json(directory / layout.MEMBER, facts | {_DIGEST: digest})

  processes.first_does(write)


def read_facts(directory: Path, field: str, needed: Sequence[str] = ()) -> dict:
  """What `member.json` says; `field` names who asked, for the error.

  Raises:
    UserError: the file is missing or damaged, lacks one of `needed` or what every member needs, or
      is of an architecture that is not known.
  """
  if not is_done(directory):
    raise UserError(
      f"{field}: {str(directory)!r} holds no finished member (a folder with member.json)"
    )
  file = directory / layout.MEMBER
  try:
    facts = read_json(file)
  except ValueError as error:
    raise UserError(f"{field}: {str(file)!r} cannot be read") from error
  there = facts if isinstance(facts, dict) else {}
  if lacking := [name for name in (*_BUILT, *needed) if name not in there]:
    raise UserError(f"{field}: {str(file)!r} has no {lacking[0]!r}")
  plugins.require(facts.get("plugins", ()), f"{field}: {str(directory)!r}")
  if facts["model"] not in MODELS:
    raise UserError(f"{field}: {str(directory)!r} is of the unknown model {facts['model']!r}")
  return facts


def load_member(name: str, directory: Path, dtype: str, mesh: Mesh, field: str) -> Member:
  """A finished member, its variables replicated over the mesh.

  Args:
    name: what it is called.
    directory: its folder.
    dtype: of activations, see `compute_dtype`.
    mesh: the devices.
    field: names who asked, for the error.

  Raises:
    UserError: the folder holds no finished member, or one that cannot be read.
  """
  facts = read_facts(directory, field)
  model = build_model(facts, compute_dtype(dtype))
  shapes = variable_shapes(model, facts["image_shape"])
  variables = _load_variables(directory, facts, devices.replicated_shapes(shapes, mesh), mesh)
  return Member(name, model, variables, tuple(facts["mean"]), tuple(facts["std"]))


def _load_variables(directory: Path, facts: dict, shapes: Any, mesh: Mesh) -> Any:
  if _DIGEST in facts:
    file = directory / layout.TENSORS
    try:
      return devices.replicate(weights.read(file, shapes, facts[_DIGEST]), mesh)
    except (OSError, ValueError) as error:
      reason = error.strerror if isinstance(error, OSError) else error
      raise UserError(f"the weights {str(file)!r} cannot be used: {reason}") from error
  try:
    return load_weights(directory / layout.WEIGHTS, shapes)
  except Exception as error:  # orbax raises many types for a damaged file.
    raise UserError(f"the weights in {str(directory)!r} cannot be read") from error
