"""What several runs of one experiment say, in words."""

import math

from dissim_jax.pages import findings, seeds_means
from dissim_jax.registry import entry
from dissim_jax.registry.objectives import BASELINE


def title(runs) -> str:
  """E.g. "resnet8 on digits: ExpVar at tap 3 (block 3), λ = 1, 3 seeds"."""
  models = dict.fromkeys(member["model"] for member in runs.first.metrics["members"])
  return (
    f"{' + '.join(models)} on {runs.first.metrics['dataset']['name']}: "
    f"{findings.method(runs.first)}, {len(runs.runs)} seeds"
  )


def facts(runs) -> str:
  """Data set, seeds, budget and hardware in a line."""
  config, members = runs.first.config, runs.first.members.values()
  epochs = sorted({member["epochs"] for member in members if member.get("epochs") is not None})
  parts = [findings.facts(runs.first), f"seeds {', '.join(map(str, runs.seeds))}"]
  if epochs:
    parts.append(f"{' or '.join(map(str, epochs))} epochs a member")
  batch = config.get("train", {}).get("batch_size")
  if batch:
    parts.append(f"batches of {batch}")
  devices = dict.fromkeys(_device(run.metrics["environment"]) for run in runs.runs)
  return " · ".join([*parts, *filter(None, devices)])


def _device(environment):
  count, name = environment.get("device_count"), environment.get("device")
  return "" if name is None else f"{count} × {name}" if count else str(name)


def sentences(runs) -> list:
  """For every ensemble the clean accuracy and that under corruption, against the baseline's."""
  texts = []
  bodies = seeds_means.differences(runs)
  size = runs.sizes[-1] if runs.sizes else 0
  for name in runs.sequences if bodies else ():
    if name == BASELINE:
      continue
    accuracy = seeds_means.clean_spread(runs, name, size, "ensemble_accuracy")
    text = (
      f"The {name} ensemble of {size} classifies {_plus_minus(accuracy)} % of the test "
      f"images correctly, {_compared(bodies[0][-1][1][name])}"
    )
    if len(bodies) > 1 and name in bodies[-1][0][1]:
      text += f"; of the corrupted images, {_compared(bodies[-1][0][1][name], long=False)}"
    texts.append(f"{text}.")
  return texts + [f"Means ± standard deviations (n − 1) over {len(runs.runs)} seeds."]


def _plus_minus(value):
  text = entry.number(100 * value.mean, 2)
  return text if math.isnan(value.std) else f"{text} ± {entry.number(100 * value.std, 2)}"


def _compared(value, long=True):
  if math.isnan(value.mean):
    return "which cannot be compared with the baseline"
  word = "more" if value.mean >= 0 else "less"
  points = _plus_minus(value._replace(mean=abs(value.mean)))
  return f"{points} points {word} than the baseline{' of the same seed' if long else ''}"


def environment(runs) -> list:
  """(name, values) of versions and hardware; several where runs differ."""
  rows = {}
  for run in runs.runs:
    for key, value in run.metrics["environment"].items():
      rows.setdefault(key.replace("_", " "), {})[str(value)] = None
  return [(key, " / ".join(values)) for key, values in rows.items()]
