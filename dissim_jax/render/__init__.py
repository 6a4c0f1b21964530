"""How results look: tables, text, pictures and pages, in HTML, LaTeX and a terminal. No JAX."""
