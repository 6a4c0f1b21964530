"""Which pixels a score depends on, and how much members differ in that: see `maps`."""

from dissim_jax.attribution.maps import (
  attribution_diversity,
  attribution_variance,
  completeness_error,
  integrated_gradients,
  midpoints,
  normalise_maps,
  path_gradients,
  saliency,
)

__all__ = [
  "attribution_diversity",
  "attribution_variance",
  "completeness_error",
  "integrated_gradients",
  "midpoints",
  "normalise_maps",
  "path_gradients",
  "saliency",
]
