"""The training step over all devices.

`jax.pmap` is itself `jax.shard_map` inside `jit` since JAX 0.8 and in maintenance mode, so the
mapping is written with `shard_map` directly: a mesh with one axis, `BATCH_AXIS`, over which the
examples of a batch are spread; everything else is replicated.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dissim_jax.distributed.compilation import step_options

BATCH_AXIS = "batch"


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A one-dimensional mesh over the given devices (all devices by default)."""
  return Mesh(np.array(devices if devices is not None else jax.devices()), (BATCH_AXIS,))


def replicate(tree: Any, mesh: Mesh) -> Any:
  """A copy of every array on every device of the mesh; all processes must hold the same arrays."""
  sharding = NamedSharding(mesh, PartitionSpec())
  if sharding.is_fully_addressable:
    return jax.device_put(tree, sharding)
  return jax.tree.map(lambda x: _place(sharding, np.asarray(x)), local(tree))


def replicated_shapes(shapes: Any, mesh: Mesh) -> Any:
  """Shapes and dtypes of arrays that are to be on every device of the mesh."""
  sharding = NamedSharding(mesh, PartitionSpec())
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)


def local(tree: Any) -> Any:
  """Replicated arrays as arrays of this process alone; others as they are."""

  def local_array(x):
    shared = isinstance(x, jax.Array) and not x.is_fully_addressable
    return x.addressable_data(0) if shared else x

  return jax.tree.map(local_array, tree)


def spread(arrays: Any, rows: np.ndarray, mesh: Mesh) -> tuple[Any, jax.Array]:
  """Puts on every device the examples that it works on, and nothing else.

  Args:
    arrays: a pytree of host arrays `[N, ...]`.
    rows: `[steps, batch]`, the examples of each step.
    mesh: the devices; each takes `batch / devices` neighbouring columns of `rows`.

  Returns:
    The examples, with what belongs to one device together, and rows into what a device has. Only
    the examples of this process's devices are read.
  """
  steps, batch = rows.shape
  share = batch // mesh.size
  order = rows.reshape(steps, mesh.size, share).swapaxes(0, 1).reshape(-1)
  examples = NamedSharding(mesh, PartitionSpec(BATCH_AXIS))

  def put(array):
    shape = (order.size, *array.shape[1:])
    return jax.make_array_from_callback(shape, examples, lambda index: array[order[index[0]]])

  device_rows = np.arange(steps * share, dtype=rows.dtype).reshape(steps, share)
  columns = NamedSharding(mesh, PartitionSpec(None, BATCH_AXIS))
  return jax.tree.map(put, arrays), _place(columns, np.tile(device_rows, (1, mesh.size)))


def _place(sharding: NamedSharding, array: np.ndarray) -> jax.Array:
  return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def make_feed(images: np.ndarray, labels: np.ndarray, mesh: Mesh, *, resident: bool) -> Callable:
  """How the training images of one dispatch reach the devices.

  Args:
    images: uint8 `[N, H, W, C]`.
    labels: `[N, ...]`.
    mesh: the devices.
    resident: whether all images stay on every device. Otherwise those of one dispatch are sent at
      a time, to each device its own; this overlaps with the dispatch before it, which the devices
      work on meanwhile.

  Returns:
    `rows [steps, batch] -> (data, rows)`: images and labels on the devices, and the rows to take
    of them.
  """
  if not resident:
    return lambda rows: spread((images, labels), rows, mesh)
  data = replicate((images, labels), mesh)
  return lambda rows: (data, rows)


def example_keys(key: jax.Array, local_size: int) -> jax.Array:
  """One random key for each local example; any number of devices draws the same for an example.

  Must run under the mapped axis.
  """
  keys = jax.random.split(key, local_size * jax.lax.axis_size(BATCH_AXIS))
  return jax.lax.dynamic_slice_in_dim(keys, jax.lax.axis_index(BATCH_AXIS) * local_size, local_size)


def pmapped(step: Callable, mesh: Mesh, *, resident: bool = True) -> Callable:
  """Maps a per-replica training step over the mesh, several steps to one dispatch.

  Args:
    step: `(state, batch, teachers) -> (state, metrics)` for one replica, with `batch` a dict of
      `image` and `label`, collective over `BATCH_AXIS`; metrics are sums.
    mesh: from `make_mesh`.
    resident: whether every device has all of `data`, or the examples that it works on, as `spread`
      puts them.

  Returns:
    `(state, totals, data, indices, teachers) -> (state, totals)`: runs one step for each row of
    `indices` `[steps, batch]` into `data` (images, labels) and adds its metrics to
    `totals`. `state` and `totals` are donated.
  """

  def steps(state, totals, data, indices, teachers):
    def body(carry, rows):
      state, totals = carry
      batch = {"image": data[0][rows], "label": data[1][rows]}
      state, metrics = step(state, batch, teachers)
      return (state, jax.tree.map(jnp.add, totals, metrics)), None

    # One step needs no loop, which on CPU keeps convolutions on their fast path.
    if indices.shape[0] == 1:
      return body((state, totals), indices[0])[0]
    return jax.lax.scan(body, (state, totals), indices)[0]

  whole, rows = PartitionSpec(), PartitionSpec(None, BATCH_AXIS)
  mapped = jax.shard_map(
    steps,
    mesh=mesh,
    in_specs=(whole, whole, whole if resident else PartitionSpec(BATCH_AXIS), rows, whole),
    out_specs=(whole, whole),
  )
  options = step_options(mesh.devices.flat[0].platform)
  return jax.jit(mapped, donate_argnums=(0, 1), compiler_options=options)
