"""Networks that are traced and not run: their shapes, with what holds for the dtypes of all."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from dissim_jax.models import MODELS, Layered, variable_shapes

# Keywords that leave one block of every kind of a family's small variant; others stay as they are.
_SHALLOW = {
  "resnet8": {"depths": (1, 1), "widths": (16, 32)},
  "preact_resnet_mini": {"depths": (1, 1), "widths": (16, 32)},
  "wide_resnet_mini": {"depths": (2, 1), "widths": (24, 48)},
  "resnext_mini": {"depths": (2, 1), "widths": (16, 24)},
  "se_resnet_mini": {"depths": (1, 1), "widths": (16, 32)},
  "vgg_mini": {"stages": ((16, 32), (64,))},
  "densenet_mini": {"blocks": (1, 1)},
  "convmixer_mini": {"depth": 1},
  "convnext_mini": {"depths": (1, 1)},
  "mlp_mixer_mini": {"depth": 1},
  "swin_mini": {"depths": (2, 1)},
  "vit_mini": {"depth": 1},
}


def shallow(name: str, num_classes: int, **fields) -> Layered:
  """A network of a family's small variant, less deep: see `_SHALLOW`."""
  return MODELS[name](num_classes, **_SHALLOW.get(name, {}), **fields)


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

  Its activations are bfloat16, its parameters, statistics and logits float32. That a network is its
  layers one after the other is tested in `test_zoo.py`.
  """
  model = MODELS[name](num_classes, stem=stem, width_multiplier=width, dtype=jnp.bfloat16)
  layers = (*model.layers, model.head)
  assert len({id(layer) for layer in layers}) == len(layers)  # One in two places shares parameters.
  x = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
  taps, variables = [], {"params": {}, "batch_stats": {}}
  for index, layer in enumerate(layers):
    x, own = _traced_layer(layer, x.shape, x.dtype)
    for kind, values in own.items():
      variables[kind]["head" if layer is model.head else f"layers_{index}"] = values
    taps.append(x)
  logits = taps.pop()
  assert logits.shape == (2, num_classes) and logits.dtype == jnp.float32
  assert {tap.dtype for tap in taps} == {jnp.dtype("bfloat16")}
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  assert len(taps) == len(model.tap_names)
  assert all(tap.ndim == 4 and min(tap.shape) > 0 for tap in taps)
  return variables, [tap.shape[1:] for tap in taps]


@functools.cache  # Most blocks of a deep network are equal, and so are those of its relatives.
def _traced_layer(layer: nn.Module, shape: tuple[int, ...], dtype: jnp.dtype):
  """Shapes of the output and of the variables."""
  init = lambda x: layer.init_with_output(jax.random.key(0), x, False)  # noqa: E731
  return jax.eval_shape(init, jax.ShapeDtypeStruct(shape, dtype))


def same_program_when_cut(model: Layered, image_shape: tuple[int, ...]) -> None:
  """Asserts that layer after layer, and cut at its middle tap, a network is the same program."""
  variables = variable_shapes(model, image_shape)
  last = len(model.layers) - 1

  def whole(variables, images):
    return model.apply(variables, images)[0]

  def cut(variables, images):
    z = model.apply(variables, images, last // 2, method="represent")
    return model.apply(variables, z, last // 2, method="classify")

  def by_layer(variables, z):
    for index in range(len(model.layers)):
      z = model.apply(variables, z, method=lambda m, z, i=index: m.layers[i](z, False))
    return model.apply(variables, z, last, method="classify")

  images = jax.ShapeDtypeStruct((3, *image_shape), jnp.float32)
  expected, *others = (str(jax.make_jaxpr(f)(variables, images)) for f in (whole, cut, by_layer))
  assert others == [expected] * 2
