"""Configs as nested values: by dotted field, flat, as JSON gives them back, where two differ."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections


def get(config: Any, field: str) -> Any:
  """The value of a dotted field."""
  for part in field.split("."):
    config = config[part]
  return config


def put(config: Any, field: str, value: Any) -> None:
  """Sets a dotted field."""
  block, _, last = field.rpartition(".")
  (get(config, block) if block else config)[last] = value


def flat(
  values: Mapping[str, Any] | ml_collections.ConfigDict, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
  """(dotted field, value) of everything in nested dicts; an empty block is a value."""
  for name, value in values.items():
    if isinstance(value, Mapping | ml_collections.ConfigDict) and len(value):
      yield from flat(value, f"{prefix}{name}.")
    else:
      yield prefix + name, value


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """A config as JSON gives it back: nested dicts, lists for tuples."""
  return json.loads(json.dumps(config.to_dict()))
