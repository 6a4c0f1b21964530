"""Attack transfer between the members of any runs, from their folders to the files of its results.

A member's images are made once. Members that are added to a folder later are attacked, and see the
images that are kept of the others; nothing else is computed again.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.console

from dissim_jax.distributed.environment import environment
from dissim_jax.errors import BusyError, UserError
from dissim_jax.files.atomic import read_json, write_arrays, write_json
from dissim_jax.files.progress import ProgressLine
from dissim_jax.files.workdir import locked
from dissim_jax.registry.checks import check_int
from dissim_jax.render import terminal
from dissim_jax.render.table import of_texts
from dissim_jax.studies.pool import members as pool_members
from dissim_jax.studies.pool import store
from dissim_jax.studies.pool.members import Pool, Settings, parse_number
from dissim_jax.studies.pool.store import ARRAYS, RESULT
from dissim_jax.studies.transfer.attacked import attack_member, predictions_on
from dissim_jax.studies.transfer.measure import pair_arrays


def run(
  members: Sequence[str],
  out: str,
  *,
  attack: str | None = None,
  epsilon: str | float | None = None,
  step_size: str | float | None = None,
  iterations: int | None = None,
  random_start: bool | None = None,
  momentum: float | None = None,
  seed: int | None = None,
  images: int | None = None,
  floor: float | None = None,
  batch_size: int = 128,
  one_sided: bool = False,
  keep_images: bool = True,
  command: str = "",
) -> Path:
  """Attacks members, shows the images to all others, and writes how similar that makes them.

  Args:
    members: folders of members, of runs, or of runs anywhere below; may be empty where `out` has
      members already.
    out: folder of the results; members that it has stay.
    attack, epsilon, step_size, iterations, random_start, momentum, seed: see `attacks.Attack`;
      numbers may be texts such as "8/255". None: as in `out`, and in a new folder the default.
    images: so many test images, as many of every class; None: as in `out`, in a new folder 1000.
    floor: see `log_similarity`; None: as in `out`, in a new folder 0.01.
    batch_size: images at once.
    one_sided: members that `out` has do not have their images shown to those that are added, which
      are compared with them by their own attack alone.
    keep_images: keep adversarial images for members that are added later; without, these are
      compared one-sidedly.
    command: how the user started it.

  Returns:
    The folder, which holds `transfer.json` and `transfer.npz`.

  Raises:
    UserError: something that the user can mend; nothing was written.
    BusyError: another process works there.
  """
  began, folder = time.monotonic(), Path(out)
  check_int("--batch_size", batch_size, 1, None)
  before = store.read_result(folder, "--out")
  given = {
    "name": attack,
    "epsilon": parse_number("epsilon", epsilon),
    "iterations": iterations,
    "step_size": parse_number("step_size", step_size),
    "random_start": random_start,
    "momentum": momentum,
    "seed": seed,
  }
  settings = pool_members.resolve(given, images, floor, before)
  saved_members = pool_members.find(members, folder, before)
  _check_writable(folder)
  pool = pool_members.prepare(saved_members, folder, settings, before, batch_size)
  with locked(folder, "--out"):
    if store.read_result(folder, "--out") != before:
      raise BusyError(f"--out={folder}: another process has just changed it, start again")
    try:
      _complete(pool, folder, settings, batch_size, one_sided, keep_images)
      seconds = time.monotonic() - began + (before or {}).get("seconds", 0.0)
      facts = {"command": command, "seconds": seconds, "environment": environment()}
      _write(folder, pool, settings, facts)
    except OSError as error:
      raise UserError(f"--out={folder}: cannot be written ({error.strerror or error})") from error
  return folder


def _check_writable(folder: Path) -> None:
  """The folder need not exist yet, but no file may be in its place."""
  nearest = next(path for path in (folder, *folder.resolve().parents) if path.exists())
  if not nearest.is_dir():
    raise UserError(f"--out={folder}: {str(nearest)!r} is a file, a folder is needed")


def _complete(
  pool: Pool,
  folder: Path,
  settings: Settings,
  batch_size: int,
  one_sided: bool,
  keep_images: bool,
) -> None:
  """Computes what is missing, member by member, and writes what is known of each."""
  progress, count = ProgressLine(), len(pool.members)
  batch_size = min(batch_size, len(pool.labels))
  for source in range(count):
    targets = _missing(pool, folder, source, one_sided)
    if targets:
      images = _adversarial(pool, folder, settings, source, batch_size, keep_images)
      there = np.flatnonzero(pool.right[source])
      for target in targets:
        said = np.full(len(pool.labels), -1, np.int16)
        size = pool.images[target].shape[1:3]
        said[there] = predictions_on(pool.network(target), images[there], batch_size, size)
        pool.rows[source].predictions[pool.identities[target]] = said
      key = pool.identities[source]
      store.write_row(folder, pool.members[source], key, pool.rows[source])
    progress("attacked", source + 1, count)


def _missing(pool: Pool, folder: Path, source: int, one_sided: bool) -> list[int]:
  """The targets that have yet to see a member's images, if these can be had without an attack."""
  known = pool.rows[source].predictions
  targets = [t for t, key in enumerate(pool.identities) if key not in known]
  if not pool.earlier[source]:
    return targets
  if not store.has_images(folder, pool.members[source]):
    return []
  return [t for t in targets if pool.earlier[t] or not one_sided]


def _adversarial(
  pool: Pool, folder: Path, settings: Settings, source: int, batch_size: int, keep_images: bool
) -> np.ndarray:
  """A member's adversarial images: those that are kept, or new ones."""
  member, key = pool.members[source], pool.identities[source]
  if store.has_images(folder, member):
    images = store.read_images(folder, member, key)
    if images is not None:
      return images
  images = attack_member(
    pool.network(source),
    pool.images[source],
    pool.labels,
    settings.attack,
    batch_size,
    pool.right[source],
  )
  if keep_images:
    store.write_images(folder, member, key, images)
  return images


def _write(folder: Path, pool: Pool, settings: Settings, facts: dict[str, Any]) -> None:
  """Writes what analyses read, each file whole or not at all."""
  names, right, predictions = [each.name for each in pool.members], pool.right, pool.predictions()
  arrays = pair_arrays(predictions, right, pool.labels, settings.floor)
  computed = arrays.pop("computed")
  write_arrays(
    folder / ARRAYS,
    {
      "names": np.array(names),
      "labels": pool.labels,
      "logits": np.stack([row.logits for row in pool.rows]),
      "predictions": predictions,
      **arrays,
    },
  )
  write_json(
    folder / RESULT,
    {
      "attack": dataclasses.asdict(settings.attack),
      "floor": settings.floor,
      "images": len(pool.labels),
      "data": pool.members[0].config.data.to_dict(),
      "members": [
        store.member_facts(each, float(correct.mean()))
        for each, correct in zip(pool.members, right, strict=True)
      ],
      "one_sided": [[names[s], names[t]] for s, t in np.argwhere(computed & ~computed.T)],
      **facts,
    },
  )


def print_table(folder: Path, console: rich.console.Console | None = None) -> None:
  """Prints each member's accuracy, the success of its own attack, and how similar others are."""
  facts = read_json(folder / RESULT)
  with np.load(folder / ARRAYS, allow_pickle=False) as file:
    fooled, similarity = file["fooled"], file["similarity"]
  others = np.where(np.eye(len(fooled), dtype=bool), np.nan, similarity)
  rows = [
    (
      each["name"],
      f"{100 * each['accuracy']:.1f}",
      f"{100 * fooled[i, i]:.1f}",
      f"{np.nanmean(others[i]):.2f}",
    )
    for i, each in enumerate(facts["members"])
  ]
  heads = ("member", "acc %", "white-box %", "similarity")
  terminal.print_table(of_texts(heads, rows, 1), console or rich.console.Console())
