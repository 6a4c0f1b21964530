"""What members are trained for, and with: objectives, projections, optimisers."""

from collections.abc import Callable
from typing import Any

from dissim_jax.registry.entry import Entry, load

SEQUENTIAL = "sequential"
DISTILL = "distill"
BASELINE = "baseline"  # the sequence of independent members
ATTRIBUTION = "attribution"

# Of members that are trained one after another: `train.recipes` that train a member.
ONE_BY_ONE: dict[str, Entry] = {
  name: Entry(name=name, label=label, code=f"train.recipes:{name}", reference=reference)
  for name, label, reference in (
    (SEQUENTIAL, "one after another", "Wald et al. 2023, section 3"),
    (DISTILL, "distilled", "Hwang et al., section 4.2"),
  )
}

# Of members that are trained together: `(logits [M, B, K], labels [B], weight) -> scalar`.
# Eq. 8 (attribution) is `mean_member_loss` less the weighted diversity of the members' attribution
# maps, which the training step adds: it is no function of logits.
JOINT: dict[str, Entry] = {
  name: Entry(name=name, label=label, code=f"train.joint_losses:{function}", reference=reference)
  for name, label, function, reference in (
    ("independent", "independent, trained jointly", "mean_member_loss", ""),
    ("gncl", "GNCL", "gncl", "Rosales et al. 2023, Eq. 2"),
    ("gncl_masked", "masked GNCL", "gncl_masked", "Rosales et al. 2023, section 4.3 (f)"),
    ("balanced", "balanced loss", "balanced", "Rosales et al. 2023, Eq. 3"),
    (ATTRIBUTION, "attribution diversity", "mean_member_loss", "Rosales et al. 2023, Eq. 8"),
  )
}

# For measures that need aligned channels; others take `projections.identity`.
PROJECTIONS: dict[str, Entry] = {
  name: Entry(name=name, label=label, code=f"train.projections:{name}")
  for name, label in (("learned", "learned"), ("least_squares", "least squares"))
}

OPTIMIZERS: dict[str, Entry] = {
  name: Entry(name=name, label=label, code=f"train.optimizer:{name}", reference=reference)
  for name, label, reference in (
    ("sgd", "SGD with momentum", ""),
    ("adamw", "AdamW", "Loshchilov & Hutter 2019"),
  )
}


def objective_name(objective: str) -> str:
  """Display name of a joint objective."""
  return JOINT[objective].label if objective in JOINT else objective.replace("_", " ")


def recipe(objective: str) -> Callable[..., Any]:
  """The function of `train.recipes` that trains members of an objective."""
  known = ONE_BY_ONE.get(objective)
  return load("train.recipes:jointly") if known is None else known.function
