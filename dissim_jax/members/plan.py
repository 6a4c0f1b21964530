"""Which members an experiment has, before anything is trained."""

import dataclasses
from pathlib import Path

import ml_collections

from dissim_jax.config.ensemble import model_names
from dissim_jax.names import listed
from dissim_jax.registry.objectives import BASELINE, DISTILL, ONE_BY_ONE, SEQUENTIAL


@dataclasses.dataclass(frozen=True)
class PlannedMember:
  """One member of an experiment.

  Attributes:
    name: unique in the experiment, e.g. `member_1`, `independent_1`, `gncl_0`.
    directory: where it is, or will be.
    index: its place in its sequence; with the config's seed it determines the member's seed, so
      that members of one place start from the same weights whatever they are trained for.
    model: the name of its architecture.
    teachers: the members it is made dissimilar to, or the one it is distilled from.
    reused: it was trained by another run.
    objective: of members that are trained jointly, what they minimise; of students `distill`;
      else `sequential`.
    group: the folder of a training that several members share; of others their own.
  """

  name: str
  directory: Path
  index: int
  model: str
  teachers: tuple["PlannedMember", ...] = ()
  reused: bool = False
  objective: str = SEQUENTIAL
  group: Path | None = None


def make_plan(
  config: ml_collections.ConfigDict, workdir: Path
) -> tuple[list[PlannedMember], dict[str, list[str]]]:
  """The members to train in order, and the sequences of member names to compare."""
  main, size = config.objective.name, config.ensemble.size
  if main in ONE_BY_ONE:
    plans, sequences = _sequential(config, workdir)
  else:
    plans = _joint(config, workdir, main, "member")
    sequences = {main: [plan.name for plan in plans]}
    if config.ensemble.baseline and size > 1:
      alone = [_alone(config, workdir, f"independent_{i}", i) for i in range(size)]
      sequences = {BASELINE: [plan.name for plan in alone], **sequences}
      plans += alone
  for name in listed(config.ensemble.compare):
    joint = _joint(config, workdir, name, name)
    sequences[name] = [plan.name for plan in joint]
    plans += joint
  return plans, sequences


def _sequential(
  config: ml_collections.ConfigDict, workdir: Path
) -> tuple[list[PlannedMember], dict[str, list[str]]]:
  """Member after member, and independent ones beside them.

  Each is dissimilar to all before it, or all are distilled from the first.
  """
  reused, distilled = config.ensemble.teachers, config.objective.name == DISTILL
  related = distilled or config.dissim.weight > 0
  plans: list[PlannedMember] = []
  for index in range(config.ensemble.size):
    name = f"member_{index}"
    if index < len(reused):
      plans.append(_reused_plan(name, Path(reused[index]).expanduser(), index, plans))
    else:
      teachers = tuple(plans[:1] if distilled else plans) if related else ()
      objective = DISTILL if distilled and plans else SEQUENTIAL
      plans.append(_alone(config, workdir, name, index, teachers, objective))
  kind = DISTILL if distilled else "dissimilar" if related else BASELINE
  sequences = {kind: [plan.name for plan in plans]}
  if related and config.ensemble.baseline and config.ensemble.size > 1:
    independent = [
      _alone(config, workdir, f"independent_{i}", i) for i in range(1, config.ensemble.size)
    ]
    sequences = {BASELINE: [plans[0].name, *(p.name for p in independent)], **sequences}
    plans += independent
  return plans, sequences


def _alone(
  config: ml_collections.ConfigDict,
  workdir: Path,
  name: str,
  index: int,
  teachers: tuple[PlannedMember, ...] = (),
  objective: str = SEQUENTIAL,
) -> PlannedMember:
  """A member that is trained by itself."""
  model = model_names(config)[index]
  return PlannedMember(name, workdir / name, index, model, teachers, objective=objective)


def _joint(
  config: ml_collections.ConfigDict, workdir: Path, objective: str, prefix: str
) -> list[PlannedMember]:
  """Members that are trained together; their training's folder is that of the objective."""
  return [
    PlannedMember(
      f"{prefix}_{i}",
      workdir / f"{prefix}_{i}",
      i,
      model,
      objective=objective,
      group=workdir / objective,
    )
    for i, model in enumerate(model_names(config))
  ]


def _reused_plan(
  name: str, directory: Path, index: int, earlier: list[PlannedMember]
) -> PlannedMember:
  """The plan of a member that another run trained, with those of its teachers that are here too."""
  from dissim_jax.members import store  # Imports JAX, which a plan needs for this alone.

  facts = store.read_facts(directory, "ensemble.teachers", store.TRAINED)
  its_teachers = {(directory / teacher).resolve() for teacher in facts["teachers"]}
  teachers = (plan for plan in earlier if plan.directory.resolve() in its_teachers)
  return PlannedMember(name, directory, index, facts["model"], tuple(teachers), reused=True)
