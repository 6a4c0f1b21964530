"""Checks of a config before anything starts; every complaint is one sentence."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from dissim_jax import plugins
from dissim_jax.config import blocks
from dissim_jax.config.ensemble import model_names
from dissim_jax.config.values import flat, get
from dissim_jax.errors import UserError
from dissim_jax.names import listed, nearest
from dissim_jax.registry.architectures import MODELS, fewest_taps
from dissim_jax.registry.checks import said
from dissim_jax.registry.objectives import DISTILL, ONE_BY_ONE, SEQUENTIAL
from dissim_jax.registry.studies import STUDIES


def check_config(config: ml_collections.ConfigDict) -> None:
  """Raises UserError at the first field whose value cannot be used."""
  named = config.get("plugins", ())
  blocks.fields()["plugins"].verify("plugins", named)
  plugins.load(named)
  _check_fields(config)
  _check_model(config)
  _check_ensemble(config)
  _check_objective(config)
  _check_optimizer(config)
  if config.objective.name == SEQUENTIAL and config.dissim.weight > 0:
    _check_taps(config)
  for study in STUDIES.values():
    check = getattr(study.part("settings"), "check", None) if study.block else None
    if check is not None:
      check(config)


def _check_fields(config: ml_collections.ConfigDict) -> None:
  """Every field by itself: it is there, of its type, and in its range."""
  known = blocks.fields()
  values = dict(flat(config))
  for field, spec in known.items():
    if field not in values:
      raise UserError(_missing(field, values))
    spec.verify(field, values[field])
  for field, value in values.items():
    empty = isinstance(value, ml_collections.ConfigDict)
    if field not in known and not (empty and field.startswith("dissim.options.")):
      raise UserError(f"{field}: the config has no such field{nearest(field, known)}")


def _missing(field: str, values: Mapping[str, Any]) -> str:
  """What stands in the way of a field that is not there."""
  block = field
  while "." in block:
    block = block.rpartition(".")[0]
    if block in values and not isinstance(values[block], ml_collections.ConfigDict):
      return f"{block}={said(values[block])}: it is a block, which has fields such as {field}"
  return f"{field} is missing"


def _check_model(config: ml_collections.ConfigDict) -> None:
  """Patches, where a network has them."""
  model, names = config.model, model_names(config)
  if model.patch_size and not any(MODELS[name].patches for name in names):
    having = sorted(name for name, entry in MODELS.items() if entry.patches)
    raise UserError(
      f"model.patch_size={model.patch_size}: {', '.join(dict.fromkeys(names))} has no patches; "
      f"those that have are {', '.join(having)}"
    )


def _check_ensemble(config: ml_collections.ConfigDict) -> None:
  """Whether the lists of the block `ensemble` fit its size."""
  ensemble = config.ensemble
  if len(ensemble.teachers) > ensemble.size:
    raise UserError(
      f"ensemble.teachers names {len(ensemble.teachers)} members: "
      f"ensemble.size={ensemble.size} allows no more than that many"
    )
  models = listed(ensemble.models)
  if models and len(models) != ensemble.size:
    raise UserError(
      f"ensemble.models names {len(models)} architectures: ensemble.size={ensemble.size} needs as "
      "many, or none"
    )


def _check_optimizer(config: ml_collections.ConfigDict) -> None:
  """The optimiser of members, and that of learned projections, which is the same where None."""
  for block in ("optimizer", "dissim.projection.optimizer"):
    settings = get(config, block)
    sources = {key: "optimizer" if settings[key] is None else block for key in config.optimizer}
    values = {
      key: (f"{source}.{key}", get(config, f"{source}.{key}")) for key, source in sources.items()
    }
    for field, value in (values["momentum"], values["b2"]):
      if value == 1 and values["name"][1] == "adamw":
        raise UserError(f"{field}={value!r}: adamw needs less than 1")
    field, value = values["warmup_epochs"]
    if value >= config.train.epochs:
      raise UserError(f"{field}={value!r}: must be less than train.epochs={config.train.epochs}")


def _check_taps(config: ml_collections.ConfigDict) -> None:
  """Taps must exist in regularised members; at least one where there are any."""
  taps = list(config.dissim.taps)
  first = max(1, len(config.ensemble.teachers))  # earlier members are not trained against any
  name, last = fewest_taps(model_names(config)[first:] or model_names(config))
  if any(tap > last for tap in taps):
    raise UserError(f"dissim.taps={taps}: {name} has taps 0..{last}")
  if not taps:
    raise UserError(f"dissim.taps=[]: name at least one of taps 0..{last}, or set dissim.weight=0")


def _check_objective(config: ml_collections.ConfigDict) -> None:
  """Objectives, and whether they fit the ensemble."""
  ensemble, objective = config.ensemble, config.objective
  compared = listed(ensemble.compare)
  if objective.name in compared:
    raise UserError(f"ensemble.compare={compared}: each objective may be trained once")
  if (objective.name == "balanced" or "balanced" in compared) and objective.weight > 1:
    raise UserError(f"objective.weight={objective.weight}: balanced needs a share in 0..1")
  if objective.name not in ONE_BY_ONE and ensemble.teachers:
    raise UserError(
      f"ensemble.teachers: members of objective.name={objective.name!r} are all trained together, "
      "none can be of another run"
    )
  if objective.name == DISTILL and ensemble.size < 2:
    raise UserError(
      f"ensemble.size={ensemble.size}: objective.name='distill' needs a teacher, member 0, and at "
      "least one student"
    )
