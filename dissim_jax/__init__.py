"""Ensembles of classifiers that represent the data differently, and what that buys."""

__version__ = "0.1.0"
