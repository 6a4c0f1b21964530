"""Whether a config, its data, its devices and its reused members fit together."""

import itertools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import PartitionSpec

from dissim_jax.data import Dataset, batches
from dissim_jax.distributed import devices as device_lib
from dissim_jax.errors import UserError
from dissim_jax.members import store as member_files
from dissim_jax.members.plan import PlannedMember
from dissim_jax.models import MODELS, matching_tap
from dissim_jax.train import losses


def check_dataset(
  config: ml_collections.ConfigDict, dataset: Dataset, plans: list[PlannedMember]
) -> None:
  """Whether data, batches, devices and reused members fit together."""
  size, devices = config.train.batch_size, jax.device_count()
  if size > len(dataset.train_labels):
    raise UserError(
      f"train.batch_size={size}: there are only {len(dataset.train_labels)} training images"
    )
  if len(dataset.test_labels) < batches.SMALLEST_BATCH:
    raise UserError(
      f"data.name={config.data.name!r}: {len(dataset.test_labels)} test images are too few to "
      f"compare members, at least {batches.SMALLEST_BATCH} are needed"
    )
  if size % devices:
    raise UserError(f"train.batch_size={size}: must be a multiple of the {devices} devices")
  if config.stitch.experiments and config.stitch.batch_size % devices:
    raise UserError(
      f"stitch.batch_size={config.stitch.batch_size}: must be a multiple of the {devices} devices"
    )
  channels = dataset.image_shape[-1]
  for field in ("mean", "std"):
    if len(config.data[field]) != channels:
      raise UserError(
        f"data.{field}={tuple(config.data[field])}: images have {channels} channel(s), one number "
        "each is needed"
      )
  if min(config.data.std) <= 0:
    raise UserError(f"data.std={tuple(config.data.std)}: every number must be above 0")
  if config.corruption.names and channels not in (1, 3):
    raise UserError(f"corruption.names: images have {channels} channels, 1 or 3 can be corrupted")
  expected = member_files.planned_facts(config, dataset, config.model.name)
  for name in dict.fromkeys(plan.model for plan in plans if not plan.reused):
    _check_image_size(name, member_files.planned_facts(config, dataset, name))
  _check_matches(config, plans)
  if config.dissim.weight and any(plan.teachers for plan in plans):
    _check_reduced(config)
  for plan in plans:
    if plan.reused:
      facts = member_files.read_facts(plan.directory, "ensemble.teachers")
      for key in ("num_classes", "image_shape", "mean", "std"):
        if facts[key] != expected[key]:
          raise UserError(
            f"ensemble.teachers: {str(plan.directory)!r} has {key}={facts[key]}, "
            f"but {config.data.name} here has {expected[key]}"
          )


def _check_matches(config: ml_collections.ConfigDict, plans: list[PlannedMember]) -> None:
  """Taps that are matched by name need teachers that have these names."""
  pairs = {(plan.model, teacher.model) for plan in plans for teacher in plan.teachers}
  for (name, other), tap in itertools.product(sorted(pairs), config.dissim.taps):
    try:
      matching_tap(tap, MODELS[name](2), MODELS[other](2), config.dissim.match)
    except ValueError as error:
      raise UserError(
        f"dissim.match={config.dissim.match!r}: tap {tap} of {name} has no counterpart in {other}, "
        f"{error}"
      ) from error


def _check_reduced(config: ml_collections.ConfigDict) -> None:
  """A measure with an `axis_name` must make one number of what all devices have."""
  name = config.dissim.metric
  measure = losses.mean_similarity(
    name, config.dissim.options[name].to_dict(), device_lib.BATCH_AXIS
  )
  mapped = jax.shard_map(
    lambda z, z_hat: measure([z], [[z_hat]]),
    mesh=device_lib.make_mesh(),
    in_specs=PartitionSpec(device_lib.BATCH_AXIS),
    out_specs=PartitionSpec(),
  )
  tap = jax.ShapeDtypeStruct((config.train.batch_size, 2, 2, 4), jnp.float32)
  try:
    jax.eval_shape(mapped, tap, tap)
  except ValueError as error:
    if "out_specs" not in str(error):
      raise
    raise UserError(
      f"dissim.metric={name!r}: every device gets a number of its own: reduce it over axis_name, "
      "as jax.lax.pmean does, or let the function take no axis_name, then it is given what all "
      "devices have"
    ) from error


def _check_image_size(name: str, facts: dict) -> None:
  """Networks without padding need images of some size, those with patches multiples of one."""
  model = member_files.build_model(facts, np.float32)
  image = np.zeros((1, *facts["image_shape"]), np.float32)
  try:
    _, taps = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image))[0]
  except ValueError as error:
    raise UserError(f"model.name={name!r}: {error}") from error
  for index, tap in enumerate(taps):
    if 0 in tap.shape:
      height, width, _ = facts["image_shape"]
      raise UserError(
        f"model.name={name!r}: images of {height}x{width} are too small, nothing is left of them "
        f"at tap {index}"
      )
