"""The attacks by name, and the settings that they share."""

import dataclasses
import math

from dissim_jax.errors import UserError
from dissim_jax.registry.checks import check_name
from dissim_jax.registry.entry import Entry
from dissim_jax.registry.fields import Field, flag, number, seed, whole

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


def settings(bounds: tuple[float, float] = UNIT) -> dict[str, Field]:
  """The settings of attacks on images within bounds: default, meaning and range of each."""
  width = bounds[1] - bounds[0]
  hint = ", such as 8/255 for 8 grey levels" if bounds == UNIT else f", the width of {bounds=}"
  return {
    "epsilon": number(
      Attack.epsilon, "largest change of a pixel, of images in 0..1", 0, width, hint=hint
    ),
    "step_size": number(Attack.step_size, "change in one iteration", 0, width, above=True),
    "iterations": whole(Attack.iterations, "iterations of pgd and momentum_pgd", 1),
    "random_start": flag(True, "start anywhere in the ball; False = at the image"),
    "momentum": number(1.0, "decay of the accumulated gradient, of momentum_pgd"),
    "seed": seed(0, "determines random starts"),
  }


def check_settings(attack: Attack, prefix: str = "", bounds: tuple[float, float] = UNIT) -> None:
  """Raises UserError at the first setting that cannot be used; `prefix` stands before its name."""
  check_bounds(bounds)
  check_name(f"{prefix}attack", attack.name, ATTACKS)
  for name, field in settings(bounds).items():
    field.verify(f"{prefix}{name}", getattr(attack, name))
