"""A whole experiment: member after member, then the evaluation and the report."""

import functools
import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

import dissim_jax
from dissim_jax import members as member_files
from dissim_jax import parallel
from dissim_jax.data import Dataset, load
from dissim_jax.data.augment import normalise
from dissim_jax.errors import UserError
from dissim_jax.evaluate import ensembles, streaming
from dissim_jax.game import make_game
from dissim_jax.monitor import make_monitor
from dissim_jax.plan import Plan, make_plan, member_seed
from dissim_jax.records import write_arrays, write_json
from dissim_jax.train import train_member
from dissim_jax.validate import check_config, claim_workdir


def run(config: ml_collections.ConfigDict, workdir: str | Path, command: str = "") -> dict:
  """Trains, measures and reports an experiment; goes on where an earlier call stopped.

  Args:
    config: see `configs/default.py`.
    workdir: a new folder, or that of an earlier run of the same config.
    command: how the user started it, for the report.

  Returns:
    What `evaluation/metrics.json` holds.

  Raises:
    UserError: something that the user can mend; nothing was overwritten.
  """
  began, workdir = time.monotonic(), Path(workdir)
  check_config(config)
  plans, sequences = make_plan(config, workdir)
  dataset = load(config.data)
  _check_dataset(config, dataset, plans)
  claim_workdir(config, workdir, command)
  mesh = parallel.make_mesh()
  frozen: dict[str, tuple[Any, Any]] = {}
  for plan in plans:
    frozen[plan.name] = _train_or_load(config, plan, dataset, frozen, mesh)
  metrics = evaluate(config, workdir, dataset, plans, sequences, frozen)
  metrics["seconds"] = time.monotonic() - began
  write_json(workdir / "evaluation" / "metrics.json", metrics)
  return metrics


def _check_dataset(
  config: ml_collections.ConfigDict, dataset: Dataset, plans: list[Plan]
) -> None:
  """Whether data, batches, devices and reused members fit together."""
  size, devices = config.train.batch_size, jax.device_count()
  if size > len(dataset.train_labels):
    raise UserError(
      f"train.batch_size={size}: there are only {len(dataset.train_labels)} training images"
    )
  if len(dataset.test_labels) < streaming.SMALLEST_BATCH:
    raise UserError(
      f"data.name={config.data.name!r}: {len(dataset.test_labels)} test images are too few to "
      f"compare members, at least {streaming.SMALLEST_BATCH} are needed"
    )
  if size % devices:
    raise UserError(f"train.batch_size={size}: must be a multiple of the {devices} devices")
  if config.stitch.experiments and config.stitch.batch_size % devices:
    raise UserError(
      f"stitch.batch_size={config.stitch.batch_size}: must be a multiple of the {devices} devices"
    )
  channels = dataset.image_shape[-1]
  for field in ("mean", "std"):
    if len(config.data[field]) != channels:
      raise UserError(
        f"data.{field}={tuple(config.data[field])}: images have {channels} channel(s), one number "
        "each is needed"
      )
  if min(config.data.std) <= 0:
    raise UserError(f"data.std={tuple(config.data.std)}: every number must be above 0")
  expected = _facts(config, dataset)
  _check_image_size(config.model.name, expected)
  for plan in plans:
    if plan.reused:
      facts = member_files.read_facts(plan.directory, "ensemble.teachers")
      for key in ("num_classes", "image_shape", "mean", "std"):
        if facts[key] != expected[key]:
          raise UserError(
            f"ensemble.teachers: {str(plan.directory)!r} has {key}={facts[key]}, "
            f"but {config.data.name} here has {expected[key]}"
          )


def _check_image_size(name: str, facts: dict) -> None:
  """Networks without padding need images of some size."""
  model = member_files.build_model(facts, np.float32)
  image = np.zeros((1, *facts["image_shape"]), np.float32)
  _, taps = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image))[0]
  for index, tap in enumerate(taps):
    if 0 in tap.shape:
      height, width, _ = facts["image_shape"]
      raise UserError(
        f"model.name={name!r}: images of {height}x{width} are too small, nothing is left of them "
        f"at tap {index}"
      )


def _facts(config: ml_collections.ConfigDict, dataset: Dataset) -> dict:
  """What a member's file says of the member, before training."""
  return {
    "model": config.model.name,
    "width_multiplier": config.model.width_multiplier,
    "num_classes": dataset.num_classes,
    "image_shape": list(dataset.image_shape),
    "mean": list(config.data.mean),
    "std": list(config.data.std),
    "data": config.data.name,
    "epochs": config.train.epochs,
  }


def _train_or_load(
  config: ml_collections.ConfigDict,
  plan: Plan,
  dataset: Dataset,
  frozen: dict[str, tuple[Any, Any]],
  mesh: jax.sharding.Mesh,
) -> tuple[Any, Any]:
  """The architecture and frozen variables of a planned member."""
  dtype = member_files.compute_dtype(config.dtype)
  if plan.reused or member_files.is_done(plan.directory):
    facts = member_files.read_facts(plan.directory, plan.name)
    return member_files.load_member(plan.directory, facts, dtype, mesh)
  facts = _facts(config, dataset)
  model = member_files.build_model(facts, dtype)
  teachers = [frozen[teacher.name] for teacher in plan.teachers]
  steps = len(dataset.train_labels) // config.train.batch_size
  game = make_game(config, tuple(teacher[0] for teacher in teachers), steps)
  held_out = len(dataset.validation_labels) > 0
  images, labels = (
    (dataset.validation_images, dataset.validation_labels)
    if held_out
    else (dataset.train_images, dataset.train_labels)
  )
  shown = slice(config.train.monitor_images)
  monitor = make_monitor(
    model, game, _preprocess(config), images[shown], labels[shown],
    config.evaluate.batch_size, held_out,
  )
  variables, seconds = train_member(
    config, model, game, tuple(teacher[1] for teacher in teachers), dataset, monitor, mesh,
    plan.directory, member_seed(config.seed, plan.index),
  )
  facts |= {
    "teachers": [os.path.relpath(t.directory, plan.directory) for t in plan.teachers],
    "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
    "train_seconds": seconds,
  }
  member_files.save_member(plan.directory, variables, facts)
  return model, variables


def _preprocess(config: ml_collections.ConfigDict):
  """From uint8 images to the networks' input, without augmentation."""
  return functools.partial(normalise, mean=config.data.mean, std=config.data.std)


def evaluate(
  config: ml_collections.ConfigDict,
  workdir: Path,
  dataset: Dataset,
  plans: list[Plan],
  sequences: dict[str, list[str]],
  frozen: dict[str, tuple[Any, Any]],
) -> dict:
  """Measures all members on the test set.

  Writes `evaluation/predictions.npz` (logits `[M, N, K]`, labels, member names) and
  `evaluation/similarity.npz` (see `streaming.measure`); returns the numbers for `metrics.json`.
  """
  names, settings = [plan.name for plan in plans], config.evaluate
  members = [streaming.Member(name, *frozen[name]) for name in names]
  images, labels = dataset.test_images, dataset.test_labels
  logits, similarity = streaming.measure(
    members, images, _preprocess(config), settings.batch_size
  )
  folder = workdir / "evaluation"
  predictions = {"logits": logits, "labels": labels, "members": np.array(names)}
  write_arrays(folder / "predictions.npz", predictions)
  write_arrays(folder / "similarity.npz", similarity)
  rule, bins = settings.ensemble_rule, settings.calibration_bins
  return {
    "dataset": {
      "name": config.data.name,
      "num_train": len(dataset.train_labels),
      "num_validation": len(dataset.validation_labels),
      "num_test": len(labels),
      "num_classes": dataset.num_classes,
    },
    "split": "test",
    "seed": config.seed,
    "dissim": {
      "metric": config.dissim.metric,
      "taps": list(config.dissim.taps),
      "weight": config.dissim.weight,
      "projection": config.dissim.projection.name,
    },
    "members": [
      _member_row(plan, frozen[plan.name][0], logits[i], labels, bins)
      for i, plan in enumerate(plans)
    ],
    "sequences": sequences,
    "ensembles": ensembles.ensemble_rows(sequences, names, logits, labels, rule, bins),
    "pairs": ensembles.pair_rows(names, logits, labels),
    "environment": environment(),
  }


def _member_row(plan: Plan, model: Any, logits: np.ndarray, labels: np.ndarray, bins: int) -> dict:
  """One member in `metrics.json`."""
  facts = member_files.read_facts(plan.directory, plan.name)
  return {
    "name": plan.name,
    "model": facts["model"],
    "taps": list(model.tap_names),
    "teachers": [teacher.name for teacher in plan.teachers],
    "reused_from": str(plan.directory) if plan.reused else None,
    "parameters": facts["parameters"],
    "epochs": facts["epochs"],
    "train_seconds": facts["train_seconds"],
    **ensembles.member_metrics(logits, labels, bins),
  }


def environment() -> dict[str, Any]:
  """Versions and hardware, as they belong beside every result."""
  packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
  return {
    "dissim_jax": dissim_jax.__version__,
    **{package: importlib.metadata.version(package) for package in packages},
    "python": platform.python_version(),
    "platform": jax.default_backend(),
    "device": jax.devices()[0].device_kind,
    "device_count": jax.device_count(),
  }
