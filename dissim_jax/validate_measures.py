"""Checks of the blocks of a config that say what is measured of finished members."""

import math
import numbers

import ml_collections

from dissim_jax.attacks import ATTACKS, check_attack
from dissim_jax.config_file import get
from dissim_jax.corruptions import CORRUPTIONS
from dissim_jax.errors import UserError
from dissim_jax.evaluate.attribution import METHODS
from dissim_jax.evaluate.stitch_experiments import EXPERIMENTS
from dissim_jax.evaluate.stitch_study import STARTS
from dissim_jax.evaluate.transferability import attack_of, check_floor
from dissim_jax.fields import check_number
from dissim_jax.names import listed
from dissim_jax.plan import member_names, model_names
from dissim_jax.registry.architectures import fewest_taps
from dissim_jax.registry.checks import check_name


def check_stitch(config: ml_collections.ConfigDict) -> None:
  """Experiments, pairs, taps and lists of numbers of the `stitch` block."""
  settings = config.stitch
  for name in listed(settings.experiments):
    check_name("stitch.experiments", name, (*EXPERIMENTS, "all"))
  check_name("stitch.labels", settings.labels, ("soft", "hard"))
  check_name("stitch.start", settings.start, STARTS)
  check_number(config, "stitch.connected_points", 2)
  members = member_names(config)
  for pair in listed(settings.pairs):
    if len(pair.split(":")) != 2:
      raise UserError(f"stitch.pairs={pair!r}: must be source:target, such as member_0:member_1")
    for name in pair.split(":"):
      check_name("stitch.pairs", name, members)
  name, last = fewest_taps(model_names(config))
  for tap in settings.taps:
    if isinstance(tap, bool) or not isinstance(tap, int) or not 0 <= tap <= last:
      raise UserError(f"stitch.taps={tap!r}: {name} has taps 0..{last}")
  for field, least in (("decay_epochs", 1), ("ranks", 1)):
    for value in settings[field]:
      if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise UserError(f"stitch.{field}={value!r}: must be whole numbers of at least {least}")
  for field in ("widths", "l1_direct", "l1_task"):
    for value in settings[field]:
      if not isinstance(value, numbers.Real) or not 0 <= value < math.inf:
        raise UserError(f"stitch.{field}={value!r}: must be finite numbers of at least 0")


def check_further(config: ml_collections.ConfigDict) -> None:
  """The blocks `corruption`, `attribution` and `features`."""
  for name in listed(config.corruption.names):
    check_name("corruption.names", name, (*CORRUPTIONS, "all"))
  check_name("attribution.method", config.attribution.method, ("none", *METHODS))
  if not 0 < config.features.regularisation < math.inf:
    raise UserError(
      f"features.regularisation={config.features.regularisation!r}: must be a finite number above 0"
    )
  for field, low, high, allowed in (
    ("corruption.severities", 0, math.inf, "finite numbers of at least 0"),
    ("features.shares", 0, 1, "numbers in 0..1"),
  ):
    values = get(config, field)
    if not all(isinstance(v, numbers.Real) and math.isfinite(v) and low <= v <= high
               for v in values):  # fmt: skip
      raise UserError(f"{field}={tuple(values)}: must be {allowed}")
  if config.corruption.names and not len(config.corruption.severities):
    raise UserError("corruption.severities=(): name at least one, or no corruption.names")
  for value in config.features.dimensions:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
      raise UserError(f"features.dimensions={value!r}: must be whole numbers of at least 1")


def check_transfer(config: ml_collections.ConfigDict) -> None:
  """The block `transfer`; what an attack needs, also where none is asked for."""
  settings = config.transfer.to_dict()
  check_name("transfer.attack", settings["attack"], ("none", *ATTACKS))
  named = settings["attack"] if settings["attack"] != "none" else "pgd"
  check_attack(attack_of(settings | {"attack": named}), "transfer.")
  check_floor(settings["floor"], "transfer.floor")
