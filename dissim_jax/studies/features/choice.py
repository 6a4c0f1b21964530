"""Choosing among the features of two networks, and the accuracy of a linear classifier on them.

Pure functions of arrays on the host. `N` images; `D` and `E` features of the two networks.
Reference: Gontijo-Lopes et al. 2022, "No one representation to rule them all", section 4.6, A.5.
"""

import numpy as np

from dissim_jax.errors import UserError


def standardise(train: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
  """Every feature with mean 0 and standard deviation 1 on the training images, as in appendix A.5.

  Features that are constant on the training images become 0, on all images.

  Args:
    train: floating `[N, D]`.
    *others: features `[..., D]` of other images, which get the training images' mean and scale.

  Returns:
    `train` and the others, float32 of the same shapes.
  """
  _check_features("train", train)
  mean, spread = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
  varies = np.ptp(train, axis=0) > 0  # A mean is rounded: constants may have a tiny spread.
  factor = np.where(varies, 1 / np.where(varies & (spread > 0), spread, 1.0), 0.0)
  return tuple(((each - mean) * factor).astype(np.float32) for each in (train, *others))


def share_features(
  a: np.ndarray,
  b: np.ndarray,
  share: float,
  width: int | None,
  rng: np.random.Generator,
) -> np.ndarray:
  """Chooses columns of two members' features at random (Gontijo-Lopes et al. 2022, section 4.6).

  Args:
    a, b: features `[N, D]` and `[N, E]`.
    share: 0..1, of the chosen columns that are of `a`.
    width: how many columns, so that a gain is not one of size; None for min(D, E).
    rng: of the choice, without replacement.

  Returns:
    Columns of the concatenation of `a` and `b`, int `[width]`: first `round(share * width)` below
    D, then the rest from D on.

  Raises:
    UserError: `share` or `width` is out of range.
  """
  sizes = a.shape[1], b.shape[1]
  width = min(sizes) if width is None else width
  if not 0 <= share <= 1:
    raise UserError(f"shares={share}: must be in 0..1")
  if not 1 <= width <= min(sizes):
    raise UserError(f"width={width}: must be in 1..{min(sizes)}, the features of one member")
  of_a = round(share * width)
  chosen_a = rng.choice(sizes[0], of_a, replace=False)
  chosen_b = rng.choice(sizes[1], width - of_a, replace=False)
  return np.concatenate([chosen_a, sizes[0] + chosen_b])


def diversity_order(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Columns of the concatenation of `a` and `b`, the most diverse first (section 4.6).

  The diversity of a feature is its small covariance with the other member's: `mean_j |cov(f, g_j)|`
  over the other member's features `g_j`, all standardised. The paper says only "the covariance of
  each dimension of embeddings from both models"; this mean is our choice. Constant features covary
  with nothing and say nothing: they are left out of the means and come last.

  Args:
    a, b: features of the same images, floating `[N, D]` and `[N, E]`.

  Returns:
    int `[D + E]`, a permutation; equal ones keep their order.
  """
  _check_features("a", a)
  _check_features("b", b)
  if len(a) != len(b):
    raise ValueError(f"a has {len(a)} rows, b {len(b)}: they must be of the same images")
  (a,), (b,) = standardise(a), standardise(b)
  covariance = np.abs(a.T @ b) / len(a)
  varies = [each.any(axis=0) for each in (a, b)]
  means = [
    block.sum(axis=1) / max(1, np.count_nonzero(others))
    for block, others in ((covariance, varies[1]), (covariance.T, varies[0]))
  ]
  return np.argsort(np.where(np.concatenate(varies), np.concatenate(means), np.inf), kind="stable")


def linear_accuracy(
  train: np.ndarray,
  train_labels: np.ndarray,
  test: np.ndarray,
  test_labels: np.ndarray,
  *,
  regularisation: float,
  max_iter: int,
) -> float:
  """Test accuracy of multinomial logistic regression by L-BFGS on standardised features.

  Args:
    train, test: `[N, D]` and `[N', D]`.
    train_labels, test_labels: integer `[N]` and `[N']`.
    regularisation: C of scikit-learn: the summed cross-entropy is weighted by it beside half the
      squared L2 norm of the weights, so that less is more regularisation.
    max_iter: of L-BFGS.
  """
  from sklearn.linear_model import LogisticRegression  # slow to import

  classifier = LogisticRegression(solver="lbfgs", C=regularisation, max_iter=max_iter)
  return float(classifier.fit(train, train_labels).score(test, test_labels))


def _check_features(name: str, array: np.ndarray) -> None:
  if array.ndim != 2 or 0 in array.shape or not np.issubdtype(array.dtype, np.floating):
    raise ValueError(
      f"{name} has shape {array.shape}, dtype {array.dtype}: non-empty floating [N, D] is needed"
    )
