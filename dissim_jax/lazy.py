"""Packages that import nothing before it is used: a program says first that it has started."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def attributes(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
  """A `__getattr__` (PEP 562) for the `__init__` of a package.

  Args:
    package: its `__name__`.
    places: by the name of an attribute the module of the package that has it.
  """

  def find(name: str) -> Any:
    if name not in places:
      raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{package}.{places[name]}"), name)

  return find
