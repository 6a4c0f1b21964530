"""Data sets as plain uint8 arrays: everything fits in memory, nothing here needs JAX."""

from dissim_jax.data.sources import Dataset, load

__all__ = ["Dataset", "load"]
