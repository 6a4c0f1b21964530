"""Being told to stop (SIGTERM): by a scheduler that needs the machine, by a launcher, by a user.

A training saves its state after the step in progress; everything else is simply left, as a run
started again does what is missing. Both end with exit code 75. A command has taken the signals
already, see `interrupts`; here they are taken where an experiment is run from Python.
"""

import contextlib
import itertools
import signal
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from dissim_jax import interrupts
from dissim_jax.errors import Stopped

_held = False
_asked = False
_sync_points = itertools.count()


def _on_signal(number: int, frame: object) -> None:
  global _asked
  # Told again, as schedulers do, it must not interrupt the saving.
  again, _asked = _asked, True
  if not (_held or again):
    raise Stopped("told to stop")


@contextlib.contextmanager
def handled() -> Iterator[None]:
  """Turns SIGTERM into `Stopped`: at once, or where `asked` is looked at. Later ones are ignored.

  Of several processes, JAX's own service catches the signal and tells it to all of them.
  """
  global _asked
  _asked = False
  if jax.process_count() > 1 or interrupts.installed():
    yield
    return
  before = signal.signal(signal.SIGTERM, _on_signal)
  try:
    yield
  finally:
    if not _asked:
      signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def held() -> Iterator[None]:
  """Within, a signal waits until it is asked for, at the latest until the end."""
  global _held
  _held = True
  try:
    with interrupts.held():
      yield
  finally:
    _held = False
  if _asked or interrupts.asked():
    raise Stopped("told to stop")


def asked() -> bool:
  """Whether to stop here; all processes of a training, which call this equally often, agree."""
  if jax.process_count() == 1:
    return _asked or interrupts.asked()
  return multihost_utils.reached_preemption_sync_point(next(_sync_points))
