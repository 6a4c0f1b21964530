"""Checks of a config before anything starts; every complaint is one sentence."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import ml_collections

from dissim_jax.attacks import ATTACKS, check_attack
from dissim_jax.data import SOURCES
from dissim_jax.data.augment import check_config as check_augment
from dissim_jax.errors import UserError
from dissim_jax.evaluate.attribution import METHODS
from dissim_jax.evaluate.corruptions import CORRUPTIONS
from dissim_jax.evaluate.stitch_experiments import EXPERIMENTS
from dissim_jax.evaluate.stitch_study import STARTS
from dissim_jax.evaluate.transferability import attack_of, check_floor
from dissim_jax.joint_objectives import JOINT
from dissim_jax.metrics import RULES
from dissim_jax.models import MODELS
from dissim_jax.models.layered import MATCHES, STEMS
from dissim_jax.names import listed, nearest
from dissim_jax.optimizer import OPTIMIZERS
from dissim_jax.plan import DISTILL, ONE_BY_ONE, SEQUENTIAL, member_names, model_names
from dissim_jax.projections import PROJECTIONS
from dissim_jax.similarity import PENALTIES

_POSITIVE = (
  "ensemble.size",
  "train.batch_size",
  "train.epochs",
  "train.checkpoint_every_epochs",
  "train.keep_checkpoints",
  "train.monitor_images",
  "dissim.projection.inner_steps",
  "evaluate.calibration_bins",
  "data.image_size",
  "data.train_per_class",
  "stitch.epochs",
  "stitch.batch_size",
  "stitch.starts",
  "attribution.steps",
  "attribution.images",
  "transfer.images",
  "features.images",
  "features.draws",
  "features.max_iter",
)
_NOT_NEGATIVE = (
  "seed",
  "train.steps_per_dispatch",
  "model.patch_size",
  "dissim.warmup_start_epoch",
  "dissim.warmup_steps",
  "stitch.steps_per_dispatch",
  "corruption.seed",
)
_FINITE = (
  "dissim.weight",
  "dissim.projection.ridge",
  "optimizer.learning_rate",
  "optimizer.momentum",
  "optimizer.warmup_epochs",
  "optimizer.b2",
  "optimizer.weight_decay",
  "model.width_multiplier",
  "data.resident_gib",
  "stitch.ridge",
  "stitch.learning_rate",
  "stitch.cka_weight",
  "stitch.connected_accuracy",
  "objective.weight",
  "objective.teacher_share",
)
_OPTIONS = {
  "dissim.options.lincka.samples": ("example", "position"),
  "dissim.options.rbfcka.samples": ("example", "position"),
  "dissim.options.r2.weighting": ("channel", "variance"),
  "dissim.options.rsa.distance": ("correlation", "euclidean"),
}


def check_name(field: str, value: Any, allowed: Iterable[str]) -> None:
  """The value of a field must be one of the names."""
  allowed = sorted(allowed)
  if value not in allowed:
    raise UserError(
      f"{field}={value!r}: choose one of {', '.join(allowed)}{nearest(value, allowed)}"
    )


def check_config(config: ml_collections.ConfigDict) -> None:
  """Raises UserError at the first field whose value cannot be used."""
  check_name("data.name", config.data.name, SOURCES)
  check_name("model.name", config.model.name, MODELS)
  check_name("dissim.metric", config.dissim.metric, PENALTIES)
  check_name("dissim.projection.name", config.dissim.projection.name, PROJECTIONS)
  check_name("dissim.match", config.dissim.match, MATCHES)
  check_name("dissim.combine", config.dissim.combine, ("concatenate", "mean"))
  check_name("dtype", config.dtype, ("auto", "float32", "bfloat16"))
  check_name("evaluate.ensemble_rule", config.evaluate.ensemble_rule, RULES)
  for field in _POSITIVE:
    _check_number(config, field, 1, "a whole number of at least 1")
  for field in _NOT_NEGATIVE:
    _check_number(config, field, 0, "a whole number of at least 0")
  _check_number(config, "evaluate.batch_size", 4, "a whole number of at least 4")
  for field in _FINITE:
    value = _get(config, field)
    if not isinstance(value, numbers.Real) or not math.isfinite(value) or value < 0:
      raise UserError(f"{field}={value!r}: must be a finite number of at least 0")
  for field in ("mean", "std"):
    values = config.data[field]
    if not all(isinstance(v, numbers.Real) and math.isfinite(v) for v in values):
      raise UserError(f"data.{field}={tuple(values)}: must be one finite number a channel")
  for field, allowed in _OPTIONS.items():
    check_name(field, _get(config, field), allowed)
  bandwidth = config.dissim.options.rbfcka.bandwidth
  if not math.isfinite(bandwidth) or bandwidth <= 0:
    raise UserError(f"dissim.options.rbfcka.bandwidth={bandwidth!r}: must be a number above 0")
  check_augment(config.augment)
  _check_model(config)
  _check_optimizer(config)
  _check_objective(config)
  if config.objective.name == SEQUENTIAL:
    _check_taps(config)
  _check_stitch(config)
  _check_further(config)
  _check_transfer(config)
  if len(config.ensemble.teachers) > config.ensemble.size:
    raise UserError(
      f"ensemble.teachers names {len(config.ensemble.teachers)} members: "
      f"ensemble.size={config.ensemble.size} allows no more than that many"
    )


def _get(config: ml_collections.ConfigDict, field: str) -> Any:
  """The value of a dotted field."""
  for part in field.split("."):
    config = config[part]
  return config


def _check_number(config: ml_collections.ConfigDict, field: str, least: int, allowed: str) -> None:
  value = _get(config, field)
  if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
    raise UserError(f"{field}={value!r}: must be {allowed}")


def _check_model(config: ml_collections.ConfigDict) -> None:
  """The fields of `model` beside its name."""
  model = config.model
  if model.stem not in (0, *STEMS):
    raise UserError(
      f"model.stem={model.stem!r}: choose 0 (the nearest to the images) or one of "
      f"{', '.join(map(str, STEMS))}"
    )
  names = model_names(config)
  if model.patch_size and not any(MODELS[name].patches for name in names):
    having = sorted(name for name, entry in MODELS.items() if entry.patches)
    raise UserError(
      f"model.patch_size={model.patch_size}: {', '.join(dict.fromkeys(names))} has no patches; "
      f"those that have are {', '.join(having)}"
    )


def _check_optimizer(config: ml_collections.ConfigDict) -> None:
  """The optimiser of members, and where it differs that of learned projections."""
  own = config.dissim.projection.optimizer
  check_name("optimizer.name", config.optimizer.name, OPTIMIZERS)
  if own.name is not None:
    check_name("dissim.projection.optimizer.name", own.name, OPTIMIZERS)
  for field in ("momentum", "b2"):
    if config.optimizer[field] >= 1:
      raise UserError(f"optimizer.{field}={config.optimizer[field]}: must be in 0..1, below 1")
  if config.optimizer.warmup_epochs >= config.train.epochs:
    raise UserError(
      f"optimizer.warmup_epochs={config.optimizer.warmup_epochs}: must be less than "
      f"train.epochs={config.train.epochs}"
    )


def _check_taps(config: ml_collections.ConfigDict) -> None:
  """Taps must exist in regularised members, once each; at least one where there are any."""
  taps = list(config.dissim.taps)
  first = max(1, len(config.ensemble.teachers))  # earlier members are not trained against any
  name, last = _smallest(model_names(config)[first:] or model_names(config))
  wrong = [t for t in taps if isinstance(t, bool) or not isinstance(t, int) or not 0 <= t <= last]
  if wrong:
    raise UserError(f"dissim.taps={taps}: {name} has taps 0..{last}")
  if len(set(taps)) < len(taps):
    raise UserError(f"dissim.taps={taps}: each tap may be named once")
  if not taps and config.dissim.weight > 0:
    raise UserError(f"dissim.taps=[]: name at least one of taps 0..{last}, or set dissim.weight=0")


def _smallest(names: Iterable[str]) -> tuple[str, int]:
  """The architecture with the fewest taps, and its last one."""
  last = {name: len(MODELS[name](2).layers) - 1 for name in names}
  name = min(last, key=last.get)
  return name, last[name]


def _check_stitch(config: ml_collections.ConfigDict) -> None:
  """Experiments, pairs, taps and lists of numbers of the `stitch` block."""
  settings = config.stitch
  for name in listed(settings.experiments):
    check_name("stitch.experiments", name, (*EXPERIMENTS, "all"))
  check_name("stitch.labels", settings.labels, ("soft", "hard"))
  check_name("stitch.start", settings.start, STARTS)
  _check_number(config, "stitch.connected_points", 2, "a whole number of at least 2")
  members = member_names(config)
  for pair in listed(settings.pairs):
    if len(pair.split(":")) != 2:
      raise UserError(f"stitch.pairs={pair!r}: must be source:target, such as member_0:member_1")
    for name in pair.split(":"):
      check_name("stitch.pairs", name, members)
  name, last = _smallest(model_names(config))
  for tap in settings.taps:
    if isinstance(tap, bool) or not isinstance(tap, int) or not 0 <= tap <= last:
      raise UserError(f"stitch.taps={tap!r}: {name} has taps 0..{last}")
  for field, least in (("decay_epochs", 1), ("ranks", 1)):
    for value in settings[field]:
      if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise UserError(f"stitch.{field}={value!r}: must be whole numbers of at least {least}")
  for field in ("widths", "l1_direct", "l1_task"):
    for value in settings[field]:
      if not isinstance(value, numbers.Real) or not 0 <= value < math.inf:
        raise UserError(f"stitch.{field}={value!r}: must be finite numbers of at least 0")


def _check_objective(config: ml_collections.ConfigDict) -> None:
  """Objectives, and whether they fit the ensemble."""
  ensemble, objective = config.ensemble, config.objective
  check_name("objective.name", objective.name, (*ONE_BY_ONE, *JOINT))
  compared = listed(ensemble.compare)
  for name in compared:
    check_name("ensemble.compare", name, JOINT)
  if len({*compared, objective.name}) <= len(compared):
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
  if objective.teacher_share > 1:
    raise UserError(f"objective.teacher_share={objective.teacher_share}: must be in 0..1")
  models = listed(ensemble.models)
  for name in models:
    check_name("ensemble.models", name, MODELS)
  if models and len(models) != ensemble.size:
    raise UserError(
      f"ensemble.models names {len(models)} architectures: ensemble.size={ensemble.size} needs as "
      "many, or none"
    )


def _check_further(config: ml_collections.ConfigDict) -> None:
  """The blocks `corruption`, `attribution` and `features`."""
  for name in listed(config.corruption.names):
    check_name("corruption.names", name, (*CORRUPTIONS, "all"))
  check_name("attribution.method", config.attribution.method, ("none", *METHODS))
  if not config.features.regularisation > 0:
    raise UserError(f"features.regularisation={config.features.regularisation!r}: must be above 0")
  for field, low, high, allowed in (
    ("corruption.severities", 0, math.inf, "finite numbers of at least 0"),
    ("features.shares", 0, 1, "numbers in 0..1"),
  ):
    values = _get(config, field)
    if not all(isinstance(v, numbers.Real) and math.isfinite(v) and low <= v <= high
               for v in values):  # fmt: skip
      raise UserError(f"{field}={tuple(values)}: must be {allowed}")
  if config.corruption.names and not len(config.corruption.severities):
    raise UserError("corruption.severities=(): name at least one, or no corruption.names")
  for value in config.features.dimensions:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
      raise UserError(f"features.dimensions={value!r}: must be whole numbers of at least 1")


def _check_transfer(config: ml_collections.ConfigDict) -> None:
  """The block `transfer`; what an attack needs, also where none is asked for."""
  settings = config.transfer.to_dict()
  check_name("transfer.attack", settings["attack"], ("none", *ATTACKS))
  named = settings["attack"] if settings["attack"] != "none" else "pgd"
  check_attack(attack_of(settings | {"attack": named}), "transfer.")
  check_floor(settings["floor"], "transfer.floor")
