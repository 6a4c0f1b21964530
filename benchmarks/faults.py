"""Whether commands survive what happens to them: signals at any moment, a disk that is full.

  python -m benchmarks.faults signals --kill=50 --int=30 --term=30 --seed=0
  python -m benchmarks.faults disks --sizes=100k,400k,700k,1m,1500k,2m   # as root: it mounts tmpfs

`signals` sends each signal at a random moment of a random command, starts the command again to its
end, and compares every file with those of an undisturbed one, bit for bit. Both print how the
commands ended, how much they printed, and exit with 1 if something was lost, another number came
out or a traceback was printed.
"""

import collections
import contextlib
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from absl import app, flags, logging

from benchmarks import golden
from dissim_jax import command_line
from dissim_jax.errors import UserError

_SIGNALS = {
  name: command_line.define_whole(name, 0, f"signals: how many SIG{name.upper()}.", flags.FLAGS, 0)
  for name in ("kill", "int", "term")
}
_SEED = command_line.define_whole("seed", 0, "signals: of commands and moments.")
_SIZES = command_line.define_several("sizes", ["400k", "1m"], "disks: of the file systems.")

RUN = (
  "dissim_jax.main",
  "--config=digits_expvar",
  "--config.model.name=resnet8",
  "--config.model.width_multiplier=0.25",
  "--config.dissim.taps=1",
  "--config.train.epochs=10",
  "--config.train.checkpoint_every_epochs=1",
)
# Programs are compiled once for all commands, and not for speed.
ENVIRONMENT = {
  "JAX_PLATFORMS": "cpu",
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  "XLA_FLAGS": "--xla_backend_optimization_level=0",
}
CODES = {signal.SIGKILL: (-9,), signal.SIGINT: (130,), signal.SIGTERM: (75, 143)}
_UNHEARD = 0.1  # seconds in which Python itself starts, and no program can take a signal


@dataclasses.dataclass(frozen=True)
class Command:
  """A command whose results are in one folder.

  Attributes:
    arguments: of Python's -m; `{out}` is the folder, `{run}` a finished run.
    seconds: that it takes undisturbed.
  """

  arguments: tuple[str, ...]
  seconds: float = 0.0

  def start(self, out: Path, run: Path) -> subprocess.Popen:
    """The command as a process whose output is kept."""
    arguments = [each.format(out=out, run=run) for each in self.arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-m", *arguments], **pipes)


COMMANDS = {
  "main": Command((*RUN, "--workdir={out}/run")),
  "compare": Command(
    ("dissim_jax.compare", "--workdir={run}", "--out={out}/comparison", "--images=100")
  ),
  "stitch": Command(
    (
      "dissim_jax.stitch",
      "--source={run}/member_0",
      "--target={run}/member_1",
      "--methods=least_squares,orthogonal",
      "--out={out}/stitch",
    )
  ),
  "transfer": Command(
    (
      "dissim_jax.transfer",
      "--members={run}",
      "--out={out}/pool",
      "--images=500",
      "--iterations=2",
    )
  ),
  "collect": Command(("dissim_jax.collect", "--root={run}/..", "--output={out}/tables")),
}


def finish(command: Command, out: Path, run: Path) -> tuple[int, str]:
  """Runs a command to its end: its exit code and what it printed."""
  process = command.start(out, run)
  printed, _ = process.communicate()
  return process.returncode, printed


def signals(counts: dict[int, int], seed: int, folder: Path) -> list[str]:
  """Disturbs commands as often as asked; a line for everything that should not have happened."""
  rng, problems = random.Random(seed), []
  run = folder / "sweep" / "run"
  finish(Command((*RUN, "--workdir={run}")), folder, run)
  commands = {}
  for name, command in COMMANDS.items():
    began = time.monotonic()
    code, printed = finish(command, folder / "alone" / name, run)
    if code:
      raise UserError(f"{name} ends with {code} before anything has happened to it: {printed}")
    commands[name] = dataclasses.replace(command, seconds=time.monotonic() - began)
  ends: collections.Counter = collections.Counter()
  for number in rng.sample([*counts], counts=[*counts.values()], k=sum(counts.values())):
    name = rng.choice([*commands])
    out, moment = folder / "disturbed" / name, rng.uniform(0.05, commands[name].seconds)
    shutil.rmtree(out, ignore_errors=True)
    process = commands[name].start(out, run)
    try:
      printed, _ = process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
      process.send_signal(number)
      printed, _ = process.communicate()
    code, what = process.returncode, f"{name}, {signal.Signals(number).name} after {moment:.2f} s"
    ends[name, signal.Signals(number).name, code] += 1
    unheard = moment < _UNHEARD
    if code not in (0, *CODES[number]) and not unheard:
      problems.append(f"{what}: exit code {code}")
    if "Traceback" in printed and not unheard:
      problems.append(f"{what}: a traceback")
    code, printed = finish(commands[name], out, run)
    if code or "Traceback" in printed:
      problems.append(f"{what}: started again it ends with {code}")
    problems += [
      f"{what}: {line}" for line in golden.compare(folder / "alone" / name, out, 0.0)[:3]
    ]
  for (name, sent, code), count in sorted(ends.items()):
    print(f"{name:9} {sent:8} exit code {code:4} {count:4} times")
  return problems


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[None]:
  """A file system of this size at a folder."""
  folder.mkdir()
  subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
  try:
    yield
  finally:
    subprocess.run(["umount", "-l", folder], check=True)


def disks(sizes: list[str], folder: Path) -> list[str]:
  """Trains on small disks, then on the same with room; a line for everything that went wrong."""
  problems = []
  finish(COMMANDS["main"], folder / "alone", folder)
  for size in sizes:
    out = folder / size
    with disk(out, size):
      code, printed = finish(COMMANDS["main"], out, folder)
      lines = printed.splitlines()
      print(f"--- {size}: exit code {code}, {len(lines)} lines", *lines, sep="\n")
      told = lines[-1].endswith("cannot be written: No space left on device") if lines else False
      if code and (code != 2 or "Traceback" in printed or not told):
        problems.append(f"{size}: exit code {code}: {lines[-1:]}")
      subprocess.run(["mount", "-o", "remount,size=100m", out], check=True)
      code, printed = finish(COMMANDS["main"], out, folder)
      if code:
        problems.append(f"{size}: with room it ends with {code}")
      problems += [f"{size}: {line}" for line in golden.compare(folder / "alone", out, 0.0)[:3]]
  return problems


def main(argv: list[str]) -> None:
  """Does what the first argument names."""
  logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a restore.
  with tempfile.TemporaryDirectory(prefix="dissim_jax_faults_") as name:
    folder = Path(name)
    os.environ.update(ENVIRONMENT, JAX_COMPILATION_CACHE_DIR=str(folder / "cache"))
    if argv[1:] == ["signals"]:
      numbers = {"kill": signal.SIGKILL, "int": signal.SIGINT, "term": signal.SIGTERM}
      counts = {numbers[name]: holder.value for name, holder in _SIGNALS.items()}
      problems = signals(counts, _SEED.value, folder)
    elif argv[1:] == ["disks"]:
      problems = disks(_SIZES.value, folder)
    else:
      raise UserError(f"{argv[1:]}: give signals or disks")
  print("\n".join(problems) or "everything as it should be")
  sys.exit(bool(problems))


if __name__ == "__main__":
  app.run(command_line.guarded(main), flags_parser=command_line.parse)
