"""The corruptions by name, in the order of tables, with their constants at five severities.

Severity 0 is the image itself and 1 … 5 are the five published levels. Sources of the constants:
`make_cifar_c.py` of Hendrycks & Dietterich 2019 (CIFAR-10-C) and `cifar10_c_bar.csv` of Mintun et
al. 2021 (CIFAR-10-C-bar). Plasma noise and water drop are not part of CIFAR-10-C-bar: their levels
are every second of the ten candidate strengths in `cifar10_new_corruptions.csv`.
"""

import dataclasses
from collections.abc import Mapping

from dissim_jax.registry.entry import Entry

SEVERITIES = (0, 1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corruption(Entry):
  """One corruption; `function` is `(keys, images, severity) -> images`, see `corruptions`.

  Its name decides its random numbers.

  Attributes:
    constants: by name, their values at severities 0 … 5, between which they are interpolated; in
      the order of `corruptions.severities.constants`. Lengths are pixels of a 32x32 image.
    host: whether it runs in NumPy on the host; the others can be jitted.
  """

  constants: Mapping[str, tuple[float, ...]]
  host: bool = False


def _corruption(name, label, module, reference, host=False, **constants) -> Corruption:
  code = f"corruptions.{module}:{name}"
  return Corruption(
    name=name, label=label, code=code, reference=reference, constants=constants, host=host
  )


_MINTUN = "Mintun et al. 2021"
_HENDRYCKS = "Hendrycks & Dietterich 2019"
_ALL = (
  _corruption(
    "plasma_noise", "Plasma noise", "obstructions", _MINTUN, strength=(0, 1.4, 2.8, 4.2, 5.6, 7.0)
  ),
  _corruption(
    "checkerboard_cutout", "Checkerboard", "obstructions", _MINTUN, strength=(0, 1, 2, 3, 4, 5)
  ),
  _corruption(
    "water_drop", "Water drop", "obstructions", _MINTUN, strength=(0, 3.6, 5.2, 6.8, 8.4, 10)
  ),
  _corruption(
    "lines", "Lines", "obstructions", _MINTUN, count=(0, 1, 3, 4, 6, 8)
  ),  # int(32 * strength / 10), strengths 0.5 … 2.5
  _corruption(
    "gaussian_noise",
    "Gaussian noise",
    "noise",
    _HENDRYCKS,
    deviation=(0, 0.04, 0.06, 0.08, 0.09, 0.10),
  ),
  _corruption(
    "shot_noise",
    "Shot noise",
    "noise",
    _HENDRYCKS,
    level_per_photon=(0, 1 / 500, 1 / 250, 1 / 100, 1 / 75, 1 / 50),
  ),
  _corruption(
    "impulse_noise", "Impulse noise", "noise", _HENDRYCKS, share=(0, 0.01, 0.02, 0.03, 0.05, 0.07)
  ),
  _corruption(
    "gaussian_blur",
    "Gaussian blur",
    "blurs",
    _HENDRYCKS,
    deviation=(0.4, 0.4, 0.6, 0.7, 0.8, 1),
    share=(0, 1, 1, 1, 1, 1),
  ),
  _corruption(
    "motion_blur", "Motion blur", "blurs", _HENDRYCKS, deviation=(0, 1, 1.5, 2, 2, 2.5)
  ),  # Radii 6 … 9 cut nothing at 3 and 4.
  _corruption(
    "zoom_blur", "Zoom blur", "blurs", _HENDRYCKS, count=(0, 7, 12, 16, 21, 26)
  ),  # Factors 1, 1.01, …
  _corruption(
    "fog",
    "Fog",
    "light",
    _HENDRYCKS,
    thickness=(0, 0.2, 0.5, 0.75, 1, 1.5),
    decay=(3, 3, 3, 2.5, 2, 1.75),
  ),
  _corruption(
    "brightness", "Brightness", "light", _HENDRYCKS, shift=(0, 0.05, 0.1, 0.15, 0.2, 0.3)
  ),
  _corruption("contrast", "Contrast", "light", _HENDRYCKS, factor=(1, 0.75, 0.5, 0.4, 0.3, 0.15)),
  _corruption(
    "pixelate", "Pixelate", "resolution", _HENDRYCKS, size=(32, 30, 28, 27, 24, 20)
  ),  # int(32 * factor)
  _corruption(
    "jpeg", "JPEG", "resolution", _HENDRYCKS, quality=(100, 80, 65, 58, 50, 40), host=True
  ),
)
CORRUPTIONS: dict[str, Corruption] = {corruption.name: corruption for corruption in _ALL}
