"""Images that fool a classifier, in an L-infinity ball: see `linf`; one iteration: see `step`."""

from dissim_jax.attacks.linf import (
  check_attack,
  fgsm,
  momentum_pgd,
  perturb,
  pgd,
)
from dissim_jax.attacks.step import attack_step, margin_loss
from dissim_jax.registry.attacks import ATTACKS, Attack

__all__ = [
  "ATTACKS",
  "Attack",
  "attack_step",
  "check_attack",
  "fgsm",
  "margin_loss",
  "momentum_pgd",
  "perturb",
  "pgd",
]
