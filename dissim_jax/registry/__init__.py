"""Every name that a config or a flag can use: label, direction, where its code is. No JAX."""
