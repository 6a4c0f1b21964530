"""The table that chooses a sweep's settings: by hand and by scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from benchmarks import validation_table
from dissim_jax.errors import UserError


def test_a_row_is_of_members_0_and_1_on_the_validation_images(tmp_path):
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, 40)
  logits = rng.normal(size=(3, 40, 3)).astype(np.float32)
  logits[:2] += 1.5 * np.eye(3)[labels]  # The third member, which has no say, only guesses.
  path = tmp_path / "predictions.npz"
  of_test_images = {"logits": -logits, "labels": labels}
  np.savez(path, validation_logits=logits, validation_labels=labels, **of_test_images)

  accuracy, consistency, label_kappa, ensemble = validation_table.row(path)

  one, two = logits[:2].argmax(-1)
  exponentials = np.exp(logits[:2].astype(np.float64))
  together = (exponentials / exponentials.sum(-1, keepdims=True)).mean(0).argmax(-1)
  assert accuracy == pytest.approx(100 * (two == labels).mean())
  assert consistency == pytest.approx(cohen_kappa_score(one == labels, two == labels), abs=1e-6)
  p_one, p_two = (one == labels).mean(), (two == labels).mean()
  expected = p_one * p_two + (1 - p_one) * (1 - p_two)
  assert label_kappa == pytest.approx(((one == two).mean() - expected) / (1 - expected), abs=1e-6)
  assert ensemble == pytest.approx(100 * (together == labels).mean())


def test_a_run_without_validation_images_is_named(tmp_path):
  path = tmp_path / "predictions.npz"
  np.savez(path, logits=np.zeros((2, 4, 3)), labels=np.zeros(4, int))
  with pytest.raises(UserError, match="predictions.npz.*no validation images"):
    validation_table.row(path)
