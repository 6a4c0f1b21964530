"""Runs a sweep on Slurm: `python -m dissim_jax.launch.slurm --sweep=FILE --cluster=CLUSTER.toml`.

Every run is a job, alike ones are an array; those that need others wait for them in the queue. The
scripts are in `<root>/launch/slurm/` before they are submitted. A run that is preempted, or comes
to its time limit, writes a checkpoint, and goes on when Slurm starts its job again.

  python -m dissim_jax.launch.slurm --status --root=ROOT

shows how far everything is (--wait: until its end).

The same command again submits what is neither done nor in the queue.
"""

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import rich.console
from absl import app, flags

from dissim_jax import command_line
from dissim_jax.errors import UserError
from dissim_jax.launch import flags as common
from dissim_jax.launch import progress, sbatch, slurm_jobs, squeue
from dissim_jax.launch.local import alone
from dissim_jax.launch.slurm_jobs import states as states
from dissim_jax.launch.table import LiveTable, make
from dissim_jax.launch.tasks import Task, is_done, read_plan, save_plan

_PATIENCE = 600.0  # seconds for which a controller that does not answer is asked again


def submit(
  tasks: Sequence[Task], root: Path, cluster: sbatch.Cluster, nodes: int = 1
) -> dict[str, str]:
  """Submits the tasks that are neither done nor in the queue.

  Args:
    tasks: parents first.
    root: folder of the sweep, absolute.
    cluster: from the cluster file.
    nodes: of each training.

  Returns:
    The jobs that were submitted, by task: `12`, or `12_3` of an array.

  Raises:
    UserError: Slurm cannot be reached or refuses; what was submitted before is in `jobs.json`.
  """
  slurm_jobs.folder(root).mkdir(parents=True, exist_ok=True)
  with alone(root):
    known, submitted = slurm_jobs.read(root), {}
    for group in groups(_left(tasks, root), cluster.max_array):
      parents = [task for task in tasks if task.name in group[0].needs]
      after = [known[task.name]["job"] for task in parents if not is_done(task, root)]
      script = _write_script(group, root, cluster, nodes)
      try:
        job = squeue.call(sbatch.command(script, len(group), root, after))
      except UserError as error:
        raise UserError(
          f"{error} ({script}; {len(submitted)} runs were submitted before)"
        ) from error
      job = job.strip().split(";")[0]  # "12;cluster"
      for i, task in enumerate(group):
        submitted[task.name] = job if len(group) == 1 else f"{job}_{i}"
        known[task.name] = {"job": submitted[task.name], "name": script.stem}
      slurm_jobs.write(root, known)
  return submitted


def groups(tasks: Sequence[Task], largest: int) -> list[list[Task]]:
  """Tasks of one kind that need the same others: each group is one array. Parents come first.

  More than `largest` are several groups.
  """
  last: dict[tuple, list[Task]] = {}
  arrays = []
  for task in tasks:
    key = (task.kind, frozenset(task.needs))
    if key not in last or len(last[key]) == largest:
      last[key] = []
      arrays.append(last[key])
    last[key].append(task)
  return arrays


def _left(tasks: Sequence[Task], root: Path) -> list[Task]:
  """What is to be submitted; jobs that wait for one that is gone are taken out of the queue."""
  live = {name: job for name, job in slurm_jobs.look(tasks, root).items() if not job.ended}
  left: dict[str, Task] = {}
  for task in tasks:
    job = live.get(task.name)
    if job and job.state == "PENDING" and left.keys() & set(task.needs):
      squeue.call(["scancel", job.number])
      job = None
    if not job and not is_done(task, root):
      left[task.name] = task
  return list(left.values())


def _write_script(group: Sequence[Task], root: Path, cluster: sbatch.Cluster, nodes: int) -> Path:
  """Writes the script of a group, and forgets how its tasks ended before."""
  for task in group:
    progress.launch_folder(task, root).mkdir(parents=True, exist_ok=True)
    progress.exit_file(task, root).unlink(missing_ok=True)
  folder = slurm_jobs.folder(root)
  numbers = [int(path.name.split("-")[0]) for path in folder.glob("[0-9][0-9][0-9]*-*.sbatch")]
  script = folder / f"{max(numbers, default=-1) + 1:03d}-{sbatch.label(group)}.sbatch"
  script.write_text(sbatch.render(group, root, cluster, nodes))
  return script


def wait(tasks: Sequence[Task], root: Path, period: float, table: LiveTable) -> dict[str, str]:
  """Shows the states until there is no job that can change them; the last ones.

  Args:
    tasks: parents first.
    root: folder of the sweep, absolute.
    period: seconds between two looks.
    table: where to show them.

  Raises:
    UserError: Slurm cannot be reached for a long time.
  """
  over = (progress.DONE, progress.FAILED, progress.BLOCKED)
  answered = time.monotonic()
  while True:
    try:
      jobs = slurm_jobs.look(tasks, root)
      answered = time.monotonic()
    except UserError:
      if time.monotonic() - answered > _PATIENCE:
        raise
    else:
      task_states = slurm_jobs.states_from(tasks, root, jobs)
      table.show(task_states)
      if all(task_states[name] in over for name in jobs):
        return task_states
    time.sleep(period)


def dry_run(
  tasks: Sequence[Task],
  root: Path,
  cluster: sbatch.Cluster,
  nodes: int,
  console: rich.console.Console,
) -> None:
  """Prints the scripts that would be submitted, the first one in full."""

  def say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True, emoji=False)

  left = [task for task in tasks if not is_done(task, root)]
  for i, group in enumerate(groups(left, cluster.max_array)):
    script = slurm_jobs.folder(root) / f"{i:03d}-{sbatch.label(group)}.sbatch"
    if not i:
      say(f"\n{script}:\n\n{sbatch.render(group, root, cluster, nodes)}")
    parents = [task.name for task in left if task.name in group[0].needs]
    after = f"  # after {', '.join(parents)}" if parents else ""
    say(shlex.join(sbatch.command(script, len(group), root)) + after)


def define_flags(values: flags.FlagValues = flags.FLAGS) -> dict[str, flags.FlagHolder]:
  """Defines the flags of this engine; by name."""
  where = {"flag_values": values}
  holders = (
    flags.DEFINE_string(
      "cluster", None, "What jobs ask of Slurm; see launch/clusters/example.toml.", **where
    ),
    command_line.define_whole("nodes", 1, "Nodes of each training.", values, 1),
    flags.DEFINE_bool("status", False, "Show how far the runs are; submit nothing.", **where),
    flags.DEFINE_bool(
      "wait", False, "Show the runs until none is running or queued; exit 1 if one failed.", **where
    ),
  )
  return common.define(values) | {holder.name: holder for holder in holders}


def main(argv: list[str], holders: dict[str, flags.FlagHolder]) -> None:
  """Submits the sweep that the flags describe, or shows how far it is."""
  command_line.no_arguments(argv)
  status, console = holders["status"].value, rich.console.Console()
  if not status:
    command_line.require(holders["cluster"])
  given = holders["cluster"].value
  cluster = sbatch.read_cluster(given) if given else sbatch.Cluster()
  name, tasks, root = _asked(holders)
  if holders["dry_run"].value:
    from dissim_jax.launch import options

    options.dry_run(options.Request(name, tasks, root), holders, console)
    dry_run(tasks, root, cluster, holders["nodes"].value, console)
    return
  with _files_of(root):
    if not status:
      save_plan(name, tasks, root)
      submitted = submit(tasks, root, cluster, holders["nodes"].value)
      print(f"{len(submitted)} submitted, {len(tasks) - len(submitted)} done or in the queue")
    if holders["wait"].value:
      _wait(tasks, root, cluster, console)
    else:
      console.print(make(tasks, root, states(tasks, root), width=console.width))


def _asked(holders: dict[str, flags.FlagHolder]) -> tuple[str, list[Task], Path]:
  """Name, tasks and root of the sweep; to see how far it is, the root is enough."""
  if holders["status"].value and holders["root"].value and not holders["sweep"].value:
    root = Path(holders["root"].value).expanduser().absolute()
    plan = read_plan(root)
    if plan is None:
      raise UserError(f"--root={str(root)!r}: no sweep was started there")
    return *plan, root
  from dissim_jax.launch import (
    options,  # Imports JAX, which is slow: not before the flags are right.
  )

  asked = options.request(holders)
  return asked.name, asked.tasks, asked.root


@contextlib.contextmanager
def _files_of(root: Path) -> Iterator[None]:
  """Tells in a sentence what is wrong with the files."""
  try:
    yield
  except OSError as error:
    where = error.filename or f"--root={str(root)!r}"
    message = f"{where}: {error.strerror or error}; the same command goes on when this is mended"
    raise UserError(message) from error


def _wait(
  tasks: Sequence[Task], root: Path, cluster: sbatch.Cluster, console: rich.console.Console
) -> None:
  """Shows the runs until their end, and then whether all went well."""
  at = shlex.quote(str(root))
  try:
    with LiveTable(tasks, root, console) as shown:
      task_states = wait(tasks, root, cluster.poll_seconds, shown)
  except KeyboardInterrupt:
    again = f"python -m dissim_jax.launch.slurm --status --root={at}"
    print(f"the jobs go on: {again}", file=sys.stderr)
    sys.exit(130)
  failed = [task for task in tasks if task_states[task.name] == progress.FAILED]
  if failed:
    log = shlex.quote(str(progress.log_file(failed[0], root)))
    print(f"{len(failed)} failed, see {log}; the same command tries them again", file=sys.stderr)
    sys.exit(1)
  print(f"tables: python -m dissim_jax.collect --root={at}")


if __name__ == "__main__":
  _HOLDERS = define_flags()
  app.run(command_line.guarded(lambda argv: main(argv, _HOLDERS)), flags_parser=command_line.parse)
