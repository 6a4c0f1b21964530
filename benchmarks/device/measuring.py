"""Augmentation, CKA, attack, corruption, evaluation: what is done beside training."""

import functools
from collections.abc import Iterator, Sequence

import jax

from benchmarks.device import cka
from benchmarks.device.setting import Setting, varied
from benchmarks.device.timing import Case, NotHereError, Row
from dissim_jax.attacks import Attack, perturb
from dissim_jax.corruptions import CORRUPTIONS, corrupt
from dissim_jax.data.augment import augment, normalise
from dissim_jax.members.member import Member, classifier
from dissim_jax.models import init_variables
from dissim_jax.studies.similarity import measure as similarity_measure
from dissim_jax.studies.transfer.attacked import in_unit

SEVERITY = 5
CORRUPTION_BATCH = 500


def augmentation(setting: Setting) -> Iterator[list[Case]]:
  """The config's augmentation by itself, and without its policy."""
  count, config = setting.sizes.augmented, setting.config

  def make(config):
    images = jax.device_put(setting.images[:count])

    @jax.jit
    def run(key, images):
      return augment(jax.random.split(key, count), images, config.augment)

    return lambda: run(jax.random.key(0), images)

  kinds = {
    "without its policy": varied(config, augment__autoaugment="none"),
    f"whole, policy {config.augment.autoaugment}": config,
  }
  yield [
    Case(title, functools.partial(make, variant), count, count, "uint8")
    for title, variant in kinds.items()
  ]


def all_pairs(setting: Setting) -> Iterator[list[Case]]:
  """CKA of all pairs of taps of two networks, from their activations."""
  shapes, batches = setting.sizes.taps, setting.sizes.cka_batches
  data = functools.cache(lambda: cka.activations(batches, 0, shapes, batch=setting.batch))

  def ours():
    on_device = jax.device_put(data())
    return lambda: cka.all_pairs(on_device)

  def theirs():
    package = cka.make_package()
    if package is None:
      raise NotHereError("not installed")
    tensors = package.prepare(data())
    return lambda: package(tensors)

  images = batches * setting.batch
  yield [
    Case(f"{len(shapes)} x {len(shapes)} taps", ours, images, setting.batch, "float32"),
    Case("pytorch-cka", theirs, images, setting.batch, "float32"),
  ]


def attack(setting: Setting) -> Iterator[list[Case]]:
  """PGD, one iteration a dispatch and all in one program."""
  name, config, count = setting.models[0], setting.config.transfer, setting.sizes.attacked
  iterations, batch = setting.sizes.iterations or config.iterations, min(count, setting.batch)
  settings = Attack("pgd", config.epsilon, config.step_size, iterations, config.random_start)

  def make(block):
    network = classifier(member(setting, name, 0))
    images = in_unit(setting.images[:count])

    def run():
      for first in range(0, count, batch):
        rows = slice(first, first + batch)
        perturbed = perturb(
          settings, network, images[rows], setting.labels[rows], steps_per_dispatch=block
        )
      return perturbed

    return run

  kinds = {"one a dispatch": 1, "all in one program": iterations}
  yield [
    Case(
      f"{name}: PGD, {iterations} iterations, {title}",
      functools.partial(make, block),
      count,
      batch,
      setting.dtype,
      iterations * setting.gflop(name) * 2 / 3,
    )
    for title, block in kinds.items()
  ]


def corruption(setting: Setting) -> Iterator[list[Case]]:
  """Every corruption of a test set."""
  count = setting.sizes.corrupted
  batch = min(CORRUPTION_BATCH, count)

  def make(name):
    images = setting.images[:count]
    return lambda: corrupt(name, images, SEVERITY, 0, batch_size=batch)

  yield [
    Case(entry.label + " (host)" * entry.host, functools.partial(make, name), count, batch, "uint8")
    for name, entry in CORRUPTIONS.items()
    if name in (setting.sizes.corruptions or CORRUPTIONS)
  ]


def corruption_sentence(rows: Sequence[Row]) -> str:
  """The time of the whole set."""
  if not all(row.seconds for row in rows):
    return ""
  total = sum(row.images / row.images_per_second for row in rows)
  images = sum(row.images for row in rows)
  return (
    f"All {len(rows)} of {rows[0].images} images: {total:.2f} s, {images / total:,.0f} images/s."
  )


def member(setting: Setting, name: str, seed: int) -> Member:
  """An untrained network: its weights do not change the arithmetic."""
  model = setting.model(name)
  variables = init_variables(model, jax.random.key(seed), setting.image_shape)
  mean, std = tuple(setting.config.data.mean), tuple(setting.config.data.std)
  return Member(f"{name}_{seed}", model, variables, mean, std)


def evaluation(setting: Setting) -> Iterator[list[Case]]:
  """One pass over test images, of two members: predictions, and the similarity of all taps.

  Tracing and fetching the compiled program belong to a pass.
  """
  name, count = setting.config.model.name, setting.sizes.evaluated
  data, batch = setting.config.data, setting.config.evaluate.batch_size
  preprocess = functools.partial(normalise, mean=data.mean, std=data.std)

  def make(work):
    pair = [member(setting, name, seed) for seed in range(2)]
    return lambda: work(pair, setting.images[:count], preprocess, batch)

  kinds = {
    "predictions": similarity_measure.predict,
    "and similarity of all taps": similarity_measure.measure,
  }
  yield [
    Case(
      f"two {name}: {title}",
      functools.partial(make, work),
      count,
      min(batch, count),
      setting.dtype,
      2 * setting.gflop(name) / 3,
    )
    for title, work in kinds.items()
  ]
