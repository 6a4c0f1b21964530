"""What depends on the device, measured by one command; see `benchmarks.device.__main__`."""
