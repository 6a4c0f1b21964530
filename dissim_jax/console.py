"""The commands that an installation has on the PATH; each is `python -m` of its module."""

import runpy
import sys

from dissim_jax import interrupts

ENGINES = ("local", "slurm")


def _run(module: str) -> None:
  interrupts.install(module)
  runpy.run_module(f"dissim_jax.{module}", run_name="__main__", alter_sys=True)


def train() -> None:
  """`dissim`: runs an experiment."""
  _run("main")


def compare() -> None:
  """`dissim-compare`: compares the representations of members."""
  _run("compare")


def stitch() -> None:
  """`dissim-stitch`: joins two members and tests the hybrid."""
  _run("stitch")


def transfer() -> None:
  """`dissim-transfer`: how attacks transfer between the members of a pool."""
  _run("transfer")


def analyse() -> None:
  """`dissim-analyse`: what the attack transfer of a pool says."""
  _run("analyse")


def report() -> None:
  """`dissim-report`: writes the page of a run, or of several seeds."""
  _run("report")


def collect() -> None:
  """`dissim-collect`: tables and figures of a sweep."""
  _run("collect")


def launch() -> None:
  """`dissim-launch local` or `dissim-launch slurm`: runs a sweep."""
  if len(sys.argv) < 2 or sys.argv[1] not in ENGINES:
    given = repr(sys.argv[1]) if len(sys.argv) > 1 else "nothing"
    print(f"error: {given}: say where, {' or '.join(ENGINES)}", file=sys.stderr)
    sys.exit(2)
  _run(f"launch.{sys.argv.pop(1)}")
