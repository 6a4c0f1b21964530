"""The constants of every corruption at its five published severities.

Severity 0 is the image itself and 1 … 5 are the five published levels. Between them each constant
is interpolated linearly; above 5 it stays as it is at 5, because an extrapolated contrast or
JPEG quality soon means nothing.

Sources: `make_cifar_c.py` of Hendrycks & Dietterich 2019 (CIFAR-10-C) and `cifar10_c_bar.csv` of
Mintun et al. 2021 (CIFAR-10-C-bar). Plasma noise and water drop are not part of CIFAR-10-C-bar:
their levels are every second of the ten candidate strengths in `cifar10_new_corruptions.csv`.

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

SEVERITIES = (0, 1, 2, 3, 4, 5)

# Corruption: constant: its values at severities 0 … 5. Lengths are pixels of a 32x32 image.
CONSTANTS = {
  "plasma_noise": {"strength": (0, 1.4, 2.8, 4.2, 5.6, 7.0)},
  "checkerboard_cutout": {"strength": (0, 1, 2, 3, 4, 5)},
  "water_drop": {"strength": (0, 3.6, 5.2, 6.8, 8.4, 10)},
  "lines": {"count": (0, 1, 3, 4, 6, 8)},  # int(32 * strength / 10), strengths 0.5 … 2.5
  "gaussian_noise": {"deviation": (0, 0.04, 0.06, 0.08, 0.09, 0.10)},
  "shot_noise": {"level_per_photon": (0, 1 / 500, 1 / 250, 1 / 100, 1 / 75, 1 / 50)},
  "impulse_noise": {"share": (0, 0.01, 0.02, 0.03, 0.05, 0.07)},
  "gaussian_blur": {"deviation": (0.4, 0.4, 0.6, 0.7, 0.8, 1), "share": (0, 1, 1, 1, 1, 1)},
  "motion_blur": {"deviation": (0, 1, 1.5, 2, 2, 2.5)},  # Radii 6 … 9 cut nothing at 3 and 4.
  "zoom_blur": {"count": (0, 7, 12, 16, 21, 26)},  # Factors 1, 1.01, …
  "fog": {"thickness": (0, 0.2, 0.5, 0.75, 1, 1.5), "decay": (3, 3, 3, 2.5, 2, 1.75)},
  "brightness": {"shift": (0, 0.05, 0.1, 0.15, 0.2, 0.3)},
  "contrast": {"factor": (1, 0.75, 0.5, 0.4, 0.3, 0.15)},
  "pixelate": {"size": (32, 30, 28, 27, 24, 20)},  # int(32 * factor)
  "jpeg": {"quality": (100, 80, 65, 58, 50, 40)},
}


def constants(name: str, severity: jax.Array) -> list[jax.Array]:
  """The constants of a corruption at a severity, float32 scalars in the order of `CONSTANTS`."""
  at = jnp.asarray(severity, jnp.float32)
  return [
    jnp.interp(at, jnp.array(SEVERITIES, jnp.float32), jnp.array(values, jnp.float32))
    for values in CONSTANTS[name].values()
  ]


def largest(name: str, constant: str) -> float:
  """The greatest value that a constant takes, to size arrays with."""
  return max(CONSTANTS[name][constant])
