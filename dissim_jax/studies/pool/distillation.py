"""Students against their teachers: Hwang et al., section 4.2, Figure 5."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dissim_jax.studies.pool.record import Pool, architecture, architecture_names, is_student

SUBSETS = ("all", "same base", "other base")


class Student(NamedTuple):
  """A distilled model.

  Attributes:
    place: in the pool.
    teacher: its place.
    kind: name of the student's architecture.
    accuracy: of the student.
    to_undistilled: mean similarity of the teacher and the undistilled models of that architecture;
      the paper's abscissa; NaN if there are none.
    to_student: similarity of the teacher and the student itself.
    same_base: whether teacher and student have one base architecture.
  """

  place: int
  teacher: int
  kind: str
  accuracy: float
  to_undistilled: float
  to_student: float
  same_base: bool


def find_teacher(given: str, members: list) -> int | None:
  """The place of the member that a path names; None if there is none or no telling which.

  A member whose folder is that path, links followed; else the one whose folder ends with the most
  of the same parts, at least with the member's and its run's: files may have been moved.
  """
  if not given:
    return None
  wanted = Path(given).expanduser()
  exact = [
    i for i, member in enumerate(members) if Path(member["folder"]).resolve() == wanted.resolve()
  ]
  if exact:
    return exact[0]
  shared = [_shared_end(wanted.parts, Path(member["folder"]).parts) for member in members]
  most = max(shared, default=0)
  return shared.index(most) if most >= 2 and shared.count(most) == 1 else None


def _shared_end(a: tuple, b: tuple) -> int:
  """How many parts two paths have in common, from the end."""
  count = 0
  for one, other in zip(reversed(a), reversed(b), strict=False):
    if one != other:
      break
    count += 1
  return count


def students(pool: Pool) -> tuple:
  """([Student], names of students whose teacher is not in the pool)."""
  matched_students, lost = [], []
  kinds, names = [architecture(member) for member in pool.members], architecture_names(pool.members)
  for place, member in enumerate(pool.members):
    if not is_student(member):
      continue
    given = member["teachers"]
    teacher = find_teacher(str(given[0]) if given else "", pool.members)
    if teacher is None or teacher == place:
      lost.append(member["name"])
      continue
    plain = undistilled(pool, kinds[place])
    known = [pool.similarity[teacher, i] for i in plain if i != teacher]
    known = [value for value in known if not math.isnan(value)]
    matched_students.append(
      Student(
        place,
        teacher,
        names[place],
        float(pool.accuracy[place]),
        float(np.mean(known)) if known else math.nan,
        float(pool.similarity[teacher, place]),
        pool.bases[teacher] == pool.bases[place],
      )
    )
  return matched_students, lost


def undistilled(pool: Pool, kind: tuple) -> list:
  """Places of the models of an architecture that learned from the true labels alone."""
  return [
    i
    for i, member in enumerate(pool.members)
    if architecture(member) == kind and not is_student(member) and not member["teachers"]
  ]


def subset(distilled: list, which: str) -> list:
  """The students of all, same-base or other-base teachers."""
  wanted = {"all": (True, False), "same base": (True,), "other base": (False,)}[which]
  return [student for student in distilled if student.same_base in wanted]
