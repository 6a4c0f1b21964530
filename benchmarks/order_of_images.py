"""What the order of images does to minibatch measures, and to a probe of the first images.

  python -m benchmarks.order_of_images --workdir=runs/cifar10_small/seed_0/independent

Measures members 0 and 1 of a run at one tap of both, in batches of 128 test images: in the order
of classes, in the order in which the files are stored, and in the order in which the program takes
them; and in one batch of 2000. The probe is linear, on member 0's last features of 10,000
training images: the first that are stored, or the same part of every class.
"""

import numpy as np
from absl import app, flags, logging

from dissim_jax import command_line

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of two members or more.")
_TAP = flags.DEFINE_integer("tap", -1, "Of both members; -1 is the last one.")

MEASURES = ("lincka", "rsa", "jaccard")
BATCH, WHOLE, PROBED = 128, 2000, 10_000


def orders(labels: np.ndarray, index: np.ndarray) -> dict[str, np.ndarray]:
  """Positions of the examples by name of the order."""
  stored = np.argsort(index)
  return {
    "classes": stored[np.argsort(labels[stored], kind="stable")],
    "as stored": stored,
    "as the program takes them": np.arange(len(labels)),
  }


def main(argv: list[str]) -> None:
  """Prints both tables as Markdown."""
  command_line.no_arguments(argv)
  command_line.require(_WORKDIR)
  logging.set_verbosity(logging.WARNING)
  from dissim_jax.data.examples import balanced_part
  from dissim_jax.members.find import find_members
  from dissim_jax.studies.features import measure as features_measure
  from dissim_jax.studies.similarity import all_pairs, compare
  from dissim_jax.studies.similarity import choice as similarity_choice

  members = find_members([_WORKDIR.value], ("member_0", "member_1"))
  data = compare.load_data(members)
  subjects = compare.load_subjects(members, ["all"])
  place = range(len(subjects[0].taps))[_TAP.value]
  subjects = [compare.load_subjects([each], [str(place)])[0] for each in members]
  chosen = similarity_choice.choose(MEASURES, ())

  print(f"tap {place}, batches of {BATCH}\n\n| order of test images | {' | '.join(MEASURES)} |")
  print(f"|{'---|' * (1 + len(MEASURES))}")
  parts = {
    name: np.array_split(data.test_images[order], -(-len(order) // BATCH))
    for name, order in orders(data.test_labels, data.test_origin.index).items()
  }
  parts[f"one batch of {WHOLE}"] = [data.test_images[balanced_part(data.test_labels, WHOLE)]]
  for name, batches in parts.items():
    arrays = all_pairs.compare(subjects, chosen, batches)
    values = [arrays[f"{measure}/member_0/member_1"].item() for measure in MEASURES]
    print(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |")

  print("\n| probe fitted on | images | classes | test accuracy % |\n|---|---|---|---|")
  labels, count = data.train_labels, min(PROBED, len(data.train_labels) // 5)
  stored = np.argsort(data.train_origin.index)[:count]
  for name, used in (("the first stored", stored), ("every class", balanced_part(labels, count))):
    both = features_measure.standardise(
      *(
        features_measure.last_features(subjects[0].member, images, BATCH)
        for images in (data.train_images[used], data.test_images)
      )
    )
    accuracy = features_measure.linear_accuracy(
      both[0], labels[used], both[1], data.test_labels, regularisation=1.0, max_iter=1000
    )
    print(f"| {name} | {count} | {len(set(labels[used]))} | {100 * accuracy:.1f} |")


if __name__ == "__main__":
  app.run(command_line.guarded(main), flags_parser=command_line.parse)
