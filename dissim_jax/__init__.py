"""Train ensembles of classifiers that represent the data differently, and measure what that buys."""

__version__ = "0.1.0"
