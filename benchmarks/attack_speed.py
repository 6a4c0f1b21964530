"""Images a second under attack, and the same by a Python loop over steps that are not compiled.

  python -m benchmarks.attack_speed --images=1000 --iterations=50

PGD on a ResNet20 of random weights (which do not change the arithmetic) and random 32x32 colour
images. The plain loop dispatches every operation of a step by itself; it takes a batch of
`--plain_images` and `--plain_iterations` steps, and its speed is scaled to all iterations. Each
first does one batch that is not timed. Prints both speeds and, as the last line, the ratio.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax.tree_util import Partial

from dissim_jax.attack_step import Iterate, attack_step
from dissim_jax.attacks import Attack
from dissim_jax.evaluate.attacked import attack_member, classifier
from dissim_jax.evaluate.streaming import Member
from dissim_jax.models import MODELS, init_variables

_MODEL = flags.DEFINE_string("model", "resnet20", "Architecture under attack.")
_IMAGES = flags.DEFINE_integer("images", 1000, "Images to attack.", lower_bound=1)
_SIDE = flags.DEFINE_integer("side", 32, "Pixels of a side.", lower_bound=1)
_ITERATIONS = flags.DEFINE_integer("iterations", 50, "Iterations of the attack.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_size", 128, "Images at once.", lower_bound=1)
_PLAIN_IMAGES = flags.DEFINE_integer("plain_images", 128, "Images of the plain loop.",
                                     lower_bound=1)
_PLAIN_ITERATIONS = flags.DEFINE_integer("plain_iterations", 5, "Its iterations.", lower_bound=1)


def seconds(work: Callable[[], object]) -> float:
  """Wall clock of one call."""
  began = time.perf_counter()
  jax.block_until_ready(work())
  return time.perf_counter() - began


def plain_loop(
  network: Partial, images: np.ndarray, labels: np.ndarray, attack: Attack
) -> jax.Array:
  """The iterations of PGD, none of them compiled."""
  clean, labels = jnp.asarray(images), jnp.asarray(labels)
  at = Iterate(clean)
  for _ in range(attack.iterations):
    at = attack_step(network, at, clean, labels, epsilon=attack.epsilon,
                     step_size=attack.step_size)  # fmt: skip
  return at.images


def main(_):
  shape, rng = (_SIDE.value, _SIDE.value, 3), np.random.default_rng(0)
  images = rng.random((_IMAGES.value, *shape), np.float32)
  labels = rng.integers(0, 10, len(images))
  model = MODELS[_MODEL.value](10)
  variables = init_variables(model, jax.random.key(0), shape)
  network = classifier(Member(_MODEL.value, model, variables, (0.5,) * 3, (0.5,) * 3))
  attack, size = Attack(iterations=_ITERATIONS.value), min(_BATCH.value, len(images))
  run = functools.partial(attack_member, network, attack=attack, batch_size=size)
  one = dataclasses.replace(attack, iterations=1)
  first = seconds(lambda: attack_member(network, images[:size], labels[:size], one, size))
  ours = len(images) / seconds(lambda: run(images, labels))
  few = min(_PLAIN_IMAGES.value, len(images))
  short = dataclasses.replace(attack, iterations=_PLAIN_ITERATIONS.value)
  plain_loop(network, images[:few], labels[:few], one)
  took = seconds(lambda: plain_loop(network, images[:few], labels[:few], short))
  plain = few / (took * attack.iterations / short.iterations)
  print(f"{_MODEL.value}, {_SIDE.value}x{_SIDE.value}x3, {attack.iterations} iterations, "
        f"{jax.devices()[0].device_kind} ({os.cpu_count()} CPU cores)")  # fmt: skip
  print(f"compiled: {ours:.2f} images/s ({len(images)} images; first batch {first:.1f} s)")
  print(f"plain loop: {plain:.2f} images/s ({few} images, {short.iterations} iterations, scaled)")
  print(f"ratio: {ours / plain:.1f}")


if __name__ == "__main__":
  app.run(main)
