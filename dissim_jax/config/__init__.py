"""The config of an experiment: its fields, files that hold it, checks. No JAX."""
