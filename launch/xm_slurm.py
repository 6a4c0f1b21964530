"""Slurm jobs as XManager's work units.

XManager has no executor for Slurm. With this one a work unit is a job that `launch.slurm` has
submitted: scripts, arrays and dependencies are the same. It uses names that XManager does not
promise to keep, so that setup.cfg fixes its version.
"""

import asyncio
import contextlib
import shlex
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attr
from xmanager import xm, xm_local
from xmanager.xm_local import handles, registry, status
from xmanager.xm_local.experiment import LocalExperiment

from dissim_jax.errors import UserError
from dissim_jax.launch import progress, slurm
from dissim_jax.launch.sbatch import Cluster
from dissim_jax.launch.tasks import Task

_PATIENCE = 600.0  # seconds for which a controller that does not answer is asked again
_ENDED = (progress.DONE, progress.FAILED, progress.BLOCKED)


class Queue:
  """The jobs of a sweep, asked for together and not too often.

  A controller that does not answer for a while is asked again.

  Args:
    tasks: parents first.
    root: folder of the sweep.
    seconds: between two looks.
  """

  def __init__(self, tasks: Sequence[Task], root: Path, seconds: float):
    self._tasks, self._root, self._seconds = tasks, root, seconds
    self._lock = asyncio.Lock()
    self._states: dict[str, str] = {}
    self._asked = self._answered = -float("inf")

  async def states(self) -> dict[str, str]:
    """Of every task; Slurm is asked once in `seconds`.

    Raises:
      UserError: Slurm cannot be reached for a long time.
    """
    async with self._lock:
      now = time.monotonic()
      if now - self._asked >= self._seconds:
        try:
          self._states = await asyncio.to_thread(slurm.states, self._tasks, self._root)
          self._answered = now
        except UserError:
          if now - self._answered > _PATIENCE:
            raise
        self._asked = now
      return self._states

  async def end(self, name: str) -> str:
    """Waits until a task has ended; its last state."""
    while (state := (await self.states())[name]) not in _ENDED:
      await asyncio.sleep(self._seconds)
    return state


@attr.s(auto_attribs=True)
class Handle(handles.ExecutionHandle):
  """A job that XManager waits for."""

  name: str
  queue: Queue

  async def wait(self) -> None:
    """Returns when the job has succeeded.

    Raises:
      RuntimeError: it failed; XManager makes it the failure of the work unit.
    """
    state = await self.queue.end(self.name)
    if state != progress.DONE:
      raise RuntimeError(f"{self.name!r} ended as {state}")

  def get_status(self) -> status.LocalWorkUnitStatus:
    """Not told, as of XManager's own local processes."""
    raise NotImplementedError


@attr.s(auto_attribs=True)
class Slurm(xm.Executor):
  """Where a work unit runs: the job of a task that has been submitted.

  Attributes:
    name: of the task.
    queue: tells its state.
  """

  name: str
  queue: Queue

  Spec = xm_local.LocalSpec

  @classmethod
  async def launch(cls, local_experiment_unit: Any, job_group: xm.JobGroup) -> list[Handle]:
    """The handles of the unit's jobs, which the unit waits for as for local ones."""
    executors = [job.executor for job in job_group.jobs.values()]
    unit_handles = [Handle(executor.name, executor.queue) for executor in executors]
    local_experiment_unit._local_execution_handles.extend(unit_handles)
    return unit_handles


registry.register(Slurm, launch=None)


class Jobs:
  """The jobs of a submitted sweep.

  Args:
    queue: tells their states.
  """

  def __init__(self, queue: Queue):
    self._queue = queue
    [self._python] = LocalExperiment.package([xm.binary(Slurm.Spec(), sys.executable)])

  @contextlib.asynccontextmanager
  async def job(
    self, task: Task, parents: Sequence[asyncio.Task[bool]]
  ) -> AsyncIterator[xm.Job | None]:
    """The task's job, at once: Slurm itself lets it wait for its parents."""
    yield xm.Job(self._python, Slurm(task.name, self._queue), args=list(task.argv))

  async def states(self, names: Sequence[str]) -> Mapping[str, str]:
    """As Slurm and the files tell."""
    return await self._queue.states()


@contextlib.contextmanager
def submitted(tasks: Sequence[Task], root: Path, cluster: Cluster, nodes: int) -> Iterator[Jobs]:
  """Submits what is neither done nor in the queue; the jobs stay in the queue when it is left."""
  slurm.submit(tasks, root, cluster, nodes)
  try:
    yield Jobs(Queue(tasks, root, cluster.poll_seconds))
  except (KeyboardInterrupt, asyncio.CancelledError):
    at = shlex.quote(str(root))
    again = f"python -m dissim_jax.launch.slurm --status --root={at}"
    print(f"the jobs go on: {again}", file=sys.stderr)
    sys.exit(130)
