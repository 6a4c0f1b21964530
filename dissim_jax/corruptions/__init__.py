"""Natural corruptions of images, on the device: how a classifier fares when pictures are not clean.

Fifteen corruptions: the four of Mintun et al. 2021 that Rosales et al. 2023 measure ensembles with,
and eleven of Hendrycks & Dietterich 2019. Every function of `CORRUPTIONS` is

  function(keys, images, severity) -> images

  keys: N PRNG keys, typed [N] or raw [N, 2]; an image's random choices follow from its key alone
    and are the same at every severity, so severities can be compared image by image.
  images: uint8 [N, H, W, C], C 1 or 3, square or not. Lengths scale with the shorter side.
  severity: scalar >= 0, may be traced. 0 gives the images bit for bit, 1 … 5 the five published
    levels of CIFAR-10-C and CIFAR-10-C-bar, between them the constants are interpolated, beyond 5
    they stay (see `severities`).
  returns: uint8 [N, H, W, C].
  raises: ValueError for another shape or dtype, when tracing.

They are pure and work under `jit`; `jpeg` alone needs Pillow and runs on the host.

At 32 pixels they differ from the published files in this: other random numbers; levels are rounded
where the published ones are cut off (half a level darker); motion blur is cut at four standard
deviations instead of at ImageMagick's radius, which is further out; pixelate rounds once and not
after rows and again after columns; lines begin and end between pixels. There is none of the others
of CIFAR-10-C: defocus and glass blur, snow, frost, elastic, speckle, spatter, saturate. At other
sizes the constants are still CIFAR-10-C's, not the stronger ones of ImageNet-C.
"""

from dissim_jax.corruptions.apply import (
  check_severity,
  compiled,
  corrupt,
  corrupt_batch,
  example_keys,
  get,
  rows,
)
from dissim_jax.registry.corruptions import CORRUPTIONS, Corruption

__all__ = [
  "CORRUPTIONS",
  "Corruption",
  "check_severity",
  "compiled",
  "corrupt",
  "corrupt_batch",
  "example_keys",
  "get",
  "rows",
]
