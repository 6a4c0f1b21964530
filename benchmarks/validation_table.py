"""What pairs of a sweep say on validation images alone: the table that chooses taps and weights.

  python -m benchmarks.validation_table --root=runs/cifar10_small_choice

One line a finished run, of its members 0 and 1. Reads the logits of the validation images in each
run's `predictions.npz`; nothing of the test images is looked at.
"""

from pathlib import Path

import numpy as np
from absl import app, flags

from dissim_jax import command_line, metrics
from dissim_jax.errors import UserError

_ROOT = flags.DEFINE_string("root", None, "Folder that the runs are in.")

HEADS = ("run", "member 1 %", "error consistency", "label kappa", "ensemble %")


def row(path: Path) -> tuple[float, ...]:
  """Accuracy of member 1, error consistency, label kappa and accuracy of both together."""
  with np.load(path, allow_pickle=False) as arrays:
    if "validation_logits" not in arrays:
      raise UserError(f"{str(path)!r}: the run held out no validation images")
    logits, labels = arrays["validation_logits"][:2], arrays["validation_labels"]
  one, two = logits.argmax(-1).astype(np.int32)
  together = metrics.ensemble_probabilities(logits, "probs")
  return (
    100 * float(metrics.accuracy(logits[1], labels)),
    float(metrics.error_consistency(one, two, labels)),
    float(metrics.cohens_kappa_label(one, two, labels)),
    100 * float(metrics.accuracy(together, labels)),
  )


def main(argv: list[str]) -> None:
  """Prints the table as Markdown."""
  command_line.no_arguments(argv)
  command_line.require(_ROOT)
  root = Path(_ROOT.value)
  paths = sorted(root.glob("**/evaluation/predictions.npz"))
  if not paths:
    raise UserError(f"--root={str(root)!r}: no run below it has predictions")
  print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
  for path in paths:
    values = row(path)
    cells = (f"{values[0]:.2f}", f"{values[1]:.3f}", f"{values[2]:.3f}", f"{values[3]:.2f}")
    print(f"| {path.parent.parent.relative_to(root)} | {' | '.join(cells)} |")


if __name__ == "__main__":
  app.run(command_line.guarded(main), flags_parser=command_line.parse)
