"""What members and ensembles predict: accuracy, shared errors, calibration, diversity."""
