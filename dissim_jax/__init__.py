"""Ensembles of classifiers that represent the data differently, and what that buys."""

from dissim_jax import interrupts

__version__ = "0.1.0"

interrupts.from_command_line()
