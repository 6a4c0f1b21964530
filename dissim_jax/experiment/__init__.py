"""A whole experiment: `run` trains and measures it, `train` only trains."""

from dissim_jax.experiment.runner import run, train

__all__ = ["run", "train"]
