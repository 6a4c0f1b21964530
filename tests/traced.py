"""Networks that are traced and not run: their shapes, with what holds for the dtypes of all."""

import functools

import jax
import jax.numpy as jnp

from dissim_jax.models import MODELS


@functools.cache
def traced(
  name: str,
  stem: int,
  size: tuple[int, int],
  num_classes: int = 10,
  channels: int = 3,
  width: float = 1.0,
) -> tuple[dict, list[tuple[int, ...]]]:
  """Shapes of the variables, and `(H, W, C)` of the taps, of a network in bfloat16.

  Its activations are bfloat16, its parameters, statistics and logits float32.
  """
  model = MODELS[name](num_classes, stem=stem, width_multiplier=width, dtype=jnp.bfloat16)
  image = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
  init = lambda x: model.init_with_output(jax.random.key(0), x)  # noqa: E731
  (logits, taps), variables = jax.eval_shape(init, image)
  assert logits.shape == (2, num_classes) and logits.dtype == jnp.float32
  assert {tap.dtype for tap in taps} == {jnp.dtype("bfloat16")}
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  assert len(taps) == len(model.layers) == len(model.tap_names)
  assert all(tap.ndim == 4 and min(tap.shape) > 0 for tap in taps)
  return variables, [tap.shape[1:] for tap in taps]
