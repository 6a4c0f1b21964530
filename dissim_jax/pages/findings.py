"""What the numbers say, in plain sentences computed from them."""

import math

from dissim_jax.files import run
from dissim_jax.registry import entry, objectives
from dissim_jax.registry.objectives import BASELINE, DISTILL
from dissim_jax.studies.similarity import at_taps
from dissim_jax.studies.similarity import heat_maps as similarity_maps


def title(results) -> str:
  """E.g. "resnet8 on digits: ExpVar at tap 3 (block 3), λ = 1, seed 0"."""
  models = list(dict.fromkeys(member["model"] for member in results.metrics["members"]))
  text = f"{' + '.join(models)} on {results.metrics['dataset']['name']}: "
  return f"{text}{method(results)}, seed {results.metrics['seed']}"


def method(results) -> str:
  """How members were made different: a penalty at taps, joint objectives, both, or neither."""
  parts = []
  if results.regularised_taps:
    weight = results.metrics["dissim"]["weight"]
    parts.append(f"{run.metric_name(results)} at {results.tap_label()}, λ = {weight:g}")
  joint = list(
    dict.fromkeys(
      results.objective(name) for name in results.members if results.enforces_diversity(name)
    )
  )
  if joint:
    names = " and ".join(map(objectives.objective_name, joint))
    weight = run.objective_weight(results)
    parts.append(f"{names}, trained jointly{weight and f', {weight}'}")
  if any(results.objective(name) == DISTILL for name in results.members):
    share = results.config.get("objective", {}).get("teacher_share")
    parts.append(f"hard-label distillation, teacher's share {share:g}")
  return "; ".join(parts) or "trained without a penalty"


def sentences(results) -> list:
  """The findings: representation, accuracy, errors, and how sure the accuracy is.

  And what training had to say of the experiment.
  """
  texts = [
    representation(results),
    accuracy(results),
    errors(results),
    others(results),
    certainty(results),
  ]
  notes = [f"Note: {note}." for note in results.metrics.get("notes", [])]
  return [*(sentence for sentence in texts if sentence), *notes]


def representation(results) -> str:
  """How predictable the regularised tap is, against pairs that were left alone."""
  rows = {row["relation"]: row for row in at_taps.tap_similarity(results)}
  against, independent = rows.get("against"), rows.get("independent")
  if against is None:
    return ""
  where = "tap" if len(results.regularised_taps) == 1 else "taps"
  parts = []
  for key, name in (("r2", "least-squares R²"), ("lincka", "LinCKA")):
    if math.isnan(against[key]):
      continue
    text = f"the {_whose('dissimilar', against)} {name} is {entry.number(against[key], 2)}"
    if independent is not None and not math.isnan(independent[key]):
      text += f"; the {_whose('independent', independent)} is {entry.number(independent[key], 2)}"
    parts.append(text)
  if not parts:
    return ""
  first = f"At the regularised {where}, {parts[0]} (1 = alike)."
  return " ".join([first, *(f"{part[0].upper()}{part[1:]}." for part in parts[1:])])


def accuracy(results) -> str:
  """Accuracy of the largest ensemble, against the baseline of the same size."""
  name, ours, baseline = _largest(results)
  if ours is None or ours.get("ensemble_accuracy") is None:
    return ""
  share = 100 * ours["ensemble_accuracy"]
  images = results.metrics["dataset"].get("num_test")
  count = f"{images:,} " if images else ""
  text = (
    f"The {name} ensemble of {ours['size']} classifies {entry.number(share, 2)} % of the "
    f"{count}{results.metrics.get('split', 'test')} images correctly"
  )
  if baseline is not None and baseline.get("ensemble_accuracy") is not None:
    other = 100 * baseline["ensemble_accuracy"]
    change = round(share - other, 2)
    points = entry.number(abs(change), 2)
    compared = (
      f"{points} points {'more' if change > 0 else 'less'} than" if change else "as many as"
    )
    text += f", {compared} the {BASELINE} ensemble ({entry.number(other, 2)} %)"
  return f"{text}."


def errors(results) -> str:
  """Error consistency of the largest ensemble, against the baseline."""
  _, ours, baseline = _largest(results)
  values = [None if row is None else row.get("error_consistency") for row in (ours, baseline)]
  if any(value is None or math.isnan(value) for value in values):
    return ""
  consistency, other = (round(value, 2) for value in values)
  word = (
    "as much as" if consistency == other else "less than" if consistency < other else "more than"
  )
  return (
    f"Its members' errors coincide {word} those of the {BASELINE}: error consistency κ is "
    f"{entry.number(consistency, 2)} against {entry.number(other, 2)} (0 = by chance)."
  )


def others(results) -> str:
  """Accuracies of the ensembles besides the one that `accuracy` tells, each of its largest size."""
  largest = _largest(results)[0]
  rows = {
    row["sequence"]: row
    for row in sorted(results.metrics["ensembles"], key=lambda row: row["size"])
  }
  parts = [
    f"{name} {entry.number(100 * rows[name]['ensemble_accuracy'], 2)} %"
    for name in results.sequences
    if name not in (largest, BASELINE)
    and name in rows
    and rows[name].get("ensemble_accuracy") is not None
  ]
  return f"Accuracy of the other ensembles: {', '.join(parts)}." if largest and parts else ""


def certainty(results) -> str:
  """The binomial standard error of an accuracy on this test set: what a difference must beat."""
  _, ours, _ = _largest(results)
  images = results.metrics["dataset"].get("num_test")
  share = None if ours is None else ours.get("ensemble_accuracy")
  if not images or share is None or not 0 <= share <= 1:
    return ""
  error = 100 * math.sqrt(share * (1 - share) / images)
  return (
    f"This is one seed: the standard error of a single accuracy on {images:,} images is "
    f"{entry.number(error, 2)} points."
  )


def _whose(kind, row):
  return f"{kind} pair's" if row["pairs"] == 1 else f"{row['pairs']} {kind} pairs' mean"


def _largest(results):
  """(sequence, its largest ensemble, the baseline's of that size); None where there is none."""
  rows = {(row["sequence"], row["size"]): row for row in results.metrics["ensembles"]}
  others = [name for name in results.sequences if name != BASELINE]
  sizes = {name: max((size for key, size in rows if key == name), default=0) for name in others}
  sizes = {name: size for name, size in sizes.items() if size}
  if not sizes:
    return "", None, None
  name = max(sizes, key=sizes.get)
  return name, rows[name, sizes[name]], rows.get((BASELINE, sizes[name]))


def facts(results) -> str:
  """One line of sizes: data set, epochs, projection."""
  data, dissim = results.metrics["dataset"], results.metrics["dissim"]
  parts = [
    f"{data[key]:,} {name} images"
    for key, name in (
      ("num_train", "training"),
      ("num_validation", "validation"),
      ("num_test", "test"),
    )
    if data.get(key)
  ]
  if data.get("num_classes"):
    parts.append(f"{data['num_classes']} classes")
  count = len(results.members)
  parts.append(f"{count} member{'s' * (count > 1)}")
  if results.regularised_taps and dissim.get("projection"):
    parts.append(f"projection: {str(dissim['projection']).replace('_', ' ')}")
  return " · ".join(parts)


def caption(name, results) -> str:
  """What a figure shows and how to read it."""
  marked = bool(results.regularised_taps)
  if name == "training":
    return (
      "One point an epoch."
      + (
        " Members that were trained jointly share a line: the mean of their cross-entropies "
        "and accuracies, and the accuracy of their ensemble."
        if set(results.curves) - set(results.members)
        else ""
      )
      + (
        " The least-squares R² at the regularised tap checks the similarity the game reads: "
        "a projection that lags behind makes it look too low."
        if marked
        else ""
      )
    )
  if name == "lincka_maps":
    split = results.metrics.get("split", "test")
    return (
      f"Unbiased minibatch LinCKA on {split} images, every tap of one member (x) against "
      "every tap of the other (y), tap 0 at the lower left."
      + (
        " Solid outline: regularised against each other at this tap; dashed: regularised "
        "there, but not against each other."
        if marked
        else ""
      )
      + (
        " Pairs that share no sequence are left out."
        if len(results.pairs) > similarity_maps.MANY_PAIRS
        else ""
      )
    )
  if name == "diagonal":
    return (
      "LinCKA of equal taps; 1 = alike. A sample is an image, or one spatial position of one "
      "image where that is defined."
    )
  return (
    "How well a least-squares fit from one member's tap explains the other's; 1 = fully. "
    "Values below −1 leave the picture."
  )


def environment(results) -> list:
  """(name, value) of versions and hardware, and the seconds the run took."""
  rows = [
    (key.replace("_", " "), str(value)) for key, value in results.metrics["environment"].items()
  ]
  seconds = results.metrics.get("seconds")
  return rows + ([("seconds", entry.number(seconds, 1))] if seconds is not None else [])
