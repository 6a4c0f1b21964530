"""The block `corruption` of a config."""

from typing import Any

import ml_collections

from dissim_jax.errors import UserError
from dissim_jax.names import expanded
from dissim_jax.registry.corruptions import CORRUPTIONS
from dissim_jax.registry.fields import are, are_names, is_number, seed, several

FIELDS = {
  "names": several(
    (), "corruptions of test images, or all", are_names(CORRUPTIONS, "all"), of_texts=True
  ),
  "severities": several(
    (1, 2, 3, 4, 5),
    "1-5 are the published levels, 0 = none",
    are(is_number(0), unique=True),
  ),
  "seed": seed(0, "determines where and how images are corrupted"),
}


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UserError if corruptions are named without a severity."""
  if config.corruption.names and not len(config.corruption.severities):
    raise UserError("corruption.severities=(): name at least one, or no corruption.names")


def asked(config: ml_collections.ConfigDict) -> dict[str, Any] | None:
  """What the results depend on; None where no corruption is named."""
  if not config.corruption.names:
    return None
  names = expanded(config.corruption.names, CORRUPTIONS)
  return config.corruption.to_dict() | {"names": names, "rule": config.evaluate.ensemble_rule}
