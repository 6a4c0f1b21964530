"""Whether attacks on one member fool the others (Hwang et al., section 2)."""
