"""What a finished sequence is like: predictions, similarities, ensembles."""
