"""Which pixels members decide by (Rosales et al. 2023, section 3.2)."""
