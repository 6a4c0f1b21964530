"""The tasks of a sweep as work units of an XManager experiment.

XManager starts what it is given at once and knows no dependencies: on this machine a work unit is
added when the tasks it needs are done and a place is free.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import rich.console
import sqlalchemy.exc
from xmanager import xm, xm_local
from xmanager.xm_local.experiment import LocalExperiment

from dissim_jax.errors import UserError
from dissim_jax.launch import progress
from dissim_jax.launch.local import alone, find_devices, slots
from dissim_jax.launch.options import Request
from dissim_jax.launch.table import LiveTable
from dissim_jax.launch.tasks import Task, is_done, save_plan

_PERIOD = 0.5  # seconds between two looks at the files


class Engine(Protocol):
  """Where work units run."""

  def job(
    self, task: Task, parents: Sequence[asyncio.Task[bool]]
  ) -> contextlib.AbstractAsyncContextManager[xm.Job | None]:
    """The job to add, when it may be added; None if a parent failed. Left when it has ended."""

  async def states(self, names: Sequence[str]) -> Mapping[str, str]:
    """What to call the states of tasks whose work units have been added and not ended."""


class Local:
  """Processes on this machine.

  Args:
    root: folder of the sweep.
    environments: what each of the processes that run at a time gets in its environment.
  """

  def __init__(self, root: Path, environments: Sequence[Mapping[str, str]]):
    self._root = root
    self._elsewhere: set[str] = set()
    self._free: asyncio.Queue[Mapping[str, str]] = asyncio.Queue()
    for environment in environments:
      self._free.put_nowait(environment)
    [self._worker] = LocalExperiment.package(
      [xm.binary(xm_local.Local.Spec(), sys.executable, args=["-m", "dissim_jax.launch.worker"])]
    )

  @contextlib.asynccontextmanager
  async def job(
    self, task: Task, parents: Sequence[asyncio.Task[bool]]
  ) -> AsyncIterator[xm.Job | None]:
    """A process, when the parents are done, there is a place, and no other process works there."""
    if not all([await parent for parent in parents]):
      yield None
      return
    environment = await self._free.get()
    try:
      while progress.in_use(task, self._root):
        self._elsewhere.add(task.name)  # By a process of a launcher that was killed.
        await asyncio.sleep(_PERIOD)
      self._elsewhere.discard(task.name)
      yield None if is_done(task, self._root) else self._job(task, environment)
      if not is_done(task, self._root) and not progress.exit_code(task, self._root):
        progress.exit_file(task, self._root).write_text("1\n")  # It said 0, or could say nothing.
    finally:
      self._free.put_nowait(environment)

  def _job(self, task: Task, environment: Mapping[str, str]) -> xm.Job:
    files = {
      "log": progress.log_file(task, self._root),
      "exit_code": progress.exit_file(task, self._root),
    }
    # XManager quotes every argument for the shell that it starts.
    return xm.Job(
      self._worker,
      xm_local.Local(experimental_stream_output=False),
      env_vars=dict(environment),
      args=xm.merge_args(files, ["--", *task.argv]),
    )

  async def states(self, names: Sequence[str]) -> Mapping[str, str]:
    """All of them run; others may be worked on by other launchers' processes."""
    elsewhere = dict.fromkeys(self._elsewhere, progress.ELSEWHERE)
    return elsewhere | dict.fromkeys(names, progress.RUNNING)


@contextlib.contextmanager
def local(tasks: Sequence[Task], root: Path, devices: str, parallel: int | None) -> Iterator[Local]:
  """Processes on this machine that share its devices, as `launch.local` shares them out.

  Raises:
    UserError: another launcher works in the root.
  """
  gpus = find_devices(devices)
  with contextlib.ExitStack() as stack:
    stack.enter_context(alone(root))
    for task in tasks:  # What failed before is tried again.
      progress.exit_file(task, root).unlink(missing_ok=True)
    shared = {}
    if not gpus and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
      # Programs for this CPU are compiled once for all processes; of GPUs, they are kept anyway.
      folder = tempfile.TemporaryDirectory(prefix="dissim_jax_xla_", ignore_cleanup_errors=True)
      shared = {"JAX_COMPILATION_CACHE_DIR": stack.enter_context(folder)}
    places = slots(gpus, parallel or max(1, len(gpus)))
    yield Local(root, [{**shared, **place} for place in places])


class Units:
  """One work unit for each task that is not done.

  Args:
    experiment: entered already.
    tasks: parents first.
    root: folder of the sweep.
    engine: where they run.
  """

  def __init__(self, experiment: xm.Experiment, tasks: Sequence[Task], root: Path, engine: Engine):
    self._experiment, self._tasks, self._root, self._engine = experiment, tasks, root, engine
    self._added: set[str] = set()
    self._failed: set[str] = set()
    self._units: dict[str, asyncio.Task[bool]] = {}

  async def finish(self, table: LiveTable) -> dict[str, str]:
    """Adds every unit when its time has come, and waits until all have ended; the last states."""
    for task in self._tasks:
      self._units[task.name] = asyncio.create_task(self._unit(task))
    waiting = set(self._units.values())
    try:
      while waiting:
        table.show(await self._states())
        ended, waiting = await asyncio.wait(waiting, timeout=_PERIOD)
        for unit in ended:
          unit.result()  # What is not the task's own failure ends the launcher.
      states = await self._states()
      table.show(states)
      return states
    finally:
      for unit in waiting:
        unit.cancel()

  async def _states(self) -> dict[str, str]:
    failed = dict.fromkeys(self._failed, progress.FAILED)
    known = {**failed, **await self._engine.states(sorted(self._added))}
    return progress.states(self._tasks, self._root, known)

  async def _unit(self, task: Task) -> bool:
    """Whether the task is done in the end."""
    if is_done(task, self._root):
      return True
    parents = [self._units[name] for name in task.needs]
    async with self._engine.job(task, parents) as job:
      if job is not None:
        unit = await self._experiment.add(job)
        self._added.add(task.name)
        with contextlib.suppress(xm.ExperimentUnitError):  # The files tell.
          await unit.wait_until_complete()
        self._added.discard(task.name)
    if job is not None and not is_done(task, self._root):
      self._failed.add(task.name)
    return is_done(task, self._root)


async def _experiment(asked: Request, engine: Engine, table: LiveTable) -> dict[str, str]:
  # As Ctrl-C: XManager tells the processes to end when Python ends, and they write checkpoints.
  asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
  try:
    experiment = xm_local.create_experiment(asked.name)
  except (OSError, RuntimeError, sqlalchemy.exc.SQLAlchemyError) as error:
    reason = str(error).splitlines()[0]
    raise UserError(f"XManager cannot use its record in ~/.xmanager: {reason}") from error
  async with experiment:
    states = await Units(experiment, asked.tasks, asked.root, engine).finish(table)
    if progress.FAILED in states.values():
      # XManager would wait for the processes again, and show a traceback for each that failed.
      raise _FailedError(states)
    return states


class _FailedError(Exception):
  """Holds the last states."""


def run(
  asked: Request, engine: contextlib.AbstractContextManager[Engine], console: rich.console.Console
) -> dict[str, str]:
  """Creates the experiment and does everything that can be done; the last states.

  Args:
    asked: the sweep.
    engine: from `local` or `xm_slurm.submitted`; entered here.
    console: where the table is shown.

  Raises:
    UserError: the root or XManager's own record cannot be written, or Slurm refuses.
  """
  save_plan(asked.name, asked.tasks, asked.root)
  try:
    with engine as entered, LiveTable(asked.tasks, asked.root, console) as table:
      return asyncio.run(_experiment(asked, entered, table))
  except _FailedError as error:
    return error.args[0]
  except asyncio.CancelledError as error:
    raise KeyboardInterrupt from error
  except OSError as error:
    raise UserError(
      f"--root={str(asked.root)!r}: {error.filename or ''}: {error.strerror or error}; "
      "the same command goes on when this is mended"
    ) from error
