"""What the tables of the registry are made of: entries, and how their numbers are shown."""

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

_PACKAGE = "dissim_jax"


@functools.cache
def _import(path: str) -> Any:
  module, _, name = path.partition(":")
  return getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)


def load(code: str | Callable[..., Any]) -> Any:
  """What `Entry.code` stands for."""
  return _import(code) if isinstance(code, str) else code


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
  """Something that has a name.

  Attributes:
    name: in configs, on command lines and in files.
    label: in tables and figures.
    code: what it is: an object, or where it is found when it is first used, as
      "similarity.cka:lincka" for `dissim_jax.similarity.cka.lincka`.
    reference: the paper that it is from.
    options: by name, its settings as `registry.fields.Field`s.
  """

  name: str
  label: str
  code: str | Callable[..., Any]
  reference: str = ""
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

  @property
  def function(self) -> Callable[..., Any]:
    """The object itself; its module is imported."""
    return load(self.code)


@dataclasses.dataclass(frozen=True)
class Quantity:
  """How a number is shown.

  Files hold plain numbers. Shares, Cohen's kappas and the Jensen-Shannon divergence (of base 2, so
  at most 1) are shown in percent, differences of shares in points; ratios, which can be infinite,
  losses in nats, coefficients and scores as they are.

  Attributes:
    key: its name in files.
    label: in tables.
    better: +1 if higher is better, -1 if lower is, 0 if neither.
    decimals: that are printed.
    unit: "%" or "points", in which it is shown times 100, or "".
    head: of a narrow column, without unit.
  """

  key: str
  label: str
  better: int = 0
  decimals: int = 3
  unit: str = ""
  head: str = ""

  @property
  def scale(self) -> int:
    """What it is multiplied by to be shown."""
    return 100 if self.unit else 1

  @property
  def title(self) -> str:
    """Label, unit, and an arrow towards the better."""
    unit = f" [{self.unit}]" if self.unit else ""
    arrow = {1: " ↑", -1: " ↓", 0: ""}[self.better]
    return f"{self.label}{unit}{arrow}"

  def shown(self, value: float | None) -> float:
    """A value in its unit at the printed precision; NaN where there is none."""
    value = math.nan if value is None else float(value)
    return round(value * self.scale, self.decimals)

  def text(self, value: float | None) -> str:
    """A value as it is printed, without unit."""
    return number(self.shown(value), self.decimals)


def number(value: float | None, decimals: int = 3) -> str:
  """A number as text: "–" for none or NaN, "∞" for infinity."""
  if value is None or math.isnan(value):
    return "–"
  if math.isinf(value):
    return "∞" if value > 0 else "−∞"
  return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")  # + 0.0: no "−0.000"
