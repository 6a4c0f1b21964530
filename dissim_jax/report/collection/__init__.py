"""The tables and figures of Wald et al. 2023 from the finished runs of a sweep.

Reads saved files only: no model, no device, no jax.
"""

from dissim_jax import lazy

__getattr__ = lazy.attributes(__name__, {"print_tables": "page", "write_tables": "page"})
