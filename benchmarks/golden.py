"""Whether two versions of the program give the same results, down to the last bit.

  python -m benchmarks.golden make --out=/tmp/before          # about ten minutes on two cores
  python -m benchmarks.golden make --out=/tmp/after --old=/tmp/before/old
  python -m benchmarks.golden compare --one=/tmp/before --other=/tmp/after

`make` runs the commands at a tiny size with everything on: a run with every study, on one device
and on four, one that is stopped and resumed, an old run that is measured further (`--old` is one
that another version made), comparisons, stitches, a pool of attacked members that grows, seeds, a
sweep and its tables. `compare` reads every file of both folders and names each difference. Times,
speeds and descriptions of the machine may differ; pages are compared by what they say, and pictures
by name.
"""

import html.parser
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from absl import app, flags, logging

from dissim_jax import command_line
from dissim_jax.errors import UserError

_OUT = flags.DEFINE_string("out", None, "make: folder for everything; it must not exist.")
_OLD = flags.DEFINE_string("old", None, "make: the folder old/ that another version made.")
_ONE = flags.DEFINE_string("one", None, "compare: a folder of make.")
_OTHER = flags.DEFINE_string("other", None, "compare: another one.")
_WITHIN = command_line.define_number(
  "within",
  0.0,
  "compare: relative difference of numbers that is none. 0 = bit for bit.",
  flags.FLAGS,
)

TRAINED = {
  "train.epochs": 3,
  "train.checkpoint_every_epochs": 1,
  "train.batch_size": 20,
  "model.name": "resnet8",
  "dtype": "float32",
  "dissim.taps": "2,3",
  "data.validation": 40,
  "data.train_per_class": 14,
}
STUDIES = {
  "corruption.names": "gaussian_noise,fog",
  "corruption.severities": "1,4",
  "transfer.attack": "pgd",
  "transfer.iterations": 3,
  "transfer.images": 100,
  "attribution.method": "saliency",
  "attribution.images": 100,
  "features.shares": "0,0.5,1",
  "features.dimensions": "2,8",
  "features.draws": 2,
  "stitch.experiments": "all",
  "stitch.epochs": 1,
  "stitch.decay_epochs": "",
  "stitch.starts": 2,
  "stitch.connected_points": 3,
  "stitch.connected_accuracy": 0,
  "stitch.taps": "1,2",
  "stitch.widths": "0.5",
  "stitch.ranks": "2,4",
  "stitch.l1_direct": "0.01,0.1",
  "stitch.l1_task": "0.001,0.01",
  "stitch.pairs": "member_0:member_1",
}
NO_STUDIES = {
  "corruption.names": "",
  "attribution.method": "none",
  "features.shares": "",
}
MEASURES = (
  "lincka,lincka_position,rbfcka,cca,cca_squared,svcca,pwcca,r2,procrustes,rsa,relative,jaccard"
)
STOPPED = 75  # exit code of a run that was told to stop

# What may differ between two runs of one version: times, and what follows from them (a member's
# identity is a digest of its files).
TIMES = (
  "seconds",
  "images_per_second",
  "train_seconds",
  "environment",
  "command",
  "identity",
  "targets",
)
SKIPPED = ("checkpoints", "tensorboard", "launch", "logs")


class Maker:
  """Runs commands one after the other, and keeps what each printed."""

  def __init__(self, out: Path, cache: str):
    self.out, self._cache = out, cache

  def start(self, *command: str, devices: int = 1) -> subprocess.Popen:
    """A command of the program, such as `dissim_jax.main` and its flags, that goes on."""
    environment = os.environ | {
      "JAX_PLATFORMS": "cpu",
      "JAX_COMPILATION_CACHE_DIR": self._cache,
      "COLUMNS": "100",
      "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    print(" ".join(command)[:150], flush=True)
    return subprocess.Popen(
      [sys.executable, "-m", *command], env=environment, stdout=subprocess.PIPE, text=True
    )

  def run(self, name: str, *command: str, devices: int = 1) -> None:
    """A command that has to succeed; what it prints is kept as `name`.txt."""
    process = self.start(*command, devices=devices)
    text, _ = process.communicate()
    if process.returncode:
      raise UserError(f"{' '.join(command)}: exit code {process.returncode}")
    (self.out / "printed").mkdir(exist_ok=True)
    (self.out / "printed" / f"{name}.txt").write_text(text.replace(str(self.out), "OUT"))

  def train(self, folder: str) -> tuple[str, ...]:
    """The command that trains and measures the run in `folder`, without its studies."""
    return self.command(folder, TRAINED | NO_STUDIES)

  def command(self, folder: str, fields: dict[str, Any]) -> tuple[str, ...]:
    """The command that does `configs/digits_compare.py` with other fields."""
    settings = (f"--config.{field}={value}" for field, value in fields.items())
    return (
      "dissim_jax.main",
      "--config=configs/digits_compare.py",
      f"--workdir={self.out / folder}",
      *settings,
    )

  def stop_in_epoch_2(self, folder: str) -> None:
    """Starts the run in `folder` and tells it to stop when an epoch of member 1 is done."""
    process = self.start(*self.train(folder))
    log = self.out / folder / "member_1" / "metrics.jsonl"
    while process.poll() is None and not (log.is_file() and log.read_text()):
      time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    if process.returncode != STOPPED:
      raise UserError(f"{folder}: not stopped in time (exit code {process.returncode})")


def make(out: Path, old: Path | None) -> None:
  """Runs everything below `out`."""
  if out.exists():
    raise UserError(f"--out={out}: it exists already")
  out.mkdir(parents=True)
  with tempfile.TemporaryDirectory(prefix="golden_") as cache:
    _make(Maker(out.resolve(), cache), old)


def _make(maker: Maker, old: Path | None) -> None:
  out, everything = maker.out, TRAINED | STUDIES
  maker.run("one", *maker.command("one", everything))
  maker.run("four", *maker.command("four", everything), devices=4)
  maker.stop_in_epoch_2("resumed")
  shutil.copytree(out / "resumed", out / "old", symlinks=True) if old is None else None
  maker.run("resumed", *maker.command("resumed", everything))
  if old is not None:
    shutil.copytree(old, out / "old", symlinks=True)
  shutil.copytree(out / "old", out / "old_resumed", symlinks=True)
  maker.run("old_trained", *maker.train("old_resumed"))
  maker.run("old_measured", *maker.command("old_resumed", everything))
  maker.run("seed_1", *maker.command("seed_1", everything | {"seed": 1}))
  one, two = (f"--workdir={out / name}" for name in ("one", "seed_1"))
  maker.run("old_report", "dissim_jax.report", f"--workdir={out / 'old_resumed'}")
  maker.run("seeds", "dissim_jax.report", one, two, f"--output={out / 'seeds'}")
  for name, *options in (
    ("compare", one),
    ("compare_resized", one, "--samples=position", "--resize", "--images=500"),
    ("compare_pooled", one, two, "--samples=pooled", "--members=member_0,member_1"),
  ):
    folder = out / name
    maker.run(name, "dissim_jax.compare", f"--measures={MEASURES}", f"--out={folder}", *options)
  ends = (
    f"--{end}={out / 'one' / member}"
    for end, member in (("source", "member_0"), ("target", "member_1"))
  )
  maker.run(
    "stitch",
    "dissim_jax.stitch",
    *ends,
    "--tap=all",
    f"--out={out / 'stitch'}",
    "--methods=least_squares,orthogonal,task_loss,identity,sparse",
    "--l1=0.1",
  )
  pool = (f"--out={out / 'pool'}", "--iterations=3", "--epsilon=32/255", "--images=100")
  members = (
    f"--members={out / name}"
    for name in ("one/member_0", "one/member_1", "one/independent_1", "seed_1/member_0")
  )
  maker.run("transfer", "dissim_jax.transfer", *members, *pool)
  maker.run(
    "transfer_added",
    "dissim_jax.transfer",
    f"--members={out / 'seed_1' / 'member_1'}",
    f"--out={out / 'pool'}",
  )
  maker.run(
    "analyse",
    "dissim_jax.analyse",
    f"--folder={out / 'pool'}",
    "--clusters=2",
    f"--out={out / 'analysis'}",
  )
  sweep = f"--root={out / 'sweep'}"
  maker.run(
    "sweep",
    "launch.local",
    "--sweep=configs/sweeps/digits_table1.py",
    sweep,
    "--only=seed_[01]*",
    "--override=ensemble.size=2",
    "--override=train.epochs=2",
    "--override=data.train_per_class=10",
  )
  maker.run("collect", "dissim_jax.collect", sweep)


# --- Comparing ------------------------------------------------------------------------------------


def compare(one: Path, other: Path, within: float) -> list[str]:
  """A line for every difference between two folders of `make`."""
  names = [
    {_without_place(name, folder): name for name in _files(folder)} for folder in (one, other)
  ]
  lines = [
    f"{name}: only in {one if name in names[0] else other}"
    for name in sorted(set(names[0]) ^ set(names[1]))
  ]
  for name in sorted(set(names[0]) & set(names[1])):
    read = (
      _read(folder, originals[name]) for folder, originals in zip((one, other), names, strict=True)
    )
    differences = [_differences(*values, within) for values in zip(*read, strict=True)]
    lines += [f"{name}: {line}" for line in itertools.chain(*differences)]
  return lines


def _without_place(name: str, folder: Path) -> str:
  """A file's name without what it owes to where the folder is."""
  return re.sub(r"-[0-9a-f]{8}(?=\.npz$)", "", name.replace(f"/{folder.name}_", "/"))


def _files(folder: Path) -> Iterator[str]:
  """Names of what is compared: files, and the folders that hold a member's weights."""
  for path in sorted(folder.rglob("*")):
    parts = path.relative_to(folder).parts
    weights = parts.index("weights") if "weights" in parts else len(parts)
    if set(parts) & set(SKIPPED) or "tfevents" in path.name or parts[0] == "old":
      continue
    if weights == len(parts) - 1 or (weights == len(parts) and path.is_file()):
      yield "/".join(parts)


class _Words(html.parser.HTMLParser):
  """What a reader of a page is told: its text, a line for each cell or paragraph, and alt texts."""

  INLINE = ("small", "span", "i", "br")

  def __init__(self) -> None:
    super().__init__()
    self.lines: list[str] = [""]
    self.hidden = False

  def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
    self.hidden = tag == "style"
    if tag not in self.INLINE:
      self.lines.append("")
    self.lines += [value or "" for name, value in attrs if name == "alt"]

  def handle_endtag(self, tag: str) -> None:
    self.hidden = False
    if tag == "tr" and re.fullmatch(r"[\d,]+\.\d", self.lines[-1].strip()):
      self.lines[-1] = ""  # the seconds that a member took
    if tag not in self.INLINE and tag not in ("td", "th", "tr"):
      self.lines.append("")

  def handle_data(self, data: str) -> None:
    if not self.hidden:
      self.lines[-1] += data


def words(page: str) -> list[str]:
  """The lines that a page shows, without times and commands; markup and style may change."""
  parser = _Words()
  parser.feed(page)
  lines = [" ".join(line.split()) for line in parser.lines]
  lines = ["a command" if line.startswith("python -m dissim_jax") else line for line in lines]
  return [
    line for before, line in itertools.pairwise(["", *filter(None, lines)]) if before != "seconds"
  ]


def _read(folder: Path, name: str) -> tuple[Any, ...]:
  """What a file holds, as nested dicts and lists of arrays, numbers and texts; pictures not."""
  path = folder / name
  if path.is_dir():
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
      return (checkpointer.restore(path.absolute()),)
  if path.suffix == ".npz":
    with np.load(path, allow_pickle=False) as arrays:
      return (dict(arrays),)
  if path.suffix == ".safetensors":
    return (safetensors.numpy.load_file(path),)
  if path.suffix in (".png", ".pdf", ".lock"):
    return ()
  text = path.read_text().replace(str(folder.resolve()), "OUT")
  if path.suffix == ".json":
    return (json.loads(text),)
  if path.suffix == ".jsonl":
    return ([json.loads(line) for line in text.splitlines()],)
  if path.suffix == ".html":
    return (words(text),)
  return (text.splitlines(),)


def _differences(a: Any, b: Any, within: float, where: str = "") -> Iterator[str]:
  """Where two values differ, and how."""
  if isinstance(a, dict) and isinstance(b, dict):
    for key in sorted((set(a) | set(b)) - set(TIMES), key=str):
      if key in a and key in b:
        yield from _differences(a[key], b[key], within, f"{where}.{key}")
      else:
        yield f"{where}.{key} is in one alone"
  elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
    for place, (left, right) in enumerate(zip(a, b, strict=True)):
      yield from _differences(left, right, within, f"{where}[{place}]")
  elif not _equal(a, b, within):
    yield f"{where}: {str(a)[:200]} | {str(b)[:200]}"


def _equal(a: Any, b: Any, within: float) -> bool:
  left, right = np.asarray(a), np.asarray(b)
  if left.dtype != right.dtype or left.shape != right.shape:
    return False
  if left.dtype.kind not in "fc":
    return np.array_equal(left, right)
  if within:
    return np.allclose(left, right, rtol=within, atol=within * 1e-3, equal_nan=True)
  return np.array_equal(left, right, equal_nan=True)


def main(argv: list[str]) -> None:
  """Makes, or compares."""
  logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a restore.
  if argv[1:] == ["make"]:
    command_line.require(_OUT)
    make(Path(_OUT.value), Path(_OLD.value) if _OLD.value else None)
  elif argv[1:] == ["compare"]:
    command_line.require(_ONE, _OTHER)
    lines = compare(Path(_ONE.value), Path(_OTHER.value), _WITHIN.value)
    print("\n".join(lines) if lines else "equal")
    sys.exit(bool(lines))
  else:
    raise UserError(f"{' '.join(argv[1:]) or 'nothing'}: say make or compare")


if __name__ == "__main__":
  app.run(command_line.guarded(main), flags_parser=command_line.parse)
