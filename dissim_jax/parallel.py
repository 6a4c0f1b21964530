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

BATCH_AXIS = "batch"


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A one-dimensional mesh over the given devices (all devices by default)."""
  return Mesh(np.array(devices if devices is not None else jax.devices()), (BATCH_AXIS,))


def replicate(tree: Any, mesh: Mesh) -> Any:
  """A copy of every array on every device of the mesh."""
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def example_keys(key: jax.Array, local_size: int) -> jax.Array:
  """One random key for each local example; any number of devices draws the same for an example.

  Must run under the mapped axis.
  """
  keys = jax.random.split(key, local_size * jax.lax.axis_size(BATCH_AXIS))
  return jax.lax.dynamic_slice_in_dim(
    keys, jax.lax.axis_index(BATCH_AXIS) * local_size, local_size
  )


def pmapped(step: Callable, mesh: Mesh) -> Callable:
  """Maps a per-replica training step over the mesh, several steps to one dispatch.

  Args:
    step: `(state, batch, teachers) -> (state, metrics)` for one replica, with `batch` a dict of
      `image` and `label`, collective over `BATCH_AXIS`; metrics are sums.
    mesh: from `make_mesh`.

  Returns:
    `(state, totals, data, indices, teachers) -> (state, totals)`: runs one step for each row of
    `indices` `[steps, batch]` into the resident `data` (images, labels) and adds its metrics to
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
    steps, mesh=mesh, in_specs=(whole, whole, whole, rows, whole), out_specs=(whole, whole)
  )
  return jax.jit(mapped, donate_argnums=(0, 1))
