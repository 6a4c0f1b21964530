"""What a study has to work with."""

import dataclasses

import ml_collections

from dissim_jax.data import Dataset
from dissim_jax.members.member import Member


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
  """A run whose members are trained.

  Attributes:
    config: of the run.
    members: all of them, each once; all see images as the run normalises them.
    sequences: by the name of an ensemble, the names of its members in order.
    dataset: of the run.
  """

  config: ml_collections.ConfigDict
  members: list[Member]
  sequences: dict[str, list[str]]
  dataset: Dataset
