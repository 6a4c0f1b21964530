"""`dissim_jax.main` as one of two processes that are told to stop and go on, without a new start.

Called with the flags of the program. The second process sends itself SIGTERM at the third step of
the second member, in a training of `STEPS` steps a member. Then both run the program once more.
"""

import itertools
import os
import signal
import sys
import time

import pytest
from absl import app

from dissim_jax import command_line, main
from dissim_jax.distributed import preemption, processes
from dissim_jax.errors import TRY_AGAIN
from tests import tiny

STEPS = 12
TOLD = STEPS + 3


def tell_in_the_middle() -> None:
  """SIGTERM at a step; from there on steps take longer and longer, until JAX has passed it on."""
  asked, calls = preemption.asked, itertools.count(1)

  def told() -> bool:
    call = next(calls)
    if call == TOLD:
      os.kill(os.getpid(), signal.SIGTERM)
    if call >= TOLD:
      time.sleep(0.05 * 2 ** (call - TOLD))
    return asked()

  preemption.asked = told


def run() -> int:
  """The exit code of the program."""
  try:
    app.run(command_line.guarded(main.main), flags_parser=command_line.parse)
  except SystemExit as stop:
    return stop.code or 0
  return 0


if __name__ == "__main__":
  tiny.leave_undrawn(pytest.MonkeyPatch())
  alone = sys.argv[-1] == "--num_processes=1"  # The first process starts again so.
  asked = preemption.asked
  if "--process_id=1" in sys.argv:
    tell_in_the_middle()
  code = run()
  if code == TRY_AGAIN and not alone:
    print(f"exit code {code}", flush=True)
    preemption.asked = asked
    processes.connect = lambda **flags: True
    code = run()
  sys.exit(code)
