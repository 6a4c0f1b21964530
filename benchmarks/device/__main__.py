"""Everything that depends on the device, by one command: is it right, and how fast is it?

  python -m benchmarks.device --out=device.json
  python -m benchmarks.device --parts=check,members --config=cifar10:lincka
  python -m benchmarks.device --tiny

With random images, on the first device, by the real training step of a config (default:
configs/cifar10_expvar.py). Comparisons come first. Then, part by part, programs are timed in turns
with the first of their table; each is called once before, to be compiled. Every part has its share
of the time; what is left out for lack of it, or fails, is told in its row (the same command again
finds on disk what an accelerator's programs were compiled to, and comes further). Progress on
stderr, the table as Markdown on stdout, all timings in `--out`. Exit code 1 where something failed
or is wrong.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from dissim_jax import command_line
from dissim_jax.errors import UserError
from dissim_jax.names import nearest

# Share of the time at most, in the order of importance.
PARTS = {
  "check": 0.15,
  "members": 0.5,
  "shares": 0.2,
  "cka": 0.05,
  "augment": 0.05,
  "attack": 0.1,
  "joint": 0.12,
  "evaluation": 0.1,
  "corruption": 0.1,
}


def define_flags(values: flags.FlagValues = flags.FLAGS) -> dict[str, flags.FlagHolder]:
  """Defines the flags of this program; by name."""
  holders = (
    command_line.define_config(
      values, "Experiment whose steps are timed. Default: configs/cifar10_expvar.py."
    ),
    command_line.define_several(
      "parts", PARTS, f"What is measured, of {', '.join(PARTS)}.", values
    ),
    command_line.define_several(
      "models", (), "Networks to time. Default: resnet18 and the config's.", values
    ),
    command_line.define_whole("side", 32, "Pixels a side of the images.", values, 8),
    command_line.define_whole("repeats", 5, "Timed calls of each, at most.", values, 1),
    command_line.define_number("seconds", 420, "After these no program is begun.", values, 1),
    flags.DEFINE_bool(
      "tiny",
      False,
      "A small network, a few 8x8 images: whether it runs at all.",
      flag_values=values,
    ),
    flags.DEFINE_string("out", None, "JSON file with all timings.", flag_values=values),
  )
  return {holder.name: holder for holder in holders}


def make_setting(given: dict[str, Any]):
  """What the flags describe."""
  import jax

  from benchmarks.device import setting as settings
  from dissim_jax.configs import cifar10_expvar, digits_expvar
  from dissim_jax.models import MODELS

  tiny = given["tiny"]
  config = given["config"] or (digits_expvar if tiny else cifar10_expvar).get_config()
  models = given["models"] or ["resnet18", config.model.name]
  sizes = settings.CPU if jax.default_backend() == "cpu" else settings.ACCELERATOR
  if tiny:
    sizes, models = settings.TINY, given["models"] or ["resnet8"]
    values = {"model__width_multiplier": 0.25, "train__batch_size": 20}
    config = settings.varied(config, model__name=models[0], dissim__taps=(1,), **values)
  if config.dissim.weight == 0:
    raise UserError("dissim.weight=0: a regularised member is needed")
  for name in [*models, config.model.name]:
    if name not in MODELS:
      raise UserError(f"--models: there is no {name!r}{nearest(name, MODELS)}")
  side = 8 if tiny else given["side"]
  return settings.Setting(config, tuple(dict.fromkeys(models)), side, sizes)


def parts() -> dict[str, tuple[Callable[..., Iterator], Callable[..., str]]]:
  """Of every timed part its cases and what is said below its rows."""
  from benchmarks.device import measuring, training

  def nothing(rows):
    return ""

  return {
    "members": (training.members, nothing),
    "shares": (training.shares, training.share_sentence),
    "cka": (measuring.all_pairs, nothing),
    "augment": (measuring.augmentation, nothing),
    "attack": (measuring.attack, nothing),
    "joint": (training.together, nothing),
    "evaluation": (measuring.evaluation, nothing),
    "corruption": (measuring.corruption, measuring.corruption_sentence),
  }


def measure(
  setting, wanted: Sequence[str], seconds: float, repeats: int, tell: Callable[[str], None]
) -> tuple[list, list, list[str]]:
  """Comparisons, timings and sentences of the parts that are wanted."""
  from benchmarks.device import check, timing

  whole = timing.Budget(seconds)
  checks, rows, sentences = [], [], []
  if "check" in wanted:
    checks = check.run(setting, whole.part(PARTS["check"] * seconds), tell)
  for name, (cases, sentence) in parts().items():
    if name not in wanted:
      continue
    groups = list(cases(setting))
    part = whole.part(PARTS[name] * seconds)
    part_rows = []
    for index, group in enumerate(groups):
      budget = part.part(part.left() / (len(groups) - index))
      part_rows += timing.interleaved(name, group, budget, repeats, tell)
    rows += part_rows
    sentences += [text for text in [sentence(part_rows)] if text]
  return checks, rows, sentences


def main(argv: list[str], holders: dict[str, flags.FlagHolder]) -> None:
  """Measures what the flags describe, prints the tables, and exits with 1 if something failed."""
  command_line.no_arguments(argv)
  given = {name: holder.value for name, holder in holders.items()}
  for name in given["parts"]:
    if name not in PARTS:
      raise UserError(f"--parts: there is no {name!r}{nearest(name, PARTS)}")
  logging.set_verbosity(logging.WARNING)
  command_line.loading()  # Slow to import: not before the flags are right.
  from benchmarks.device import table
  from dissim_jax.distributed import compilation
  from dissim_jax.files.atomic import write_json

  began = time.monotonic()

  def tell(text):
    print(f"[{time.monotonic() - began:5.0f} s] {text}", file=sys.stderr, flush=True)

  if given["out"]:  # Not only after everything is measured.
    Path(given["out"]).parent.mkdir(parents=True, exist_ok=True)
  setting = make_setting(given)
  with compilation.cache():
    checks, rows, sentences = measure(
      setting, given["parts"], given["seconds"], given["repeats"], tell
    )
  facts = table.facts(setting)
  sections = [table.heading(facts, time.monotonic() - began)]
  sections += [table.check_table(checks)] * bool(checks)
  sections += [table.speed_table(rows)] * bool(rows)
  print("\n\n".join([*sections, *sentences]))
  if given["out"]:
    everything = {"facts": facts, "notes": sentences}
    for name, items in (("checks", checks), ("timings", rows)):
      everything[name] = [dataclasses.asdict(item) for item in items]
    write_json(Path(given["out"]), everything)
  if any(item.failed for item in [*checks, *rows]):
    sys.exit(1)


if __name__ == "__main__":
  _HOLDERS = define_flags()
  app.run(command_line.guarded(lambda argv: main(argv, _HOLDERS)), flags_parser=command_line.parse)
