"""The jobs of a sweep: which there are, and the state of every task from them and from files.

`<root>/launch/slurm/jobs.json` holds the job of every task that was submitted.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dissim_jax.errors import UserError
from dissim_jax.files.atomic import read_json, write_json
from dissim_jax.launch import progress, squeue
from dissim_jax.launch.squeue import Job
from dissim_jax.launch.tasks import Task, is_done

QUEUED, REQUEUED = "queued", "requeued"
_AT_WORK = ("RUNNING", "COMPLETING", "CONFIGURING", "SIGNALING", "STAGE_OUT")
_SILENT = (None, 0, progress.TRY_AGAIN)  # exit codes that do not say why there are no results
_LAG = 60.0  # seconds after which a network file system shows a new file everywhere


def folder(root: Path) -> Path:
  """Where scripts, `jobs.json` and Slurm's own messages are."""
  return root / "launch" / "slurm"


def read(root: Path) -> dict[str, dict[str, str]]:
  """`{task: {"job": "12_3", "name": that of the job}}` of all that was submitted.

  Raises:
    UserError: the file is damaged.
  """
  path = folder(root) / "jobs.json"
  try:
    known = read_json(path) if path.exists() else {}
    return {name: {key: job[key] for key in ("job", "name")} for name, job in known.items()}
  except (ValueError, TypeError, AttributeError, KeyError) as error:
    raise UserError(f"{str(path)!r} cannot be read; move it away to start again") from error


def write(root: Path, known: dict[str, dict[str, str]]) -> None:
  """Writes what `read` returns, whole or not at all."""
  write_json(folder(root) / "jobs.json", known)


def look(tasks: Sequence[Task], root: Path) -> dict[str, Job]:
  """What Slurm knows of the jobs of the tasks that are not done, by the names of the tasks.

  Raises:
    UserError: Slurm cannot be reached.
  """
  known = read(root)
  entries = {
    task.name: known[task.name] for task in tasks if task.name in known and not is_done(task, root)
  }
  if not entries:
    return {}
  jobs = squeue.jobs()
  untold = {task.name for task in tasks if progress.exit_code(task, root) in _SILENT}
  jobs |= squeue.accounted(
    entry["job"] for name, entry in entries.items() if name in untold and entry["job"] not in jobs
  )
  # Numbers begin anew when a cluster is set up again: a job is ours if it has our name as well.
  return {
    name: jobs[entry["job"]]
    for name, entry in entries.items()
    if entry["job"] in jobs and jobs[entry["job"]].name == entry["name"]
  }


def states(tasks: Sequence[Task], root: Path) -> dict[str, str]:
  """The state of every task, in order: those of `launch.progress`, and "queued", "requeued".

  How a job ended that was killed is written to the log of its task, as Slurm soon forgets it.

  Args:
    tasks: parents first.
    root: folder of the sweep, absolute.

  Raises:
    UserError: Slurm cannot be reached.
  """
  return states_from(tasks, root, look(tasks, root))


def states_from(tasks: Sequence[Task], root: Path, jobs: Mapping[str, Job]) -> dict[str, str]:
  """See `states`; with what `look` found."""
  known = read(root)
  running: dict[str, str] = {}
  done: set[str] = set()
  broken: set[str] = set()
  for task in tasks:
    job = jobs.get(task.name)
    if is_done(task, root):
      done.add(task.name)
    elif broken & set(task.needs):
      broken.add(task.name)
    elif job and (not job.ended or _shown_late(job, task, root)):
      running[task.name] = _word(job, done >= set(task.needs))
    elif task.name in known:
      _settle(task, root, job or Job(known[task.name]["job"], ""))
      broken.add(task.name)
  return progress.states(tasks, root, running)


def _word(job: Job, may_start: bool) -> str:
  """What the table calls the state of a job."""
  if job.state == "PENDING":
    if not may_start:
      return progress.WAITING
    return REQUEUED if job.restarts else QUEUED
  return progress.RUNNING if job.state in (*_AT_WORK, "COMPLETED") else job.state.lower()


def _shown_late(job: Job, task: Task, root: Path) -> bool:
  """Whether the results of a job that succeeded may be there without being seen here."""
  try:
    written = progress.exit_file(task, root).stat().st_mtime
  except OSError:
    return False
  return job.state == "COMPLETED" and time.time() - written < _LAG


def _settle(task: Task, root: Path, job: Job) -> None:
  """Notes how a job ended that left no results, unless its own script did."""
  if progress.exit_code(task, root) not in _SILENT and job.state in ("FAILED", ""):
    return
  reason = "" if job.reason == "None" else f" ({job.reason})"
  line = f"Slurm: job {job.number} " + {
    "": "is no longer in the queue and did not finish",
    "COMPLETED": "ended without results",
  }.get(job.state, job.state + reason)
  if progress.last_line(task, root) != line:
    with progress.log_file(task, root).open("a") as log:
      log.write(line + "\n")
  progress.exit_file(task, root).write_text("1\n")
