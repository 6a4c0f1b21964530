"""The studies of a run's members, in the order in which they are measured and shown.

A study is a folder in `studies/` and an entry here. In the folder are

* `settings` (no JAX): `FIELDS` of its block of the config; `asked(config)`, the settings that its
  results depend on, or None: not to be done; and, where fields depend on others, `check(config)`;
* `measure`: `measure(context, settings)`, the values and arrays of its files;
* `record` (no JAX): `FILE` and `ARRAYS`, the names of these files in `evaluation/`, and
  `read(results)`, what those of a `RunFiles` hold, or None where there are none;
* `report` (no JAX): `sections(results, record)` of the page, and `PICTURES`, all names of its
  pictures.
"""

import dataclasses
import importlib
from types import ModuleType


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """One study.

  Attributes:
    name: of its folder.
    block: of the config; "" for what is measured of every run.
    own_files: whether it is measured by itself and keeps results of its own kind in a folder of
      its own: it has no `asked`, `FILE` and `ARRAYS`.
  """

  name: str
  block: str
  own_files: bool = False

  def part(self, name: str) -> ModuleType:
    """One module of its folder, imported when it is first used."""
    return importlib.import_module(f"dissim_jax.studies.{self.name}.{name}")


STUDIES: dict[str, Study] = {
  study.name: study
  for study in (
    Study(name="corruption", block="corruption"),
    Study(name="transfer", block="transfer"),
    Study(name="outputs", block=""),
    Study(name="attribution", block="attribution"),
    Study(name="features", block="features"),
    Study(name="stitching", block="stitch", own_files=True),
  )
}
