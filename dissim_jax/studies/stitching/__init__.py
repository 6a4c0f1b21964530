"""Members' lower halves joined to others' upper halves (Csiszárik et al. 2021)."""
