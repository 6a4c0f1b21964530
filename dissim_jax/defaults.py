"""What a config of an earlier version lacks: a field that is newer has its default."""

import copy
import functools
import json
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FILE = Path(__file__).resolve().parents[1] / "configs" / "default.py"


@functools.cache
def _defaults() -> dict[str, Any]:
  """The fields of `configs/default.py`, as JSON gives them back.

  None where the package is installed without that folder.
  """
  if not _FILE.is_file():
    return {}
  return json.loads(json.dumps(runpy.run_path(str(_FILE))["get_config"]().to_dict()))


def complete(values: Mapping[str, Any]) -> dict[str, Any]:
  """A config as nested dict, with the default of every field that it lacks.

  Runs of different versions can so be compared field by field: `config.json` has the fields of the
  version that wrote it.
  """
  return _merged(_defaults(), values)


def _merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
  merged = copy.deepcopy(dict(base))
  for name, value in values.items():
    both = isinstance(value, Mapping) and isinstance(base.get(name), Mapping)
    merged[name] = _merged(base[name], value) if both else value
  return merged
