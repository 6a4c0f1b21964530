"""The cluster file: what jobs ask of Slurm, and how a process is started there."""

import dataclasses
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dissim_jax.errors import UserError
from dissim_jax.names import nearest

# Keys that are options of sbatch.
DIRECTIVES = ("partition", "account", "qos", "constraint", "gres", "time", "mem", "cpus_per_task")
_LONGEST_WARNING = 65535  # seconds; Slurm's own limit of --signal
# What the scripts rely on: given in the cluster file they would be given twice.
_OWN = (
  "array",
  "chdir",
  "dependency",
  "export",
  "job-name",
  "kill-on-invalid-dep",
  "nodes",
  "no-requeue",
  "ntasks",
  "ntasks-per-node",
  "open-mode",
  "output",
  "parsable",
  "requeue",
  "signal",
  "test-only",
  "wait",
  "wrap",
)


@dataclasses.dataclass(frozen=True)
class Cluster:
  """What jobs ask of Slurm, and how a process is started there.

  Attributes:
    partition, account, qos, constraint, gres: as `sbatch` takes them; "" leaves the option out.
    time: limit of one job, minutes or text such as "1-12:00:00".
    mem: memory of a node, MB or text such as "32G".
    cpus_per_task: CPUs of each process; 0 leaves the choice to Slurm.
    processes_per_node: of a training; each drives its share of the node's GPUs.
    signal_seconds: warning before the time limit, in which a checkpoint is written.
    python: the interpreter; a path, or a name that is looked up after `setup`.
    setup: shell lines that come first.
    options: further options of `sbatch`, one each.
    poll_seconds: between two looks at the queue.
    max_array: elements of the largest array, no more than Slurm's MaxArraySize (1001 where nobody
      changed it); more runs are several arrays.
  """

  partition: str = ""
  account: str = ""
  qos: str = ""
  constraint: str = ""
  gres: str = ""
  time: str | int = ""
  mem: str | int = ""
  cpus_per_task: int = 0
  processes_per_node: int = 1
  signal_seconds: int = 120
  python: str = sys.executable
  setup: str = ""
  options: tuple[str, ...] = ()
  poll_seconds: int | float = 10
  max_array: int = 1000


def read_cluster(path: str | Path) -> Cluster:
  """A cluster file (TOML, see `launch/clusters/example.toml`), checked.

  Raises:
    UserError: it cannot be read, or has an unknown key or a value that is not allowed.
  """
  path = Path(path)
  try:
    values = tomllib.loads(path.read_text())
  except OSError as error:
    raise UserError(f"--cluster={str(path)!r} cannot be read: {error.strerror}") from error
  except ValueError as error:
    raise UserError(f"--cluster={str(path)!r} is not TOML: {error}") from error
  fields = {field.name: field for field in dataclasses.fields(Cluster)}
  for key, value in values.items():
    if key not in fields:
      raise UserError(
        f"--cluster={str(path)!r}: {key}: there is no such key{nearest(key, fields)}; known are "
        f"{', '.join(fields)}"
      )
    problem = _problem(key, value, fields[key].type)
    if problem:
      raise UserError(f"--cluster={str(path)!r}: {key}={value!r}: {problem}")
  if isinstance(values.get("setup"), list):
    values["setup"] = "\n".join(values["setup"])
  if "options" in values:
    values["options"] = tuple(values["options"])
  return Cluster(**values)


def _problem(key: str, value: Any, kind: Any) -> str:
  """What is wrong with a value of the cluster file; "" if nothing."""
  if key in ("setup", "options"):
    lines = [value] if isinstance(value, str) and key == "setup" else value
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
      return "must be a list of texts" + (" or one text" if key == "setup" else "")
    return _option_problem(lines) if key == "options" else ""
  if isinstance(value, bool) or not isinstance(value, kind):
    names = {str: 'a text in quotes, such as "12:00:00"' if key == "time" else "a text"}
    names |= {
      int: "a whole number",
      str | int: 'a text in quotes, such as "12:00:00" or "32G", or a whole number',
      int | float: "a number",
    }
    return f"must be {names[kind]}"
  if isinstance(value, str) and not value.isprintable():
    return "must not hold line breaks or other characters that cannot be printed"
  least = {"cpus_per_task": 0, "signal_seconds": 0, "poll_seconds": 0.1}.get(key, 1)
  if not isinstance(value, str) and value < least:
    return f"must be at least {least}"
  if key == "signal_seconds" and value > _LONGEST_WARNING:
    return f"must be at most {_LONGEST_WARNING}"
  return "must not be empty" if key == "python" and not value else ""


def _option_problem(options: Sequence[str]) -> str:
  for option in options:
    name = option.removeprefix("--").split("=")[0].split(" ")[0]
    if not option.startswith("-") or not option.isprintable():
      return f"{option!r} is no option of sbatch such as '--exclusive'"
    if name in _OWN:
      return f"{option!r}: the launcher sets this option itself"
    if name.replace("-", "_") in DIRECTIVES:
      return f"{option!r}: give it as {name.replace('-', '_')} = …"
  return ""
