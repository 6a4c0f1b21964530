"""The corruptions by name, in the order of tables."""

import dataclasses
from collections.abc import Callable

import jax

from dissim_jax.corruptions import blurs, light, noise, obstructions, resolution


@dataclasses.dataclass(frozen=True)
class Corruption:
  """One corruption.

  Attributes:
    name: in configs and files.
    title: in tables and figures.
    function: `(keys, images, severity) -> images`, see `dissim_jax.corruptions`.
    reference: the paper that it is from.
    host: whether it runs in NumPy on the host; the others can be jitted.
  """

  name: str
  title: str
  function: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  reference: str
  host: bool = False


_MINTUN = "Mintun et al. 2021"
_HENDRYCKS = "Hendrycks & Dietterich 2019"
_ALL = (
  Corruption("plasma_noise", "Plasma noise", obstructions.plasma_noise, _MINTUN),
  Corruption("checkerboard_cutout", "Checkerboard", obstructions.checkerboard_cutout, _MINTUN),
  Corruption("water_drop", "Water drop", obstructions.water_drop, _MINTUN),
  Corruption("lines", "Lines", obstructions.lines, _MINTUN),
  Corruption("gaussian_noise", "Gaussian noise", noise.gaussian_noise, _HENDRYCKS),
  Corruption("shot_noise", "Shot noise", noise.shot_noise, _HENDRYCKS),
  Corruption("impulse_noise", "Impulse noise", noise.impulse_noise, _HENDRYCKS),
  Corruption("gaussian_blur", "Gaussian blur", blurs.gaussian_blur, _HENDRYCKS),
  Corruption("motion_blur", "Motion blur", blurs.motion_blur, _HENDRYCKS),
  Corruption("zoom_blur", "Zoom blur", blurs.zoom_blur, _HENDRYCKS),
  Corruption("fog", "Fog", light.fog, _HENDRYCKS),
  Corruption("brightness", "Brightness", light.brightness, _HENDRYCKS),
  Corruption("contrast", "Contrast", light.contrast, _HENDRYCKS),
  Corruption("pixelate", "Pixelate", resolution.pixelate, _HENDRYCKS),
  Corruption("jpeg", "JPEG", resolution.jpeg, _HENDRYCKS, host=True),
)
CORRUPTIONS = {corruption.name: corruption for corruption in _ALL}
