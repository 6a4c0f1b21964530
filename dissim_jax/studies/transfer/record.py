"""What `evaluation/transferability.json` and `.npz` hold."""

import dataclasses

from dissim_jax.files import typed
from dissim_jax.registry.attacks import ATTACKS

FILE, ARRAYS = "transferability.json", "transferability.npz"


@dataclasses.dataclass(frozen=True)
class Transferability:
  """What the files hold.

  Attributes:
    attack: its settings.
    images: how many test images.
    pairs: {(a, b): {"images", "a_to_b", "b_to_a", "similarity"}}, NaN for no value.
    white_box: {member: share fooled by its own attack}.
    ensembles: {(source, sequence): {"size", "clean", "attacked", "members", "gain",
      "gain_over_best"}}, of the largest size.
    shown: {"original", "adversarial", "labels", "predictions", "members"} or None.
  """

  attack: dict
  images: int
  pairs: dict
  white_box: dict
  ensembles: dict
  shown: dict | None = None


def read(results) -> Transferability | None:
  """Reads the files of a run; None where members were not attacked.

  Raises:
    UserError: a file is damaged; the sentence names it.
  """
  content = typed.read_json(results.workdir, FILE)
  if content is None:
    return None
  keys = ("images", "a_to_b", "b_to_a", "similarity")
  with typed.form(results.workdir, FILE):
    largest = {}
    for row in content["ensembles"]:
      old = largest.get((row["source"], row["sequence"]))
      if old is None or row["size"] > old["size"]:
        largest[row["source"], row["sequence"]] = row
    transferability = Transferability(
      dict(content["attack"]),
      int(content["images"]),
      {
        (row["a"], row["b"]): {key: typed.number(row[key]) for key in keys}
        for row in content["pairs"]
      },
      {name: typed.number(value) for name, value in content["white_box"].items()},
      {key: _ensemble(row) for key, row in largest.items()},
    )
    _describe(transferability.attack)
    unknown = {name for pair in transferability.pairs for name in pair} - set(results.members)
    if unknown:
      raise ValueError(f"members that the run does not have: {', '.join(sorted(unknown))}")
  arrays = typed.read_arrays(results.workdir, ARRAYS)
  if arrays is None:
    return transferability
  with typed.form(results.workdir, ARRAYS):
    return dataclasses.replace(transferability, shown=_shown(arrays))


def _ensemble(row):
  members = typed.places(row["members_attacked"])
  attacked = typed.number(row["attacked"])
  return {
    "size": int(row["size"]),
    "clean": typed.number(row["clean"]),
    "attacked": attacked,
    "members": float(members.mean()),
    "gain": attacked - float(members.mean()),
    "gain_over_best": attacked - float(members.max()),
  }


def _shown(arrays):
  members, count = [str(name) for name in arrays["members"]], len(arrays["original"])
  shape = arrays["original"].shape
  shapes = {
    "original": shape,
    "adversarial": (len(members), *shape),
    "labels": (count,),
    "predictions": (len(members), count),
  }
  for key, expected in shapes.items():
    if arrays[key].shape != expected:
      raise ValueError(f"{key} {arrays[key].shape}, expected {expected}")
  if len(shape) != 4 or shape[-1] not in (1, 3):
    raise ValueError(f"original {shape}")
  return {**{key: arrays[key] for key in shapes}, "members": members}


def _describe(attack) -> str:
  """The attack in words."""
  known = ATTACKS.get(attack["name"])
  name = known.label if known else str(attack["name"]).replace("_", " ")
  text = f"{name}, at most {255 * float(attack['epsilon']):.3g}/255 a pixel"
  if attack["name"] == "fgsm":
    return text
  return (
    f"{text}, {int(attack['iterations'])} iterations of {255 * float(attack['step_size']):.3g}/255"
  )
