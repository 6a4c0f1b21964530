"""What the flags of an engine say to do."""

import dataclasses
import math
import os.path
import sys
from pathlib import Path

import rich.console
from absl import flags

from dissim_jax import command_line
from dissim_jax.errors import UserError
from dissim_jax.launch import sharing, sweep, table, tasks
from dissim_jax.registry.datasets import training_images


@dataclasses.dataclass(frozen=True)
class Request:
  """A checked sweep and where it goes.

  Attributes:
    name: of the sweep: its file's, without the ending.
    tasks: what to do, parents first.
    root: an absolute path.
  """

  name: str
  tasks: list[tasks.Task]
  root: Path


def request(holders: dict[str, flags.FlagHolder]) -> Request:
  """The sweep that the parsed flags describe, checked; nothing is written.

  Raises:
    UserError: a flag is missing, or the sweep cannot be run.
  """
  command_line.require(holders["sweep"])
  path = Path(holders["sweep"].value)
  name = path.stem
  root = Path(os.path.expanduser(holders["root"].value or Path("runs") / name)).absolute()
  if not str(root).isprintable():
    raise UserError(f"--root={str(root)!r}: must not hold characters that cannot be printed")
  entries = sweep.choose(sweep.load(path), holders["only"].value)
  overrides = list(holders["override"].value)
  if named := holders[command_line.PLUGINS].value:
    overrides.append(f"{command_line.PLUGINS}={','.join(named)}")
  task_list = tasks.make_tasks(entries, root, overrides)
  for sentence in sharing.sentences(task_list):
    print(f"note: {sentence}", file=sys.stderr)
  return Request(name, task_list, root)


def dry_run(
  asked: Request, holders: dict[str, flags.FlagHolder], console: rich.console.Console
) -> None:
  """Prints the plan."""
  rate = holders["images_per_second"].value
  if rate is not None and not 0 < rate < math.inf:
    raise UserError(f"--images_per_second={rate}: must be a finite number above 0")

  tasks.check_root(asked.name, asked.tasks, asked.root)
  table.print_plan(
    asked.name,
    asked.tasks,
    asked.root,
    lambda task: training_images(task.config["data"]),
    rate,
    console,
  )
