"""Configs of experiments, a file each: `--config=digits_expvar` wherever one stands."""
