"""Which members an experiment has, before anything is trained."""

import dataclasses
from pathlib import Path

import ml_collections
import numpy as np

from dissim_jax import members as member_files


@dataclasses.dataclass(frozen=True)
class Plan:
  """One member of an experiment.

  Attributes:
    name: unique in the experiment, e.g. `member_1`, `independent_1`.
    directory: where it is, or will be.
    index: its place in its sequence; with the config's seed it determines the member's seed, so
      that a dissimilar and an independent member of one place start from the same weights and
      see the same batches.
    teachers: the members it is made dissimilar to.
    reused: it was trained by another run.
  """

  name: str
  directory: Path
  index: int
  teachers: tuple["Plan", ...] = ()
  reused: bool = False


def make_plan(
  config: ml_collections.ConfigDict, workdir: Path
) -> tuple[list[Plan], dict[str, list[str]]]:
  """The members to train in order, and the sequences of member names to compare."""
  reused, dissimilar = config.ensemble.teachers, config.dissim.weight > 0
  plans: list[Plan] = []
  for index in range(config.ensemble.size):
    name = f"member_{index}"
    if index < len(reused):
      plans.append(_reused_plan(name, Path(reused[index]).expanduser(), index, plans))
    else:
      plans.append(Plan(name, workdir / name, index, tuple(plans) if dissimilar else ()))
  sequences = {"dissimilar" if dissimilar else "baseline": [plan.name for plan in plans]}
  if dissimilar and config.ensemble.baseline and config.ensemble.size > 1:
    independent = [
      Plan(f"independent_{i}", workdir / f"independent_{i}", i)
      for i in range(1, config.ensemble.size)
    ]
    sequences = {"baseline": [plans[0].name, *(p.name for p in independent)], **sequences}
    plans += independent
  return plans, sequences


def member_names(config: ml_collections.ConfigDict) -> list[str]:
  """The members that a run of the config has, without a look at any folder."""
  later = range(1, config.ensemble.size)
  names = [f"member_{i}" for i in range(config.ensemble.size)]
  if config.dissim.weight > 0 and config.ensemble.baseline:
    names += [f"independent_{i}" for i in later]
  return names


def _reused_plan(name: str, directory: Path, index: int, earlier: list[Plan]) -> Plan:
  """The plan of a member that another run trained, with those of its teachers that are here too."""
  facts = member_files.read_facts(directory, "ensemble.teachers")
  its_teachers = {(directory / teacher).resolve() for teacher in facts["teachers"]}
  teachers = (plan for plan in earlier if plan.directory.resolve() in its_teachers)
  return Plan(name, directory, index, tuple(teachers), reused=True)


def member_seed(seed: int, index: int) -> int:
  """The seed of the member at a place of the sequence, a non-negative int32."""
  return int(np.random.SeedSequence([seed, index]).generate_state(1)[0] >> 1)
