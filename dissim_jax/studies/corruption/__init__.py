"""Members and ensembles on corrupted test images (Rosales et al. 2023, sections 3.3 and 4)."""
