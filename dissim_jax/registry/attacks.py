"""The attacks by name, and the settings that they share."""

import dataclasses
import math
import numbers
from typing import Any

from dissim_jax.errors import UserError
from dissim_jax.names import nearest
from dissim_jax.registry.entry import Entry

UNIT = (0.0, 1.0)  # the lowest and the highest value that an image may hold


@dataclasses.dataclass(frozen=True)
class Attack:
  """An attack and its settings; those that it does not have are left unused.

  Attributes:
    name: in `ATTACKS`.
    epsilon: radius of the L-infinity ball, in the unit of the images, such as 0..1.
    step_size: of one iteration.
    iterations: how many.
    random_start: whether it starts anywhere in the ball, or at the image.
    momentum: decay of the accumulated gradient.
    seed: of random starts.
  """

  name: str = "pgd"
  epsilon: float = 8 / 255
  step_size: float = 2 / 255
  iterations: int = 50
  random_start: bool = True
  momentum: float = 1.0
  seed: int = 0


# The function of an entry is called as `attacks.pgd` is, with those of the settings that it takes.
ATTACKS: dict[str, Entry] = {
  name: Entry(name=name, label=label, code=f"attacks.linf:{name}", reference=reference)
  for name, label, reference in (
    ("pgd", "PGD", "Madry et al. 2018"),
    ("fgsm", "FGSM", "Goodfellow et al. 2015"),
    ("momentum_pgd", "PGD with momentum", "Dong et al. 2018"),
  )
}


def check_bounds(bounds: tuple[float, float]) -> None:
  """Raises UserError unless these are two finite numbers in order."""
  try:
    low, high = bounds
    right = math.isfinite(low) and math.isfinite(high) and low < high
  except (TypeError, ValueError):
    right = False
  if not right:
    raise UserError(f"bounds={bounds!r}: must be (low, high), two finite numbers, low below high")


def is_number(value: Any, kind: type = numbers.Real) -> bool:
  """Whether it is a finite number of that kind, and no truth value."""
  if not isinstance(value, kind) or isinstance(value, bool):
    return False
  return isinstance(value, numbers.Integral) or math.isfinite(value)  # of any size


def check_settings(attack: Attack, prefix: str = "", bounds: tuple[float, float] = UNIT) -> None:
  """Raises UserError at the first setting that cannot be used; `prefix` stands before its name."""
  check_bounds(bounds)
  width = bounds[1] - bounds[0]
  example = ", such as 8/255 for 8 grey levels" if bounds == UNIT else f", the width of {bounds=}"
  if attack.name not in ATTACKS:
    raise UserError(
      f"{prefix}attack={attack.name!r}: choose one of {', '.join(sorted(ATTACKS))}"
      f"{nearest(attack.name, ATTACKS)}"
    )
  for name, kind, low, high, allowed in (
    ("epsilon", numbers.Real, 0, width, f"a number in 0..{width:g}{example}"),
    ("step_size", numbers.Real, math.ulp(0.0), width, f"a number above 0 and up to {width:g}"),
    ("iterations", numbers.Integral, 1, 2**31 - 1, "a whole number in 1..2147483647"),
    ("momentum", numbers.Real, 0, math.inf, "a finite number of at least 0"),
    ("seed", numbers.Integral, 0, math.inf, "a whole number of at least 0"),
  ):
    value = getattr(attack, name)
    if not is_number(value, kind) or not low <= value <= high:
      raise UserError(f"{prefix}{name}={value!r}: must be {allowed}")
