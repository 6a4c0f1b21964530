"""Pages of what was measured: of a run, of several seeds, of a sweep. No JAX."""
