"""First members that several runs of a sweep would train alike, once each: told, not changed."""

import json
from collections.abc import Sequence
from typing import Any

from dissim_jax.launch.tasks import Task
from dissim_jax.names import listed

# What decides about the weights of a member that is trained by itself, with its architecture.
_DECIDING = ("seed", "dtype", "data", "augment", "model", "optimizer")
_OF_TRAINING = ("batch_size", "epochs")
_ONLY_SPEED = ("resident_gib",)  # in the block `data`
_NAMED = 3  # members that a sentence names


def sentences(tasks: Sequence[Task]) -> list[str]:
  """What could be trained once, one sentence a member.

  Args:
    tasks: of a sweep; a member of a run that is named as another run's teacher is trained once.
  """
  alike: dict[str, list[tuple[Task, str]]] = {}
  for task in tasks:
    member = _alone(task) if task.kind == "run" else None
    if member:
      alike.setdefault(_key(task.config), []).append((task, member))
  return [_sentence(members) for members in alike.values() if _can_share(members)]


def _alone(task: Task) -> str | None:
  """The run's member that has the first place and is trained by itself, without teachers."""
  for name in ("member_0", "independent_0"):  # The second beside members trained together.
    if name in task.trainings:
      return name
  return None


def _can_share(members: Sequence[tuple[Task, str]]) -> bool:
  """Whether one of several members could be named as a teacher in the run of another."""
  return len(members) > 1 and any(member == "member_0" for _, member in members)


def _sentence(members: Sequence[tuple[Task, str]]) -> str:
  names = [f"{task.name}/{member}" for task, member in members]
  # Members trained together take none from elsewhere: theirs is the one that others can take.
  source = next((n for n in names if n.endswith("independent_0")), names[0])
  examples = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
  return (
    f"{len(names)} runs train the same first member ({examples}): teachers=({source!r},) in the "
    "others would train it once"
  )


def _key(config: dict[str, Any]) -> str:
  """Equal for configs whose first members are the same."""
  deciding = {block: config[block] for block in _DECIDING}
  deciding["data"] = {k: v for k, v in config["data"].items() if k not in _ONLY_SPEED}
  deciding["train"] = {k: config["train"][k] for k in _OF_TRAINING}
  models = listed(config["ensemble"]["models"])
  if models:
    deciding["model"] = config["model"] | {"name": models[0]}
  return json.dumps(deciding, sort_keys=True)
