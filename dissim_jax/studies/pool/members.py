"""The members of a study of attack transfer: settings, images, and what is known of each."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from dissim_jax import texts
from dissim_jax.attacks import Attack, check_attack
from dissim_jax.data import Dataset, load
from dissim_jax.data.examples import balanced_part
from dissim_jax.distributed import devices
from dissim_jax.errors import UserError
from dissim_jax.members.find import SavedMember, find_all
from dissim_jax.members.member import classifier
from dissim_jax.members.store import is_done, load_member
from dissim_jax.registry.checks import check_int
from dissim_jax.studies.pool import store
from dissim_jax.studies.pool.store import Row
from dissim_jax.studies.transfer.attacked import logits_on
from dissim_jax.studies.transfer.measure import check_floor

FLOOR, IMAGES = 0.01, 1000


@dataclasses.dataclass(frozen=True)
class Settings:
  """What all members of a folder have in common; `images` are those that are there."""

  attack: Attack
  floor: float
  images: int


@dataclasses.dataclass
class Pool:
  """Members and what is known of them, in one order.

  Attributes:
    members: the saved members.
    images: of each, uint8 `[N, H, W, C]` at its own resolution.
    labels: int `[N]`, of all.
    identities: see `store.identity`.
    rows: what is known.
    earlier: whether a result has it already.
    network: `(place) -> classifier`, loaded once.
  """

  members: list[SavedMember]
  images: list[np.ndarray]
  labels: np.ndarray
  identities: list[str]
  rows: list[Row]
  earlier: list[bool]
  network: Callable[[int], Partial]

  @property
  def right(self) -> np.ndarray:
    """Who gets which clean image right, bool `[M, N]`."""
    return np.stack([row.logits.argmax(-1) == self.labels for row in self.rows])

  def predictions(self) -> np.ndarray:
    """int16 `[M, M, N]`, source, target, image; -1 where there is none."""
    nothing = np.full(len(self.labels), -1, np.int16)
    rows = [[row.predictions.get(key, nothing) for key in self.identities] for row in self.rows]
    return np.array(rows)


def parse_number(flag: str, value: str | float | None) -> float | None:
  """A number, or the text of one or of a fraction."""
  try:
    return texts.number(value) if isinstance(value, str) else value
  except ValueError as error:
    raise UserError(f"--{flag}={value}: {error}") from error


def resolve(
  given: dict[str, Any], images: int | None, floor: float | None, before: dict | None
) -> Settings:
  """What the flags say; where they are silent what the folder has, or else the defaults."""
  attack = Attack(**{name: value for name, value in given.items() if value is not None})
  check_attack(attack, "--")
  check_int("--images", IMAGES if images is None else images, 1, None)
  check_floor(FLOOR if floor is None else floor, "--floor")
  if before is None:
    return Settings(attack, FLOOR if floor is None else floor, images or IMAGES)
  there = before["attack"] | {"floor": before["floor"]}
  for name, value in (given | {"floor": floor}).items():
    if value is not None and value != there[name]:
      flag = "attack" if name == "name" else name
      raise UserError(
        f"--{flag}={value}: the folder was made with {there[name]}; choose another --out"
      )
  return Settings(Attack(**before["attack"]), before["floor"], images or before["images"])


def find(members: Sequence[str], folder: Path, before: dict | None) -> list[SavedMember]:
  """The members of the folder, then those that are given."""
  known = [(each["name"], each["folder"]) for each in (before or {"members": ()})["members"]]
  for name, place in known:
    if not is_done(Path(place)):
      raise UserError(f"--out={folder}: its member {name} is no longer in {place!r}")
  saved_members = find_all([place for _, place in known] + list(members), "--members")
  if len(saved_members) < 2:
    member_name = saved_members[0].name if saved_members else "none"
    raise UserError(f"--members: only {member_name} is given, at least two members are needed")
  task = lambda each: (each.facts["data"], each.facts["num_classes"], each.facts["image_shape"][2])  # noqa: E731
  for each in saved_members[1:]:
    if task(each) != task(saved_members[0]):
      one, other = (
        "{} ({}, {} classes, {} channels)".format(m.name, *task(m))
        for m in (saved_members[0], each)
      )
      raise UserError(f"members of different data sets: {one} and {other}")
  return saved_members


def prepare(
  members: list[SavedMember], folder: Path, settings: Settings, before: dict | None, batch_size: int
) -> Pool:
  """Images, what is known already, and the clean logits of all; every pair must share images."""
  images, labels = _load_images(members, settings.images)
  if before is not None and len(labels) != before["images"]:
    raise UserError(
      f"--images={len(labels)}: the folder was made with {before['images']}; choose another --out"
    )
  attack, size = dataclasses.asdict(settings.attack), min(batch_size, len(labels))
  keys = [
    store.identity(each, attack, member_images)
    for each, member_images in zip(members, images, strict=True)
  ]
  rows = [store.read_row(folder, *pair) for pair in zip(members, keys, strict=True)]
  known = {each["folder"] for each in (before or {"members": ()})["members"]}
  earlier = [
    str(each.folder) in known and bool(row.predictions)
    for each, row in zip(members, rows, strict=True)
  ]
  mesh = devices.make_mesh(jax.local_devices()[:1])

  @functools.cache
  def network(place: int) -> Partial:
    each = members[place]
    return classifier(load_member(each.name, each.folder, each.config.dtype, mesh, "--members"))

  for place, row in enumerate(rows):
    if row.logits is None:
      row.logits = logits_on(network(place), images[place], size)
  pool = Pool(members, images, labels, keys, rows, earlier, network)
  _check_pairs(pool)
  return pool


def _load_images(members: list[SavedMember], wanted: int) -> tuple[list[np.ndarray], np.ndarray]:
  """The test images of each member at its own resolution, and the labels that all have.

  Which image is which is told by its place in the data set as it is stored: the order in which
  images are used depends on their pixels, and so on the resolution.
  """
  images, labels, wanted_index = [], None, None

  @functools.cache
  def dataset(settings: str) -> Dataset:
    return next(load(m.config.data) for m in members if _data(m) == settings)

  for each in members:
    there = dataset(_data(each))
    known = list(each.facts["image_shape"]), each.facts["num_classes"]
    if (list(there.image_shape), there.num_classes) != known:
      raise UserError(
        f"--members={each.folder}: its data set has images {list(there.image_shape)} of "
        f"{there.num_classes} classes, it was trained on {known[0]} of {known[1]}"
      )
    index = there.test_origin.index
    if labels is None:
      used = balanced_part(there.test_labels, wanted)
      labels, wanted_index = there.test_labels[used], index[used]
    else:
      order = np.argsort(index)
      used = order[np.searchsorted(index, wanted_index, sorter=order).clip(max=len(order) - 1)]
    images.append(there.test_images[used])
    same = np.array_equal(labels, there.test_labels[used])
    if images[-1].shape == images[0].shape:
      same = same and np.array_equal(images[-1], images[0])
    if not same:
      raise UserError(
        f"members of different data sets: {members[0].name} and {each.name} have other test images "
        f"or another order of them{_difference(members[0], each)}"
      )
  return images, labels


def _data(member: SavedMember) -> str:
  """What a data set depends on, as text."""
  settings = member.config.data.to_dict()
  return json.dumps({k: v for k, v in settings.items() if k not in ("mean", "std")}, sort_keys=True)


def _difference(a: SavedMember, b: SavedMember) -> str:
  """The fields in which their data differ."""
  one, other = (json.loads(_data(each)) for each in (a, b))
  differences = [
    f"data.{key} is {one.get(key)!r} and {other.get(key)!r}"
    for key in sorted(one | other)
    if one.get(key) != other.get(key)
  ]
  return f" ({', '.join(differences)})" if differences else ""


def _check_pairs(pool: Pool) -> None:
  """Every pair must have an image that both get right."""
  right = pool.right
  for i, j in itertools.combinations(range(len(right)), 2):
    if not (right[i] & right[j]).any():
      raise UserError(
        f"{pool.members[i].name} and {pool.members[j].name}: there is no image that both get right "
        f"among {len(pool.labels)}; raise --images or leave one of them out"
      )
