"""Every field of an experiment, with its default, unit and range: `fields()`.

Those of measures are in `registry.measures`, as `dissim.options.<measure>.<option>`, those of
studies in `studies/<study>/settings.py`.
"""

import copy
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from dissim_jax.config.values import plain
from dissim_jax.errors import UserError
from dissim_jax.registry.architectures import MATCHES, MODELS, STEMS
from dissim_jax.registry.checks import said
from dissim_jax.registry.datasets import DATASETS, POLICIES
from dissim_jax.registry.fields import (
  WIDEST,
  Field,
  anything,
  are,
  are_names,
  flag,
  is_number,
  is_one_of,
  is_whole,
  name,
  number,
  seed,
  several,
  text,
  whole,
)
from dissim_jax.registry.measures import MEASURES, PENALTIES
from dissim_jax.registry.metrics import RULES
from dissim_jax.registry.objectives import JOINT, ONE_BY_ONE, OPTIMIZERS, PROJECTIONS
from dissim_jax.registry.studies import STUDIES

_LARGEST = 1000  # members of an ensemble


def _block(path: str, fields: Mapping[str, Field], **same) -> dict[str, Field]:
  """Fields by dotted name, with what is the same of all of them."""
  return {f"{path}.{key}": dataclasses.replace(field, **same) for key, field in fields.items()}


def _check_stem(field: str, value: Any) -> None:
  if value not in (0, *STEMS):
    raise UserError(
      f"{field}={said(value)}: choose 0 (the nearest to the images) or one of "
      f"{', '.join(map(str, STEMS))}"
    )


_RUN = {
  "plugins": several(
    (),
    "modules that add to the registry, imported before anything else",
    anything,
    of_texts=True,
    affects="command",
  ),
  "seed": seed(0, "determines members' weights, order of the data, augmentation", affects="seed"),
  "dtype": name(
    "auto",
    "activations: float32, bfloat16; auto = bfloat16 on GPU and TPU",
    ("auto", "float32", "bfloat16"),
  ),
}

_IMAGES = {  # Which images there are, and which are for training.
  "name": name("digits", "data set", DATASETS),
  "image_size": whole(32, "pixels a side that images of an image_folder are resized to", 1, 4096),
  "background": whole(
    128, "grey level 0..255 behind transparent pixels of an image_folder", 0, 255
  ),
  "validation": whole(0, "training images held out for validation"),
  "split_seed": seed(0, "which ones (and which digits are for training)"),
  "train_per_class": whole(10, "digits only: training images of each class", 1),
  "images_per_class": whole(0, "training images used of each class, by split_seed; 0 = all"),
}

_DATA = {
  "dir": text("", 'folder of the data set; "" = ~/.cache/dissim_jax for CIFAR', affects="speed"),
  "resident_gib": number(
    4.0, "a larger training set is sent to the devices block by block", affects="speed"
  ),
  "mean": several((0.5,), "per channel, of images in 0..1", are(is_number(), least=1)),
  "std": several(
    (0.5,),
    "per channel, of images in 0..1",
    are(is_number(0, above=True), least=1),
  ),
}

_AUGMENT = {
  "crop_padding": whole(0, "pixels of padding before a random crop; 0 = off", 0, 1024),
  "crop_fill": whole(0, "grey level of the padding", 0, 255),
  "flip": flag(False, "horizontal flip of half the images"),
  "autoaugment": name("none", "policy of AutoAugment (Cubuk et al. 2019)", POLICIES),
  "autoaugment_fill": whole(128, "grey level outside a warped image", 0, 255),
  "cutout": whole(0, "pixels a side of the square that is cut out; 0 = off", 0, 4096),
  "cutout_fill": whole(0, "its grey level", 0, 255),
}

_MODEL = {
  "name": name("resnet14", "architecture", MODELS),
  "width_multiplier": number(1.0, "scales the features of every layer", 0, WIDEST, above=True),
  "stem": Field(
    default=0,
    doc="image size the first layers are made for: 8, 32, 224; 0 = the nearest",
    kind=int,
    check=_check_stem,
  ),
  "patch_size": whole(0, "pixels a side, of architectures with patches; 0 = by the stem", 0, 4096),
}

_ENSEMBLE = {
  "size": whole(2, "members of the sequence, the first is not regularised", 1, _LARGEST),
  "teachers": several(
    (), "member folders of other runs that are the first members", anything, of_texts=True
  ),
  "baseline": flag(True, "also train independent members, to compare with"),
  "models": several(
    (),
    "architecture of each member, if not all model.name",
    are(is_one_of(MODELS)),
    of_texts=True,
  ),
  "compare": several(
    (),
    "objectives of further ensembles of this size, trained jointly",
    are_names(JOINT),
    of_texts=True,
  ),
}

_OBJECTIVE = {
  "name": name(
    "sequential",
    "sequential; distill: from member 0; or of members trained jointly",
    JOINT,
    *ONE_BY_ONE,
  ),
  "weight": number(0.2, "lambda of the objectives of members trained jointly"),
  "teacher_share": number(0.5, "distill: share of the teacher's hard labels in the loss", 0, 1),
}

_DISSIM = {
  "metric": name("expvar", "similarity that members are trained against", PENALTIES),
  "taps": several(
    (3,), "where members are made dissimilar; mean over taps", are(is_whole(0), unique=True)
  ),
  "match": name("depth", "which tap of a teacher of another architecture", MATCHES),
  "weight": number(1.0, "lambda; 0 = independent members"),
  "warmup_start_epoch": whole(0, "epochs before lambda starts to rise"),
  "warmup_steps": whole(0, "steps in which a cosine takes lambda from 0 to weight"),
  "combine": name("concatenate", "several teachers without projection", ("concatenate", "mean")),
}

_PROJECTION = {
  "name": name("least_squares", "of measures that compare channels with channels", PROJECTIONS),
  "ridge": number(1e-3, "least_squares: fraction of the mean channel variance"),
  "inner_steps": whole(1, "learned: projection steps a member step", 1),
}

_OPTIMIZER = {
  "name": name("sgd", "sgd, or adamw for networks without batch norm", OPTIMIZERS),
  "learning_rate": number(0.1, "at the highest; cosine to zero"),
  "warmup_epochs": number(0.0, "epochs in which it rises from 0 to there"),
  "momentum": number(0.9, "0..1; of adamw: b1", 0, 1),
  "nesterov": flag(True, "look-ahead form of momentum"),
  "b2": number(0.999, "0..1; of adamw: decay of the mean square", 0, 1),
  "weight_decay": number(5e-4, "on all parameters; of adamw times the learning rate"),
}

_TRAIN = {
  "batch_size": whole(50, "images, over all devices", 1),
  "epochs": whole(100, "passes over the training images, for each member", 1),
  "steps_per_dispatch": whole(
    0, "steps sent to the device at once; 0 = by platform", affects="speed"
  ),
  "checkpoint_every_epochs": whole(20, "and after the last epoch", 1, affects="speed"),
  "keep_checkpoints": whole(2, "newest states kept on disk", 1, affects="speed"),
  "monitor_images": whole(1000, "images for the least-squares R^2 after each epoch", 1),
}

_EVALUATE = {
  "batch_size": whole(128, "images; also the minibatch of LinCKA", 4),
  "ensemble_rule": name("probs", "how members are combined", RULES),
  "calibration_bins": whole(15, "equal-width bins of the calibration error", 1),
}

# Learned projections: None is as the member's.
_OWN_OPTIMIZER = {
  key: dataclasses.replace(field, default=None, doc="learned: None = as the member's")
  for key, field in _OPTIMIZER.items()
}


def fields() -> Mapping[str, Field]:
  """All fields by dotted name, in the order of a config."""
  return _fields(tuple(PENALTIES))


@functools.cache
def _fields(penalties: tuple[str, ...]) -> Mapping[str, Field]:
  """The fields where members can be trained against these measures."""
  options = [_block(f"dissim.options.{name}", MEASURES[name].options) for name in penalties]
  return {
    **_RUN,
    **_block("data", _IMAGES, affects="images"),
    **_block("data", _DATA),
    **_block("augment", _AUGMENT),
    **_block("model", _MODEL),
    **_block("ensemble", _ENSEMBLE),
    **_block("objective", _OBJECTIVE),
    **_block("dissim", _DISSIM),
    **{path: field for block in options for path, field in block.items()},
    **_block("dissim.projection", _PROJECTION),
    **_block("dissim.projection.optimizer", _OWN_OPTIMIZER),
    **_block("optimizer", _OPTIMIZER),
    **_block("train", _TRAIN),
    **_block("evaluate", _EVALUATE),
    **_studies(),
  }


def _studies() -> dict[str, Field]:
  """The blocks of the studies."""
  blocks: dict[str, Field] = {}
  for study in STUDIES.values():
    if study.block:
      blocks |= _block(study.block, study.part("settings").FIELDS, affects="measuring")
  return blocks


def check_block(path: str, values: Any) -> None:
  """Raises UserError at the first value of one block that cannot be used.

  `values` has the block's fields as attributes.
  """
  for field, spec in fields().items():
    block, _, last = field.rpartition(".")
    if block == path:
      spec.verify(field, getattr(values, last))


def config() -> ml_collections.ConfigDict:
  """A config with the default of every field."""
  made = ml_collections.ConfigDict()
  for measure in PENALTIES:  # Also of those that have no options.
    _inner(made, f"dissim.options.{measure}")
  for path, field in fields().items():
    block, _, last = path.rpartition(".")
    default = placeholder(field.kind) if field.default is None else field.default
    _inner(made, block)[last] = default
  return made


def _inner(made: ml_collections.ConfigDict, path: str) -> ml_collections.ConfigDict:
  """The block of a dotted name, which is made if it is not there."""
  for part in filter(None, path.split(".")):
    if part not in made:
      made[part] = ml_collections.ConfigDict()
    made = made[part]
  return made


def complete(values: Mapping[str, Any]) -> dict[str, Any]:
  """A config as nested dict, with the default of every field that it lacks.

  Runs of different versions can so be compared field by field: `config.json` has the fields of the
  version that wrote it.
  """
  return _merged(plain(config()), values)


def _merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
  merged = copy.deepcopy(dict(base))
  for key, value in values.items():
    both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
    merged[key] = _merged(base[key], value) if both else value
  return merged
