"""The values that Wald et al. 2023 print, Tables 1 to 5, and when ours may stand beside them.

Table 1 is a part of Table 5. All are percentages, mean ± standard deviation over five seeds; what
is a plain ratio here (EDR) is made one by `lookup`.
"""

from dissim_jax.pages.sweep.rows import BASELINE_KEY, Group, Key, Row
from dissim_jax.registry import metrics

SEEDS = 5
# What every run must have, dotted fields of `configs/cifar10_expvar.py`.
SETTINGS = {
  "data.name": "cifar10",
  "data.validation": 10_000,
  "data.mean": [0.4914, 0.4822, 0.4465],
  "data.std": [0.2023, 0.1994, 0.2010],
  "augment.crop_padding": 4,
  "augment.crop_fill": 128,
  "augment.flip": True,
  "augment.autoaugment": "cifar10",
  "augment.autoaugment_fill": 128,
  "augment.cutout": 16,
  "augment.cutout_fill": 0,
  "model.name": "resnet34",
  "model.width_multiplier": 1.0,
  "ensemble.models": [],
  "objective.name": "sequential",
  "dissim.projection.name": "learned",
  "dissim.projection.inner_steps": 1,
  "model.stem": 0,
  "model.patch_size": 0,
  "dissim.projection.optimizer.name": None,
  "dissim.projection.optimizer.warmup_epochs": None,
  "dissim.projection.optimizer.b2": None,
  "dissim.projection.optimizer.learning_rate": None,
  "dissim.projection.optimizer.momentum": None,
  "dissim.projection.optimizer.nesterov": None,
  "dissim.projection.optimizer.weight_decay": None,
  "dissim.warmup_start_epoch": 0,
  "dissim.warmup_steps": 0,
  "optimizer.name": "sgd",
  "optimizer.warmup_epochs": 0.0,
  "optimizer.learning_rate": 0.1,
  "optimizer.momentum": 0.9,
  "optimizer.nesterov": True,
  "optimizer.weight_decay": 5e-4,
  "train.batch_size": 128,
  "train.epochs": 250,
  "evaluate.ensemble_rule": "probs",
}

# Table 5: tap (- is the baseline), then mean and standard deviation of 2, 3, 4 and 5 models.
_SEQUENCES = {
  "ensemble_accuracy": """
    -   95.438 0.087  95.730 0.082  95.880 0.073  95.936 0.081
    1   95.580 0.189  95.914 0.039  96.014 0.048  96.130 0.042
    3   95.543 0.147  95.877 0.118  95.968 0.112  95.975 0.038
    8   95.570 0.010  95.897 0.006  96.050 0.092  96.103 0.025
    13  95.748 0.114  95.906 0.113  95.970 0.029  96.034 0.076""",
  "member_accuracy": """
    -   94.708 0.223  94.828 0.165  94.918 0.163  94.898 0.134
    1   94.426 0.292  94.810 0.079  94.942 0.100  94.896 0.302
    3   94.325 0.254  94.903 0.043  94.875 0.186  94.832 0.163
    8   94.403 0.146  94.733 0.377  94.707 0.095  94.770 0.425
    13  94.608 0.304  94.772 0.173  94.828 0.278  94.636 0.204""",
  "cohens_kappa_label": """
    -   52.045 0.707  51.852 1.417  51.478 1.226  51.588 1.113
    1   45.636 1.696  47.153 1.162  48.052 0.683  48.377 1.035
    3   45.472 1.844  46.818 0.931  48.125 0.498  48.601 0.542
    8   45.358 0.839  46.438 0.801  46.838 1.217  46.776 1.590
    13  44.361 0.803  46.771 0.708  48.169 0.772  48.692 0.327""",
  "jensen_shannon_divergence": """
    -   2.688 0.037  2.698 0.038  2.692 0.014  2.672 0.026
    1   3.268 0.113  3.146 0.153  3.030 0.087  2.992 0.106
    3   3.386 0.227  3.160 0.157  3.036 0.113  2.978 0.096
    8   3.501 0.155  3.290 0.183  3.204 0.207  3.164 0.270
    13  3.500 0.141  3.253 0.104  3.115 0.088  3.034 0.080""",
  "error_disagreement_ratio": """
    -   31.596 4.426  31.117 2.883  30.907 0.827  31.154 1.536
    1   36.085 4.440  34.867 2.334  34.105 0.374  33.454 1.368
    3   37.314 3.921  36.548 1.820  34.816 1.918  34.583 1.803
    8   37.817 1.288  35.971 0.716  34.529 0.765  34.157 1.554
    13  34.944 5.814  33.559 2.560  33.154 2.072  32.831 1.691""",
}
_PAIR_MEASURES = (
  "ensemble_accuracy",
  "member_accuracy",
  "cohens_kappa_label",
  "jensen_shannon_divergence",
  "error_disagreement_ratio",
)
# Tables 2 to 4: tap, lambda, then mean and standard deviation of these measures. In Table 3 the
# deviations of kappa cannot be read in the printed text (?): digits of theirs stand in the means.
_PAIRS = {
  "expvar": """
    1  0.25  95.590 0.154  94.866 0.198  48.006 1.237  2.887 0.088  33.113 3.534
    1  1     95.584 0.191  94.404 0.366  44.961 2.389  3.412 0.263  36.627 5.932
    1  4     95.536 0.091  93.716 1.561  41.594 7.017  4.113 1.495  46.085 11.372
    3  0.25  95.286 0.180  94.036 0.384  47.923 3.376  3.187 0.346  35.620 5.063
    3  1     95.512 0.149  94.194 0.283  44.867 1.541  3.389 0.135  40.767 5.076
    3  4     95.408 0.166  94.244 0.461  46.050 1.636  3.304 0.162  37.850 2.064
    8  0.25  95.552 0.126  94.838 0.239  48.798 1.321  2.823 0.019  35.708 2.977
    8  1     95.586 0.220  94.336 0.254  43.303 1.521  3.584 0.060  42.741 3.601
    8  4     95.656 0.188  94.240 0.310  42.671 0.769  3.756 0.196  38.315 2.720
    13 0.25  95.454 0.139  94.698 0.165  48.873 1.717  2.865 0.077  32.910 0.984
    13 1     95.482 0.280  93.574 1.132  40.243 4.897  4.519 1.412  43.949 7.067
    13 4     95.268 0.125  93.742 0.335  43.711 0.620  3.747 0.180  40.178 3.466""",
  "lincka": """
    1  0.25  95.656 0.143  94.660 0.256  47.593 0.933  3.170 0.212  32.005 2.659
    1  1     95.538 0.153  94.534 0.146  46.511 ?      3.336 0.391  32.972 3.915
    1  4     95.585 0.093  94.450 0.261  46.532 ?      3.336 0.218  32.477 5.028
    3  0.25  95.536 0.194  94.838 0.302  51.064 ?      2.740 0.084  33.170 3.865
    3  1     95.564 0.059  94.832 0.069  49.281 ?      2.858 0.173  28.752 3.523
    3  4     95.590 0.131  94.852 0.084  48.930 ?      2.893 0.057  35.783 3.018
    8  0.25  95.520 0.172  94.916 0.305  49.681 ?      2.840 0.149  29.145 4.743
    8  1     95.654 0.184  94.950 0.465  49.399 ?      2.843 0.203  33.563 1.808
    8  4     95.604 0.201  94.816 0.234  47.883 ?      2.982 0.153  34.566 4.494
    13 0.25  95.512 0.115  94.838 0.223  51.030 ?      2.708 0.124  29.956 1.436
    13 1     95.490 0.148  94.676 0.132  49.758 ?      2.832 0.125  34.973 2.744
    13 4     95.560 0.062  94.720 0.190  49.935 ?      2.854 0.136  33.426 4.583""",
  "l2corr": """
    1  0.25  94.878 0.236  84.932 3.072   20.040 5.378   12.277 3.154   78.008 12.239
    1  1     95.280 0.372  70.014 24.841  20.176 26.374  27.264 24.040  125.746 91.014
    1  4     94.770 0.138  36.706 37.475  1.727 9.740    51.226 28.757  358.925 221.863
    3  0.25  95.580 0.306  94.492 0.811   46.383 3.550   3.291 0.675    35.765 8.759
    3  1     95.636 0.131  94.660 0.453   46.918 1.769   3.205 0.337    34.898 5.420
    3  4     95.346 0.595  75.138 37.168  31.375 24.993  19.251 29.950  133.428 197.775
    8  0.25  95.652 0.088  94.920 0.135   48.895 2.401   2.877 0.098    36.460 3.253
    8  1     95.638 0.173  94.864 0.192   47.767 1.476   2.976 0.119    33.190 2.801
    8  4     95.684 0.142  94.854 0.157   48.318 2.705   3.015 0.145    32.675 0.037
    13 0.25  95.532 0.163  94.718 0.175   50.558 1.417   2.768 0.080    33.224 2.386
    13 1     95.512 0.155  94.684 0.312   49.418 0.510   2.829 0.081    37.031 3.395
    13 4     95.322 0.094  93.846 0.281   47.663 1.640   3.329 0.180    39.130 4.778""",
}


def _numbers(words: list) -> list:
  """[(mean, standard deviation or None)] of a line's words."""
  values = [None if word == "?" else float(word) for word in words]
  return list(zip(values[::2], values[1::2], strict=True))


def _sequences() -> dict:
  """{(Key, measure, number of models): (mean, standard deviation)} of Table 5."""
  spreads = {}
  for measure, text in _SEQUENCES.items():
    for tap, *words in map(str.split, text.split("\n")[1:]):
      key = BASELINE_KEY if tap == "-" else Key("expvar", (int(tap),), 1.0)
      spreads |= {
        (key, measure, size): value for size, value in enumerate(_numbers(words), start=2)
      }
  return spreads


def _pairs() -> dict:
  """{(Key, measure, 2): (mean, standard deviation or None)} of Tables 2 to 4."""
  spreads = {}
  for metric, text in _PAIRS.items():
    for tap, weight, *words in map(str.split, text.split("\n")[1:]):
      key = Key(metric, (int(tap),), float(weight))
      values = zip(_PAIR_MEASURES, _numbers(words), strict=True)
      spreads |= {(key, measure, 2): value for measure, value in values}
  return spreads


SEQUENCES, PAIRS = _sequences(), _pairs()


def is_comparable(group: Group) -> bool:
  """Whether the runs of a group have the paper's settings."""
  return all(
    name in group.config and group.config[name] == value for name, value in SETTINGS.items()
  )


def lookup(group: Group, row: Row, measure: str, size: int) -> tuple | None:
  """The paper's (mean, standard deviation or None) in our unit, where ours may stand beside it.

  Only of the paper's settings, and of rows of which all its five seeds are finished.
  """
  if row.missing or len(row.finished) < SEEDS or not is_comparable(group):
    return None
  printed = SEQUENCES if group.sizes[-1] > 2 else PAIRS
  return _in_our_unit(measure, printed.get((row.key, measure, size)))


def _in_our_unit(measure: str, printed: tuple | None) -> tuple | None:
  """A printed (mean, standard deviation or None), which is a percentage, as the measure is shown.

  The rounding keeps the printed digits, 5 of a ratio for 3 of a percentage.
  """
  if printed is None or measure not in metrics.METRICS or metrics.METRICS[measure].unit:
    return printed
  return tuple(value if value is None else round(value / 100, 5) for value in printed)
