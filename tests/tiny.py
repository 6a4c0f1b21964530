"""The smallest networks that have all that tests need: batch norm, taps, two spatial sizes.

Compiling a network takes longer than training it here, and takes as long as it has layers. So
wherever a test needs *some* network it uses one of these. This is also the config file of processes
that tests start, which otherwise would not know them.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from matplotlib.figure import Figure

from dissim_jax.configs import default
from dissim_jax.models import MODELS, Architecture, Design, Layered, variable_shapes, vit
from dissim_jax.models.components import Components
from dissim_jax.models.resnet import Head, Ops, Stem

STRIDES = {  # of blocks
  "stem_alone": (),
  "tiniest": (2,),
  "tiny": (1, 2),
  "tiny_deep": (1, 2, 2),
  "tiny_deeper": (1, 1, 2, 1, 2, 1),
}
NAMES = (*STRIDES, "tiny_vit")


def get_config() -> ml_collections.ConfigDict:
  """The default config with `tiniest`, and few test images in one batch, which compiles once."""
  register()
  config = default.get_config()
  config.model.name = "tiniest"
  config.model.width_multiplier = 0.25
  config.dissim.taps = (1,)
  config.train.batch_size = 20
  config.data.train_per_class, config.data.images_per_class = 150, 10
  config.evaluate.batch_size = 300
  return config


def register() -> None:
  """Adds `tiny`, two smaller ones, two whose taps have the sizes of resnet8's and resnet14's, and a
  vision transformer of one block.
  """
  for name, strides in STRIDES.items():
    build, describe = (functools.partial(make, strides=strides) for make in (tiny, _describe))
    design = Design(build, describe)
    MODELS[name] = Architecture(name=name, label=name, code=design, taps=1 + len(strides))
  transformer = functools.partial(vit.vit, width=48, depth=1, heads=3, position_scale=2.0)
  entry = MODELS["vit_mini"]
  design = Design(transformer, entry.design.describe)
  MODELS["tiny_vit"] = dataclasses.replace(entry, name="tiny_vit", code=design, taps=2)


def drawn(model: Layered, image_shape: tuple[int, ...], seed: int = 0) -> dict:
  """Variables as large as fresh ones, drawn by NumPy: no program is compiled.

  Nothing is at its special initial value, the zero scales at the end of residual blocks above all.
  """
  rng = np.random.default_rng(seed)

  def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    kind, noise = path[-1].key, rng.normal(size=leaf.shape)
    if kind == "kernel":
      value = noise * np.sqrt(2 * leaf.shape[-1] / leaf.size)
    else:
      value = (kind in ("scale", "var")) + 0.2 * np.tanh(noise)
    return value.astype(leaf.dtype)

  return jax.tree.map_with_path(draw, variable_shapes(model, image_shape))


def leave_undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
  """Figures are made but not drawn."""
  monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: file.write(b"drawn"))


class Block(nn.Module):
  """ReLU, a 3x3 convolution and batch norm; no skip connection."""

  features: int
  stride: int
  ops: Ops

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H/stride, W/stride, features]`."""
    return self.ops.norm(train)(self.ops.conv(self.features, 3, self.stride)(nn.relu(x)))


def tiny(
  num_classes: int,
  *,
  strides: tuple[int, ...],
  width_multiplier: float = 1.0,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  stem: int = 32,
) -> Layered:
  """A stem of 16 features, and a block for every stride, which multiplies the features by it."""
  ops, features = Ops(dtype, axis_name), max(1, round(16 * width_multiplier))
  layers: list[nn.Module] = [Stem(features, ops, stem)]
  for stride in strides:
    features *= stride
    layers.append(Block(features, stride, ops))
  names = ("stem", *(f"block {i}" for i in range(1, len(layers))))
  return Layered(tuple(layers), Head(num_classes, ops), names)


def _describe(stem: int, strides: tuple[int, ...]) -> Components:
  return Components(
    "CNN",
    f"conv of {stem}",
    "BN",
    "yes",
    "ReLU",
    width="16",
    depth=str(len(strides) + 2),
    input_resolution=str(stem),
  )
