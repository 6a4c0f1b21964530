"""One training over several processes, on one machine or many: who they are and who writes.

All processes train; the first one alone claims the folder, writes, and measures what came out.
"""

import os
import re
import sys
from collections.abc import Callable
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from dissim_jax.errors import BusyError, UserError


def connect(coordinator: str | None, num_processes: int | None, process_id: int | None) -> bool:
  """Joins the other processes, if there are any; before anything else is asked of JAX.

  Without arguments, the tasks of one `srun` are the processes.

  Returns:
    Whether there are several.

  Raises:
    UserError: some of the arguments are missing or cannot be.
  """
  if num_processes == 1:
    return False
  given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
  missing = [name for name, value in given.items() if value is None]
  if not missing:
    if process_id >= num_processes:
      raise UserError(f"--process_id={process_id}: must be below --num_processes={num_processes}")
    if not re.fullmatch(r".+:\d+", coordinator):
      raise UserError(f"--coordinator={coordinator!r}: must be HOST:PORT")
    _initialize(coordinator_address=coordinator, num_processes=num_processes, process_id=process_id)
    return True
  if len(missing) < len(given):
    raise UserError(f"--{missing[0]} is missing: several processes need all of {', '.join(given)}")
  if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) < 2:
    return False
  _initialize(cluster_detection_method="slurm", local_device_ids=_own_gpus(os.environ))
  return True


def _initialize(**options) -> None:
  try:
    jax.distributed.initialize(**options)
  except (RuntimeError, ValueError) as error:
    reason = str(error).strip().splitlines()[0]
    raise UserError(f"the processes cannot be joined: {reason}") from error


def _own_gpus(environment: dict[str, str]) -> list[int] | None:
  """The GPUs of this task of a Slurm step: an equal share of the node's; None if it has none.

  JAX itself would take one for every task, also where a task has the whole node.
  """
  gpus = int(environment.get("SLURM_GPUS_ON_NODE", 0))
  tasks = int(environment.get("SLURM_STEP_TASKS_PER_NODE", "1").split("(")[0].split(",")[0])
  if gpus < 2 or tasks > gpus:
    return None
  share, local_id = gpus // tasks, int(environment.get("SLURM_LOCALID", 0))
  return list(range(local_id * share, (local_id + 1) * share))


def is_first() -> bool:
  """Whether this process is the one that writes."""
  return jax.process_index() == 0


def first_does(action: Callable[[], None]) -> None:
  """Runs the action in the first process while the others wait; a UserError is everyone's."""
  if jax.process_count() == 1:
    action()
    return
  error = None
  if is_first():
    try:
      action()
    except UserError as caught:
      error = caught
  failed = 0 if error is None else 2 if isinstance(error, BusyError) else 1
  failed = int(multihost_utils.broadcast_one_to_all(np.int32(failed)))
  if failed:
    other = BusyError if failed == 2 else UserError
    raise error or other("the first process cannot go on; it says why")


def leave() -> None:
  """Waits for the others, then ends all but the first, which starts again alone.

  What is left to do after training is small, and needs no other process; a new program knows
  nothing of them.
  """
  multihost_utils.sync_global_devices("trained")
  first = is_first()
  jax.distributed.shutdown()
  if first:
    _start_again()
  sys.exit(0)


def _start_again() -> NoReturn:
  sys.stdout.flush()
  sys.stderr.flush()
  arguments = [*sys.orig_argv[1:], "--num_processes=1"]
  os.execv(sys.executable, [sys.executable, *arguments])
