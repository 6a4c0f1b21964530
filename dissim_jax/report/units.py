"""The unit of every measure: one wherever it is shown, on pages, in files and in a terminal.

The files of a run hold plain numbers. Shares, Cohen's kappas and the Jensen-Shannon divergence (of
base 2, so at most 1) are shown in percent, differences of shares in points. What is not named here
is shown as it is: ratios such as the error disagreement ratio, which can be infinite, losses in
nats, coefficients, scores.
"""

_PERCENT = (
  "accuracy",
  "all_wrong_fraction",
  "attacked",
  "cohens_kappa_label",
  "conversion_rate",
  "double_fault",
  "ece",
  "ensemble_accuracy",
  "ensemble_expected_calibration_error",
  "error_consistency",
  "error_inconsistency",
  "error_reduction_rate",
  "expected_calibration_error",
  "fooled",
  "jensen_shannon_divergence",
  "label_disagreement",
  "member_accuracy",
  "members",
)
_POINTS = ("difference", "gain", "gain_over_best")
UNITS = dict.fromkeys(_PERCENT, "%") | dict.fromkeys(_POINTS, "points")


def unit(key: str) -> str:
  """What a measure is shown in: "%", "points", or "" as it is."""
  return UNITS.get(key, "")


def scale(key: str) -> int:
  """What a measure is multiplied by to be shown."""
  return 100 if key in UNITS else 1
