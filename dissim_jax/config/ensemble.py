"""Which members a config has, by name: what is known without a look at any folder."""

import ml_collections

from dissim_jax.names import listed
from dissim_jax.registry.objectives import ONE_BY_ONE, SEQUENTIAL


def model_names(config: ml_collections.ConfigDict) -> list[str]:
  """The architecture of the member at each place."""
  return listed(config.ensemble.models) or [config.model.name] * config.ensemble.size


def member_names(config: ml_collections.ConfigDict) -> list[str]:
  """The members that a run of the config has, without a look at any folder."""
  size = config.ensemble.size
  names = [f"member_{i}" for i in range(size)]
  related = config.dissim.weight > 0 or config.objective.name != SEQUENTIAL
  if config.ensemble.baseline and size > 1 and related:
    first = int(config.objective.name in ONE_BY_ONE)  # They share the first member.
    names += [f"independent_{i}" for i in range(first, size)]
  return names + [f"{name}_{i}" for name in listed(config.ensemble.compare) for i in range(size)]


def training_folders(config: ml_collections.ConfigDict) -> dict[str, int]:
  """The folder of each training of a run, and how many models it trains.

  Members of other runs are not trained; those trained together share a folder.
  """
  size, together = config.ensemble.size, listed(config.ensemble.compare)
  names = member_names(config)
  alone = names[: len(names) - size * len(together)]
  if config.objective.name in ONE_BY_ONE:
    alone = alone[len(config.ensemble.teachers) :]
  else:
    alone, together = alone[size:], [config.objective.name, *together]
  return {name: 1 for name in alone} | {name: size for name in together}
