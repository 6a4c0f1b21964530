"""What other programs need of a finished run: its config, its data set, its members."""

from pathlib import Path

import ml_collections
from jax.sharding import Mesh

from dissim_jax import members as member_files
from dissim_jax.errors import UserError
from dissim_jax.evaluate.streaming import Member
from dissim_jax.records import read_json


def read_config(workdir: Path, field: str) -> ml_collections.ConfigDict:
  """The config of a run; `field` names who asked, for the error.

  Raises:
    UserError: there is no readable `config.json`.
  """
  path = Path(workdir) / "config.json"
  try:
    values = read_json(path)
  except (OSError, ValueError) as error:
    raise UserError(
      f"{field}: {str(workdir)!r} is not the folder of a run (config.json is missing or damaged)"
    ) from error
  values.pop("command", None)
  return ml_collections.ConfigDict(values)


def load_member(name: str, directory: Path, dtype: str, mesh: Mesh, field: str) -> Member:
  """A finished member, ready to be evaluated.

  Raises:
    UserError: the folder holds no finished member, or one that cannot be read.
  """
  facts = member_files.read_facts(directory, field)
  dtype = member_files.compute_dtype(dtype)
  model, variables = member_files.load_member(directory, facts, dtype, mesh)
  return Member(name, model, variables, tuple(facts["mean"]), tuple(facts["std"]))
