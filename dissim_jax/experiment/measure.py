"""What is measured of an experiment's members once they are trained, and the files it leaves."""

import dataclasses
import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from dissim_jax.data import Dataset
from dissim_jax.data.augment import normalise
from dissim_jax.data.sources import Origin
from dissim_jax.distributed.environment import environment
from dissim_jax.errors import UserError
from dissim_jax.files import layout
from dissim_jax.files.atomic import read_json, write_arrays, write_json
from dissim_jax.members import store as member_files
from dissim_jax.members.member import Member
from dissim_jax.members.plan import PlannedMember
from dissim_jax.names import listed
from dissim_jax.registry.studies import STUDIES
from dissim_jax.studies.context import Context
from dissim_jax.studies.outputs import ensembles
from dissim_jax.studies.outputs.diversity import diversity
from dissim_jax.studies.similarity import measure as similarity_measure


def evaluate(
  config: ml_collections.ConfigDict,
  workdir: Path,
  dataset: Dataset,
  plans: list[PlannedMember],
  sequences: dict[str, list[str]],
  trained: dict[str, Member],
) -> dict:
  """Measures all members on the test set.

  Writes to `evaluation/`: `predictions.npz` (logits `[M, N, K]`, labels, names of members and
  classes, which images they are, and the same of the validation images), `similarity.npz` (see
  `studies.similarity.measure`), `diversity.json`, and the files of the studies that the config asks
  for.

  Returns:
    The numbers for `metrics.json`.

  Raises:
    UserError: logits of a member hold NaN or infinity; its similarities were written.
  """
  names, settings = [plan.name for plan in plans], config.evaluate
  mean, std = tuple(config.data.mean), tuple(config.data.std)
  # Also those of other runs see images as this run normalises them.
  members = [dataclasses.replace(trained[name], mean=mean, std=std) for name in names]
  folder, labels = workdir / layout.EVALUATION, dataset.test_labels
  predictions = _predict(config, folder, dataset, members, _compared(plans))
  logits = predictions["logits"]
  _check_logits(plans, logits)
  measured = diversity(
    names,
    sequences,
    logits,
    labels,
    predictions.get("validation_logits"),
    predictions.get("validation_labels"),
    bins=settings.calibration_bins,
    seed=config.seed,
  )
  write_json(folder / "diversity.json", measured)
  _measure_studies(Context(config, members, sequences, dataset), folder)
  rule, bins = settings.ensemble_rule, settings.calibration_bins
  return {
    **_experiment_facts(config, dataset),
    "members": [
      _member_row(plan, trained[plan.name].model, logits[i], labels, bins)
      for i, plan in enumerate(plans)
    ],
    "sequences": sequences,
    "ensembles": ensembles.ensemble_rows(sequences, names, logits, labels, rule, bins),
    "pairs": ensembles.pair_rows(names, logits, labels),
    "environment": environment(),
  }


def _predict(
  config: ml_collections.ConfigDict,
  folder: Path,
  dataset: Dataset,
  members: list[Member],
  compared: list[tuple[int, int]],
) -> dict[str, np.ndarray]:
  """One pass over the test images; writes and returns predictions, writes similarities."""
  preprocess = functools.partial(normalise, mean=config.data.mean, std=config.data.std)
  size = config.evaluate.batch_size
  logits, similarity = similarity_measure.measure(
    members, dataset.test_images, preprocess, size, compared, config.dissim.match
  )
  names = [member.name for member in members]
  predictions = {"logits": logits, "labels": dataset.test_labels, "members": np.array(names)}
  predictions |= {"classes": np.array(dataset.class_names), **_named(dataset.test_origin, "")}
  if len(dataset.validation_labels):
    predictions["validation_logits"] = similarity_measure.predict(
      members, dataset.validation_images, preprocess, size
    )
    predictions["validation_labels"] = dataset.validation_labels
    predictions |= _named(dataset.validation_origin, "validation_")
  write_arrays(folder / "predictions.npz", predictions)
  write_arrays(folder / "similarity.npz", similarity)
  return predictions


def _experiment_facts(config: ml_collections.ConfigDict, dataset: Dataset) -> dict[str, Any]:
  """What `metrics.json` says of the data and of how members were trained."""
  return {
    "dataset": {
      "name": config.data.name,
      "num_train": len(dataset.train_labels),
      "num_validation": len(dataset.validation_labels),
      "num_test": len(dataset.test_labels),
      "num_classes": dataset.num_classes,
    },
    "split": "test",
    "seed": config.seed,
    "objective": {
      "name": config.objective.name,
      "weight": config.objective.weight,
      "compare": listed(config.ensemble.compare),
    },
    "dissim": {
      "metric": config.dissim.metric,
      "taps": list(config.dissim.taps),
      "weight": config.dissim.weight,
      "projection": config.dissim.projection.name,
    },
  }


def _named(origin: Origin | None, prefix: str) -> dict[str, np.ndarray]:
  """Which images they are: places in the data set as it is stored, and files where there are."""
  if origin is None:
    return {}
  files = {} if origin.files is None else {f"{prefix}files": origin.files}
  return {f"{prefix}index": origin.index} | files


def _check_logits(plans: list[PlannedMember], logits: np.ndarray) -> None:
  """Refuses predictions that are none, such as those of weights that are not finite."""
  for plan, values in zip(plans, logits, strict=True):
    broken = int(np.sum(~np.all(values < np.inf, axis=-1)))
    if broken:
      again = "" if plan.reused else f"; without {str(plan.directory)!r} it is trained again"
      raise UserError(
        f"{plan.name}: the logits of {broken} of {len(values)} test images hold NaN or inf, so its "
        f"predictions cannot be measured{again}"
      )


def _compared(plans: list[PlannedMember]) -> list[tuple[int, int]]:
  """The pairs whose taps are compared by regression: those of one kind of training.

  Of sequences all pairs, for a dissimilar member is compared with an independent one; of members
  trained jointly those that were trained together.
  """
  return [(i, j) for j in range(len(plans)) for i in range(j) if plans[i].group == plans[j].group]


def _measure_studies(context: Context, folder: Path) -> None:
  """What the config asks for, each study once.

  Members of a run never change, so that settings are all that a result depends on.
  """
  for study in STUDIES.values():
    if not study.block or study.own_files:
      continue
    settings = study.part("settings").asked(context.config)
    record = study.part("record")
    if settings is None or _is_measured(folder / record.FILE, settings):
      continue
    began = time.monotonic()
    print(f"measuring {Path(record.FILE).stem}", end="", flush=True, file=sys.stderr)
    values, arrays = study.part("measure").measure(context, settings)
    print(f" ({time.monotonic() - began:.0f} s)", file=sys.stderr)
    if arrays:
      write_arrays(folder / record.ARRAYS, arrays)
    write_json(folder / record.FILE, values | {"settings": settings})


def _is_measured(file: Path, settings: dict[str, Any]) -> bool:
  """Whether the results are there, made with the same settings."""
  try:
    return read_json(file)["settings"] == json.loads(json.dumps(settings))
  except (OSError, ValueError, KeyError):
    return False


def _member_row(
  plan: PlannedMember, model: Any, logits: np.ndarray, labels: np.ndarray, bins: int
) -> dict:
  """One member in `metrics.json`."""
  facts = member_files.read_facts(plan.directory, plan.name)
  together = {} if plan.group is None else {"group": plan.group.name}
  return {
    "name": plan.name,
    "model": facts["model"],
    "taps": list(model.tap_names),
    "teachers": [teacher.name for teacher in plan.teachers],
    "objective": plan.objective,
    "reused_from": str(plan.directory) if plan.reused else None,
    "parameters": facts["parameters"],
    "epochs": facts["epochs"],
    "train_seconds": facts["train_seconds"],
    **together,
    **ensembles.member_scores(logits, labels, bins).numbers(),
  }
