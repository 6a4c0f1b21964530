"""Files of results: their names, writing them whole, locks, reading them back. No JAX."""
