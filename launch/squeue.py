"""What Slurm says about jobs: `squeue`, which knows finished ones for some minutes, or `sacct`."""

import dataclasses
import os
import subprocess
from collections.abc import Iterable, Sequence

from dissim_jax.errors import UserError

_FORMAT = ",".join(f"{name}:|" for name in ("JobArrayID", "State", "Reason", "RestartCnt", "Name"))
_ENDED = (
  "BOOT_FAIL",
  "CANCELLED",
  "COMPLETED",
  "DEADLINE",
  "FAILED",
  "NODE_FAIL",
  "OUT_OF_MEMORY",
  "PREEMPTED",
  "TIMEOUT",
)
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")


@dataclasses.dataclass(frozen=True)
class Job:
  """A job, or an element of an array.

  Attributes:
    number: `12`, or `12_3` of an array.
    state: Slurm's word: PENDING, RUNNING, COMPLETED, TIMEOUT, …
    reason: why it is in that state; "None" if there is nothing to say.
    restarts: how often it was started again.
    name: as given when it was submitted.
  """

  number: str
  state: str
  reason: str = "None"
  restarts: int = 0
  name: str = ""

  @property
  def ended(self) -> bool:
    """Whether nothing more will come of it."""
    return self.state in _ENDED


def call(command: Sequence[str]) -> str:
  """What one of Slurm's programs prints.

  Raises:
    UserError: it is missing or failed; with its own words.
  """
  try:
    done = subprocess.run(
      command,
      capture_output=True,
      text=True,
      errors="replace",
      env=environment(os.environ),
      stdin=subprocess.DEVNULL,
    )
  except FileNotFoundError as error:
    raise UserError(f"{command[0]}: there is no such program; is Slurm installed here?") from error
  except OSError as error:
    raise UserError(f"{command[0]} cannot be started: {error.strerror}") from error
  if done.returncode:
    reason = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
    raise UserError(f"{command[0]} failed: {reason}")
  return done.stdout


def environment(given: os._Environ | dict[str, str]) -> dict[str, str]:
  """What Slurm's programs, and the jobs, get: all but what would change what a command means.

  Inside another job, `SLURM_…` tells of that one; `SBATCH_…` would go before what a script says.
  """
  foreign = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_")
  return {
    name: value for name, value in given.items() if name in _KEPT or not name.startswith(foreign)
  }


def jobs() -> dict[str, Job]:
  """The user's jobs that Slurm still knows, by number.

  Raises:
    UserError: Slurm cannot be reached.
  """
  return parse(
    call(["squeue", "--me", "--noheader", "--array", "--states=all", f"--Format={_FORMAT}"])
  )


def parse(text: str) -> dict[str, Job]:
  """Jobs from what `squeue` printed, by number."""
  by_number = {}
  for line in text.splitlines():
    parts = line.strip().split("|")
    if len(parts) >= 5 and parts[3].isdigit():
      number, state, reason, restarts, name = parts[:5]
      by_number[number] = Job(number, state, reason, int(restarts), name)
  return by_number


def accounted(numbers: Iterable[str]) -> dict[str, Job]:
  """Jobs that Slurm's accounting remembers, by number; none where there is no accounting."""
  numbers = list(numbers)
  if not numbers:
    return {}
  command = [
    "sacct",
    "--noheader",
    "--parsable2",
    "--allocations",
    "--array",
    f"--jobs={','.join(numbers)}",
    "--format=JobID,State,JobName",
  ]
  try:
    text = call(command)
  except UserError:
    return {}
  return parse_accounted(text)


def parse_accounted(text: str) -> dict[str, Job]:
  """Jobs from what `sacct` printed, by number; the last line of a job that ran several times."""
  rows = [line.split("|") for line in text.splitlines() if line.count("|") == 2]
  # "CANCELLED by 1000"
  return {number: Job(number, state.split()[0], name=name) for number, state, name in rows if state}
