"""The block `stitch` of a config."""

import ml_collections

from dissim_jax.config.ensemble import member_names, model_names
from dissim_jax.errors import UserError
from dissim_jax.names import listed
from dissim_jax.registry.architectures import fewest_taps
from dissim_jax.registry.checks import check_name
from dissim_jax.registry.fields import (
  WIDEST,
  anything,
  are,
  are_names,
  flag,
  is_number,
  is_whole,
  name,
  number,
  several,
  whole,
)
from dissim_jax.registry.stitching import EXPERIMENTS, LABELS, STARTS

FIELDS = {
  "experiments": several((), "experiments, or all", are_names(EXPERIMENTS, "all"), of_texts=True),
  "pairs": several(
    (), '"source:target"; () = the first member to every other', anything, of_texts=True
  ),
  "taps": several((), "where to join; () = every tap", are(is_whole(0), unique=True)),
  "resize": flag(False, "whether a source tap of another spatial size is resized"),
  "ridge": number(0.0, "of least squares: fraction of the mean channel variance"),
  "labels": name(
    "soft", "task loss aims at the target's probabilities, or hard: at labels", LABELS
  ),
  "start": name("least_squares", "of task loss", STARTS),
  "epochs": whole(30, "passes over the training images, for each stitch", 1),
  "batch_size": whole(128, "images, over all devices", 1),
  "learning_rate": number(1e-3, "of Adam"),
  "decay_epochs": several(
    (10, 20), "after these the learning rate is divided by ten", are(is_whole(1), unique=True)
  ),
  "steps_per_dispatch": whole(0, "steps sent to the device at once; 0 = by platform"),
  "widths": several(
    (),
    "experiment width: width multipliers beside model.width_multiplier",
    are(is_number(0, WIDEST, above=True), unique=True),
  ),
  "cka_weight": number(1.0, "experiment low_cka: weight of the CKA in the loss"),
  "starts": whole(5, "experiments initialisation, connectivity: starts of each kind", 1),
  "connected_points": whole(9, "experiment connectivity: points from one to the other", 2),
  "connected_accuracy": number(0.8, "least relative accuracy of a solution that is used"),
  "l1_direct": several(
    (0.001, 0.003, 0.01, 0.03, 0.1), "shares of what makes all zero", are(is_number(0), unique=True)
  ),
  "l1_task": several(
    (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "weights of the sum of |entries|",
    are(is_number(0), unique=True),
  ),
  "ranks": several((4, 8, 16), "experiment low_rank", are(is_whole(1), unique=True)),
}


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UserError for a pair or a tap that members do not have."""
  members = member_names(config)
  for pair in listed(config.stitch.pairs):
    if len(pair.split(":")) != 2:
      raise UserError(f"stitch.pairs={pair!r}: must be source:target, such as member_0:member_1")
    for member in pair.split(":"):
      check_name("stitch.pairs", member, members)
  name, last = fewest_taps(model_names(config))
  for tap in config.stitch.taps:
    if tap > last:
      raise UserError(f"stitch.taps={tap!r}: {name} has taps 0..{last}")
