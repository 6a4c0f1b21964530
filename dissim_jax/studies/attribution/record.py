"""What `evaluation/attribution.json` and `.npz` hold."""

import dataclasses

from dissim_jax.files import typed

FILE, ARRAYS = "attribution.json", "attribution.npz"


@dataclasses.dataclass(frozen=True)
class Attribution:
  """What the files hold.

  Attributes:
    method, images, steps: how it was measured; steps of integrated gradients.
    sequences: {name: {measure: value}}, the baseline first.
    completeness: {member: (mean, largest error)}; empty where there is none.
    shown: {"images", "labels", "predictions", "maps", "members", "classes"} or None.
  """

  method: str
  images: int
  steps: int | None
  sequences: dict
  completeness: dict
  shown: dict | None = None


def read(results) -> Attribution | None:
  """Reads the files of a run; None where attribution was not measured.

  Raises:
    UserError: a file is damaged; the sentence names it.
  """
  content = typed.read_json(results.workdir, FILE)
  if content is None:
    return None
  keys = ("diversity", "diversity_std", "diversity_right")
  with typed.form(results.workdir, FILE):
    completeness = {
      name: tuple(typed.number(row[f"completeness_error_{part}"]) for part in ("mean", "max"))
      for name, row in content["members"].items()
      if row
    }
    steps = content["steps"]
    attribution = Attribution(
      str(content["method"]),
      int(content["images"]),
      None if steps is None else int(steps),
      {
        name: {key: typed.number(content["sequences"][name][key]) for key in keys}
        for name in typed.in_order(results, content["sequences"])
      },
      completeness,
    )
  arrays = typed.read_arrays(results.workdir, ARRAYS)
  if arrays is None:
    return attribution
  with typed.form(results.workdir, ARRAYS):
    shown = _shown(arrays)
  return dataclasses.replace(attribution, shown=shown | {"classes": typed.class_names(results)})


def _shown(arrays):
  maps, members = arrays["maps"], [str(name) for name in arrays["members"]]
  count = len(arrays["images"])
  shapes = {
    "images": (count, *maps.shape[2:], arrays["images"].shape[-1]),
    "labels": (count,),
    "predictions": (len(members), count),
    "maps": (len(members), count, *maps.shape[2:]),
  }
  for key, shape in shapes.items():
    if arrays[key].shape != shape:
      raise ValueError(f"{key} {arrays[key].shape}, expected {shape}")
  if maps.ndim != 4 or arrays["images"].shape[-1] not in (1, 3):
    raise ValueError(f"maps {maps.shape}, images {arrays['images'].shape}")
  return {**{key: arrays[key] for key in shapes}, "members": members}
