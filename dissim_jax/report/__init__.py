"""The report of finished runs: one self-contained page, pictures, and a table for the terminal.

Reads saved files only: no model, no device, no jax.
"""

from dissim_jax import lazy

__getattr__ = lazy.attributes(
  __name__,
  {
    "FIGURE_NAMES": "page",
    "print_seeds": "seeds_page",
    "print_stitches": "stitching_text",
    "print_table": "page",
    "write_report": "page",
    "write_seeds": "seeds_page",
  },
)
