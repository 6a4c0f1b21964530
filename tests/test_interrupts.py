"""Ctrl-C and SIGTERM end a command at once, or wait where something is to be saved."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dissim_jax import interrupts

ROOT = Path(__file__).parents[1]
SAYS = {signal.SIGINT: "stopped", signal.SIGTERM: "told to stop"}


# In the background of some shells, where tests may run, processes are born deaf to Ctrl-C.
HEARS = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"


def start(command, body, before=HEARS):
  """A process that is ready for signals as this command is."""
  program = f"{before}from dissim_jax import interrupts\ninterrupts.install({command!r})\n{body}"
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **pipes)
  assert process.stdout.readline() == "ready\n"
  return process


WAIT = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
# An exception that a handler raises here is printed and forgotten.
IN_GC = """
import gc, time
gc.callbacks.append(lambda phase, info: print('ready', flush=True) or time.sleep(60))
gc.collect()
"""


@pytest.mark.parametrize("body", [WAIT, IN_GC], ids=["anywhere", "in the garbage collector"])
@pytest.mark.parametrize(
  ("command", "number", "code"),
  [
    ("main", signal.SIGINT, 130),
    ("main", signal.SIGTERM, 75),
    ("report", signal.SIGINT, 130),
    ("report", signal.SIGTERM, 143),
  ],
)
def test_one_sentence_and_the_exit_code(command, number, code, body):
  process = start(command, body)
  process.send_signal(number)
  _, told = process.communicate(timeout=30)
  goes_on = "; the same command goes on from here" if command == "main" else ""
  assert (process.returncode, told) == (code, f"{SAYS[number]}{goes_on}\n")


HELD = """
import time
with interrupts.held():
  print('ready', flush=True)
  while not interrupts.asked():
    time.sleep(0.01)
  print('asked', flush=True)
  time.sleep({})
  print('saved', flush=True)
raise SystemExit(interrupts.code())
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_waits_until_it_is_asked_for(number, code):
  process = start("main", HELD.format(0))
  process.send_signal(number)
  assert process.communicate(timeout=30) == ("asked\nsaved\n", "")
  assert process.returncode == code


def test_only_a_second_ctrl_c_does_not_wait():
  process = start("main", HELD.format(60))
  process.send_signal(signal.SIGTERM)
  assert process.stdout.readline() == "asked\n"
  process.send_signal(signal.SIGTERM)
  with pytest.raises(subprocess.TimeoutExpired):
    process.wait(0.3)
  process.send_signal(signal.SIGINT)
  _, told = process.communicate(timeout=30)
  assert process.returncode == 75 and told.startswith("stopped") and told.count("\n") == 1


def test_what_is_to_be_ignored_is():
  """As `nohup` and shells say of what runs in the background."""
  deaf = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
  process = start("main", WAIT.replace("60", "0.5"), deaf)
  process.send_signal(signal.SIGINT)
  assert process.communicate(timeout=30) == ("", "") and process.returncode == 0


def test_a_signal_at_the_very_end_changes_nothing():
  """Python's own end gives signals back their default, which would kill it."""
  body = "import time\ninterrupts.done()\nprint('ready', flush=True)\ntime.sleep(0.5)"
  process = start("main", body)
  process.send_signal(signal.SIGINT)
  assert process.communicate(timeout=30) == ("", "") and process.returncode == 0


def test_launchers_take_signals_by_themselves():
  process = start("launch.local", WAIT)
  process.send_signal(signal.SIGINT)
  _, told = process.communicate(timeout=30)
  assert "KeyboardInterrupt" in told


@pytest.mark.parametrize(
  ("arguments", "is_one"),
  [
    (["python", "-m", "dissim_jax.main", "--config=x"], True),
    (["python", "-O", "-m", "dissim_jax.launch.local"], True),
    (["python", "-m", "pytest", "dissim_jax.main"], False),
    (["python", "script.py", "-m"], False),
    (["python"], False),
  ],
)
def test_which_processes_are_commands(arguments, is_one):
  assert interrupts.is_command(arguments) == is_one
