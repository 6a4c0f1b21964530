"""Attack transfer in a pool of models of any runs (Hwang et al.), and its analysis."""
