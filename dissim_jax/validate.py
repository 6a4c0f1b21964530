"""Checks of a config before anything starts; every complaint is one sentence."""

import math
import numbers
from typing import Any

import ml_collections

from dissim_jax.config_file import get
from dissim_jax.data.augment import check_config as check_augment
from dissim_jax.errors import UserError
from dissim_jax.fields import check_number
from dissim_jax.names import listed
from dissim_jax.plan import model_names
from dissim_jax.registry.architectures import MATCHES, MODELS, STEMS, fewest_taps
from dissim_jax.registry.checks import check_int, check_name
from dissim_jax.registry.datasets import DATASETS
from dissim_jax.registry.measures import PENALTIES
from dissim_jax.registry.metrics import RULES
from dissim_jax.registry.objectives import (
  DISTILL,
  JOINT,
  ONE_BY_ONE,
  OPTIMIZERS,
  PROJECTIONS,
  SEQUENTIAL,
)
from dissim_jax.validate_measures import check_further, check_stitch, check_transfer

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
_SEEDS = ("seed", "data.split_seed", "corruption.seed", "transfer.seed")
_NOT_NEGATIVE = (
  "data.images_per_class",
  "augment.crop_padding",
  "augment.cutout",
  "data.validation",
  "train.steps_per_dispatch",
  "model.patch_size",
  "dissim.warmup_start_epoch",
  "dissim.warmup_steps",
  "stitch.steps_per_dispatch",
)
_FINITE = (
  "dissim.weight",
  "dissim.projection.ridge",
  "model.width_multiplier",
  "data.resident_gib",
  "stitch.ridge",
  "stitch.learning_rate",
  "stitch.cka_weight",
  "stitch.connected_accuracy",
  "objective.weight",
  "objective.teacher_share",
)
_ABOVE_ZERO = (
  "dissim.options.expvar.alpha",
  "dissim.options.expvar.eps",
  "dissim.options.rbfcka.bandwidth",
)
_OPTIONS = {
  "dissim.options.lincka.samples": ("example", "position"),
  "dissim.options.rbfcka.samples": ("example", "position"),
  "dissim.options.r2.weighting": ("channel", "variance"),
  "dissim.options.rsa.distance": ("correlation", "euclidean"),
}


def check_config(config: ml_collections.ConfigDict) -> None:
  """Raises UserError at the first field whose value cannot be used."""
  check_name("data.name", config.data.name, DATASETS)
  check_name("model.name", config.model.name, MODELS)
  check_name("dissim.metric", config.dissim.metric, PENALTIES)
  check_name("dissim.projection.name", config.dissim.projection.name, PROJECTIONS)
  check_name("dissim.match", config.dissim.match, MATCHES)
  check_name("dissim.combine", config.dissim.combine, ("concatenate", "mean"))
  check_name("dtype", config.dtype, ("auto", "float32", "bfloat16"))
  check_name("evaluate.ensemble_rule", config.evaluate.ensemble_rule, RULES)
  for field in _POSITIVE:
    check_number(config, field, 1)
  for field in _NOT_NEGATIVE:
    check_number(config, field, 0)
  for field in _SEEDS:
    check_number(config, field, 0, most=None)
  check_number(config, "evaluate.batch_size", 4)
  for field in _FINITE:
    _check_finite(field, get(config, field))
  for field in ("mean", "std"):
    values = config.data[field]
    if not all(isinstance(v, numbers.Real) and math.isfinite(v) for v in values):
      raise UserError(f"data.{field}={tuple(values)}: must be one finite number a channel")
  for field, allowed in _OPTIONS.items():
    check_name(field, get(config, field), allowed)
  for field in _ABOVE_ZERO:
    if not 0 < get(config, field) < math.inf:
      raise UserError(f"{field}={get(config, field)!r}: must be a finite number above 0")
  check_int("data.background", config.data.background, 0, 255, "a grey level")
  check_augment(config.augment)
  _check_model(config)
  _check_optimizer(config)
  _check_objective(config)
  if config.objective.name == SEQUENTIAL and config.dissim.weight > 0:
    _check_taps(config)
  check_stitch(config)
  check_further(config)
  check_transfer(config)
  for folder in config.ensemble.teachers:
    if not isinstance(folder, str):
      raise UserError(f"ensemble.teachers={folder!r}: must be folders of members, as texts")
  if len(config.ensemble.teachers) > config.ensemble.size:
    raise UserError(
      f"ensemble.teachers names {len(config.ensemble.teachers)} members: "
      f"ensemble.size={config.ensemble.size} allows no more than that many"
    )


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


def _check_finite(field: str, value: Any) -> None:
  """A number that is neither negative, infinite nor NaN."""
  if not isinstance(value, numbers.Real) or not 0 <= value < math.inf:
    raise UserError(f"{field}={value!r}: must be a finite number of at least 0")


def _check_optimizer(config: ml_collections.ConfigDict) -> None:
  """The optimiser of members, and that of learned projections, which is the same where None."""
  for block in ("optimizer", "dissim.projection.optimizer"):
    own = get(config, block)
    sources = {key: "optimizer" if own[key] is None else block for key in config.optimizer}
    values = {
      key: (f"{source}.{key}", get(config, f"{source}.{key}")) for key, source in sources.items()
    }
    check_name(*values["name"], OPTIMIZERS)
    for key in ("learning_rate", "warmup_epochs", "momentum", "b2", "weight_decay"):
      _check_finite(*values[key])
    for field, value in (values["momentum"], values["b2"]):
      if value > 1:
        raise UserError(f"{field}={value!r}: must be in 0..1")
      if value == 1 and values["name"][1] == "adamw":
        raise UserError(f"{field}={value!r}: adamw needs less than 1")
    field, value = values["warmup_epochs"]
    if value >= config.train.epochs:
      raise UserError(f"{field}={value!r}: must be less than train.epochs={config.train.epochs}")


def _check_taps(config: ml_collections.ConfigDict) -> None:
  """Taps must exist in regularised members, once each; at least one where there are any."""
  taps = list(config.dissim.taps)
  first = max(1, len(config.ensemble.teachers))  # earlier members are not trained against any
  name, last = fewest_taps(model_names(config)[first:] or model_names(config))
  wrong = [t for t in taps if isinstance(t, bool) or not isinstance(t, int) or not 0 <= t <= last]
  if wrong:
    raise UserError(f"dissim.taps={taps}: {name} has taps 0..{last}")
  if len(set(taps)) < len(taps):
    raise UserError(f"dissim.taps={taps}: each tap may be named once")
  if not taps:
    raise UserError(f"dissim.taps=[]: name at least one of taps 0..{last}, or set dissim.weight=0")


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
