"""The default of every field of an experiment; other configs start from this one.

`dissim_jax/config/blocks.py` lists the fields, each with its meaning, unit and range.
"""

from dissim_jax.config import blocks


def get_config():
  """All fields, each at its default."""
  return blocks.config()
