"""The tables and figures of Wald et al. 2023 from the finished runs of a sweep.

Reads saved files only: no model, no device, no jax.
"""

from dissim_jax.report.collection.page import print_tables, write_tables

__all__ = ["print_tables", "write_tables"]
