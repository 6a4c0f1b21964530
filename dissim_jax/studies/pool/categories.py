"""What two models differ in: Gontijo-Lopes et al. 2022, section 3.1."""

import json

from dissim_jax.config.values import flat
from dissim_jax.studies.pool.record import architecture

ARCHITECTURE, OBJECTIVE = "architecture", "training objective"
HYPERPARAMETERS, REINITIALISATION = "hyperparameters", "reinitialisation"
CATEGORIES = (REINITIALISATION, HYPERPARAMETERS, ARCHITECTURE, OBJECTIVE)  # the paper's order
SAME = "the same training"  # models that nothing tells apart
# Blocks and fields of a config that say nothing of how one member was trained, or that the facts
# of the member say better (its architecture, its objective, its seed).
_NOT_OF_A_MEMBER = (
  "ensemble",
  "evaluate",
  "transfer",
  "stitch",
  "corruption",
  "attribution",
  "features",
  "seed",
  "command",
  "model",
  "objective",
  "dissim",
)
_NOT_OF_TRAINING = (
  "data.resident_gib",
  "data.dir",
  "train.keep_checkpoints",
  "train.checkpoint_every_epochs",
  "train.monitor_images",
  "train.steps_per_dispatch",
)
_PLAIN = ("sequential", "independent")  # cross-entropy, unless there are teachers


def category(a: dict, b: dict) -> str:
  """What two members of a pool differ in; the first that applies of architecture, training
  objective, hyperparameters, reinitialisation (seed or place in the run).

  Differs from the paper: there a category is relative to one base model, here to either of a pair;
  what comes later in this order may differ as well.
  """
  if architecture(a) != architecture(b):
    return ARCHITECTURE
  if objective(a) != objective(b):
    return OBJECTIVE
  if hyperparameters(a) != hyperparameters(b):
    return HYPERPARAMETERS
  same = (a["seed"], a["index"]) == (b["seed"], b["index"])
  return SAME if same else REINITIALISATION


def objective(member: dict) -> str:
  """What a member minimised, as text to compare: cross-entropy alone, or with what beside it."""
  config, name = member["config"], member["objective"]
  if name not in _PLAIN:
    fields = {key: value for key, value in _block(config, "objective").items() if key != "name"}
    return _text([name, fields])
  if not member["teachers"]:
    return "cross-entropy"
  dissim = dict(_block(config, "dissim"))
  # Of the options of all metrics only those of its own had an effect.
  options = dissim.get("options")
  if isinstance(options, dict):
    dissim["options"] = options.get(dissim.get("metric"))
  return _text(["dissimilar", dissim, len(member["teachers"])])


def hyperparameters(member: dict) -> str:
  """Every other field of a member's config that shaped it, as text to compare."""
  return _text(
    {
      name: value
      for name, value in flat(member["config"])
      if name.split(".")[0] not in _NOT_OF_A_MEMBER and name not in _NOT_OF_TRAINING
    }
  )


def _block(config: dict, name: str) -> dict:
  block = config.get(name)
  return block if isinstance(block, dict) else {}


def _text(value) -> str:
  return json.dumps(value, sort_keys=True)
