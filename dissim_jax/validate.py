"""Checks of a config before anything starts; every complaint is one sentence."""

import json
import math
import numbers
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_collections

from dissim_jax.data import SOURCES
from dissim_jax.data.augment import check_config as check_augment
from dissim_jax.errors import UserError
from dissim_jax.evaluate.stitch_experiments import EXPERIMENTS
from dissim_jax.evaluate.stitch_study import STARTS
from dissim_jax.models import MODELS
from dissim_jax.names import listed, nearest
from dissim_jax.plan import member_names
from dissim_jax.projections import PROJECTIONS
from dissim_jax.records import read_json, write_json
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
)
_NOT_NEGATIVE = (
  "seed",
  "train.steps_per_dispatch",
  "dissim.warmup_start_epoch",
  "dissim.warmup_steps",
  "stitch.steps_per_dispatch",
)
_FINITE = (
  "dissim.weight",
  "dissim.projection.ridge",
  "optimizer.learning_rate",
  "optimizer.momentum",
  "optimizer.weight_decay",
  "model.width_multiplier",
  "data.resident_gib",
  "stitch.ridge",
  "stitch.learning_rate",
  "stitch.cka_weight",
  "stitch.connected_accuracy",
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
  check_name("dissim.combine", config.dissim.combine, ("concatenate", "mean"))
  check_name("dtype", config.dtype, ("auto", "float32", "bfloat16"))
  check_name("evaluate.ensemble_rule", config.evaluate.ensemble_rule, ("probs", "logits"))
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
  _check_taps(config)
  _check_stitch(config)
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


def _check_taps(config: ml_collections.ConfigDict) -> None:
  """Taps must exist in the model, once each; at least one where members are regularised."""
  taps = list(config.dissim.taps)
  last = len(MODELS[config.model.name](2).layers) - 1
  wrong = [t for t in taps if isinstance(t, bool) or not isinstance(t, int) or not 0 <= t <= last]
  if wrong:
    raise UserError(f"dissim.taps={taps}: {config.model.name} has taps 0..{last}")
  if len(set(taps)) < len(taps):
    raise UserError(f"dissim.taps={taps}: each tap may be named once")
  if not taps and config.dissim.weight > 0:
    raise UserError(f"dissim.taps=[]: name at least one of taps 0..{last}, or set dissim.weight=0")


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
  last = len(MODELS[config.model.name](2).layers) - 1
  for tap in settings.taps:
    if isinstance(tap, bool) or not isinstance(tap, int) or not 0 <= tap <= last:
      raise UserError(f"stitch.taps={tap!r}: {config.model.name} has taps 0..{last}")
  for field, least in (("decay_epochs", 1), ("ranks", 1)):
    for value in settings[field]:
      if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise UserError(f"stitch.{field}={value!r}: must be whole numbers of at least {least}")
  for field in ("widths", "l1_direct", "l1_task"):
    for value in settings[field]:
      if not isinstance(value, numbers.Real) or not 0 <= value < math.inf:
        raise UserError(f"stitch.{field}={value!r}: must be finite numbers of at least 0")


def claim_workdir(config: ml_collections.ConfigDict, workdir: Path, command: str) -> None:
  """Writes `config.json` into a new workdir, or checks that it is the same experiment.

  The `stitch` block may differ: finished members can be stitched later, and the results of that say
  how they were made.

  Raises:
    UserError: the workdir belongs to another config (the fields that differ are named), or holds
      other files than an experiment's.
  """
  path = workdir / "config.json"
  values = json.loads(json.dumps(config.to_dict()))
  if not path.exists():
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
      raise UserError(
        f"workdir={str(workdir)!r}: it holds no config.json but is not empty; "
        "choose a new folder or one of an earlier run"
      )
    write_json(path, values | {"command": command})
    return
  try:
    saved = read_json(path)
  except ValueError as error:
    raise UserError(f"workdir={str(workdir)!r}: config.json cannot be read ({error})") from error
  saved.pop("command", None)
  old, new = _flat(saved), _flat(values)
  differ = [
    key
    for key in sorted(old | new)
    if old.get(key) != new.get(key) and not key.startswith("stitch.")
  ]
  if differ:
    told = ", ".join(f"{key} ({old.get(key)!r} there, {new.get(key)!r} now)" for key in differ)
    raise UserError(
      f"workdir={str(workdir)!r}: it belongs to another config, which differs in {told}; "
      "choose another workdir"
    )


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
  """A nested dict by dotted key."""
  flat = {}
  for key, value in values.items():
    if isinstance(value, dict) and value:
      flat |= _flat(value, f"{prefix}{key}.")
    else:
      flat[f"{prefix}{key}"] = value
  return flat
