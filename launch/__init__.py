"""Sweeps: on this machine, on Slurm, on XManager. Installed as `dissim_jax.launch`."""

import sys

if __name__ == "launch":
  # In a checkout these modules have two names. Sweeps of earlier versions import this one, whose
  # classes must be those that the launchers know.
  from dissim_jax.launch import sweep

  sys.modules["launch.sweep"] = sweep
