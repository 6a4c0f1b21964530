"""The constants of every corruption at any severity.

Between the five published levels, which stand in `registry.corruptions`, each constant is
interpolated linearly; above 5 it stays as it is at 5, because an extrapolated contrast or JPEG
quality soon means nothing.

Rosales et al. 2023 name strengths in Mintun et al.'s own unit and use images of 224 pixels: plasma
noise 4.0, checkerboard cutout 4.0, water drop 7.0, lines 1.6. The first three are relative to the
image, so they are severities 2.86, 4.00 and 3.13 here, at any image size. Lines 1.6 there are 35
lines one pixel wide; five of 1/32 of the image cover as much (severity 3.5), but they are wider
and fewer, so accuracies under lines cannot be compared. CIFAR-10-C's constants are milder than
those of ImageNet-C throughout. Zoom factors have no length and are the same at every size; what a
zoom cuts off in whole pixels is that of the image's own size, as in the authors' scripts for images
of 32, 64 and 224 pixels, which differ in the factors alone.
"""

import jax
import jax.numpy as jnp

from dissim_jax.registry.corruptions import CORRUPTIONS, SEVERITIES


def constants(name: str, severity: jax.Array | float) -> list[jax.Array]:
  """The constants of a corruption at a severity, float32 scalars in the order of its entry."""
  at = jnp.asarray(severity, jnp.float32)
  return [
    jnp.interp(at, jnp.array(SEVERITIES, jnp.float32), jnp.array(values, jnp.float32))
    for values in CORRUPTIONS[name].constants.values()
  ]


def largest(name: str, constant: str) -> float:
  """The greatest value that a constant takes, to size arrays with."""
  return max(CORRUPTIONS[name].constants[constant])
