"""Training: the step of one member and of several together, the min-max game, the loop."""
