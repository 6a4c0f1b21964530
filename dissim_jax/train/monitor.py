"""What is measured after an epoch besides the sums of the training steps.

The game's own value is what the member and the projection see of each other; a learned projection
that lags behind makes it look better than it is. So the least-squares R^2 of the regularised taps
is measured beside it, on images without augmentation.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.models import Layered
from dissim_jax.similarity import merge_moments, moments, r2_from_moments
from dissim_jax.train.penalty import Penalty, teacher_taps
from dissim_jax.train.projections import concatenated

Monitor = Callable[[Any, tuple[Any, ...]], dict[str, float]]


def make_monitor(
  model: Layered,
  penalty: Penalty | None,
  preprocess: Callable[[jax.Array], jax.Array],
  images: np.ndarray,
  labels: np.ndarray,
  batch_size: int,
  validation: bool,
) -> Monitor:
  """`(variables, teachers) -> numbers` on fixed images, in eval mode.

  Returns `r2_least_squares` (a fresh affine fit of the member's regularised taps from the earlier
  members', mean over taps) with a penalty, and `validation_accuracy` where `validation` says that
  the images were held out from training. Neither chooses anything: they are only shown.
  """
  if penalty is None and not validation:
    return lambda variables, teachers: {}
  parts = max(1, -(-len(labels) // batch_size))
  batches = list(zip(np.array_split(images, parts), np.array_split(labels, parts), strict=True))

  @jax.jit
  def measure(variables, teachers, images, labels):
    images = preprocess(images)
    logits, taps = model.apply(variables, images)
    # What is not returned is not computed: without held-out images nothing after the last tap.
    correct = jnp.sum(jnp.argmax(logits, -1) == labels) if validation else None
    if penalty is None:
      return correct, []
    targets = [taps[tap] for tap in penalty.taps]
    sources = teacher_taps(penalty, teachers, images, targets)
    return correct, [
      moments(concatenated(source), target).exact
      for source, target in zip(sources, targets, strict=True)
    ]

  merge = jax.jit(lambda a, b: [merge_moments(x, y) for x, y in zip(a, b, strict=True)])
  r2 = jax.jit(lambda all_moments: jnp.mean(jnp.stack([r2_from_moments(m) for m in all_moments])))

  def monitor(variables, teachers):
    results = [measure(variables, teachers, *batch) for batch in batches]
    numbers = {}
    if validation:
      numbers["validation_accuracy"] = sum(int(c) for c, _ in results) / len(labels)
    if penalty is not None:
      total = results[0][1]
      for _, batch_moments in results[1:]:
        total = merge(total, batch_moments)
      numbers["r2_least_squares"] = float(r2(total))
    return numbers

  return monitor
