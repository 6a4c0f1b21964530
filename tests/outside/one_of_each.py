"""One addition of each kind."""

import jax.numpy as jnp
import numpy as np

from dissim_jax import plugins
from dissim_jax.corruptions.severities import constants
from dissim_jax.models import Design, Layered, resnet
from dissim_jax.models.components import Components
from dissim_jax.registry import fields


def agreement(z, z_hat, *, scale=1.0):
  """A measure that knows nothing of devices: `exp(-scale * mean squared difference)`."""
  return jnp.exp(-scale * jnp.mean((z - z_hat).astype(jnp.float32) ** 2))


def same_class(classes_a, classes_b):
  """How often two members say the same."""
  return jnp.mean(jnp.asarray(classes_a == classes_b, jnp.float32))


def darker(keys, images, severity):
  """Every pixel darker by a share."""
  (share,) = constants("darker", severity)
  return jnp.round(images * (1 - share)).astype(jnp.uint8)


def build(num_classes, *, width_multiplier=1.0, dtype=jnp.float32, axis_name=None, stem=32):
  """A stem and a head."""
  ops = resnet.Ops(dtype, axis_name)
  layers = (resnet.Stem(max(1, round(16 * width_multiplier)), ops, stem),)
  return Layered(layers, resnet.Head(num_classes, ops), ("first",))


def shift(logits, images, labels, *, epsilon, bounds=(0.0, 1.0), attacked=None, **_):
  """No attack at all, but within the ball."""
  changed = jnp.clip(images - epsilon, *bounds)
  return changed if attacked is None else jnp.where(attacked[:, None, None, None], changed, images)


def stripes(data):
  """Three classes of eight-pixel images."""
  rng = np.random.default_rng(data.split_seed)
  labels = np.arange(90, dtype=np.int32) % 3
  images = rng.integers(0, 100, (90, 8, 8, 1)) + 60 * labels[:, None, None, None]
  images = images.astype(np.uint8)
  return {
    "train_images": images[:60],
    "train_labels": labels[:60],
    "test_images": images[60:],
    "test_labels": labels[60:],
    "class_names": np.array(["low", "middle", "high"]),
  }


plugins.register_measure(
  "agreement",
  agreement,
  label="Agreement of outsiders",
  aligned=True,
  describe="exp of the negative squared distance",
  options={"scale": fields.number(1.0, "of the squared distance", above=True)},
)
plugins.register_metric(
  "same_class",
  same_class,
  of="pair",
  takes=("classes",),
  label="Same class",
  better=-1,
  unit="%",
  tables=("outputs", "diversity"),
  head="same",
)
plugins.register_corruption(
  "darker", darker, constants={"share": (0, 0.1, 0.2, 0.3, 0.4, 0.5)}, label="Darker images"
)
plugins.register_architecture(
  "stem_only",
  Design(
    build,
    lambda stem: Components(
      "CNN",
      f"conv of {stem}",
      "BN",
      "no",
      "ReLU",
      width="16",
      depth="2",
      input_resolution=str(stem),
    ),
  ),
  taps=1,
)
plugins.register_attack("shift", shift, label="Shift of all pixels")
plugins.register_data_set("stripes", stripes, classes=3, images=60)
