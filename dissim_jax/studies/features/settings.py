"""The block `features` of a config."""

from typing import Any

import ml_collections

from dissim_jax.registry.fields import are, is_number, is_whole, number, several, whole

FIELDS = {
  "shares": several(
    (), "of the first member's features, 0..1; () = not done", are(is_number(0, 1), unique=True)
  ),
  "dimensions": several((), "features kept; () = powers of two", are(is_whole(1), unique=True)),
  "images": whole(10_000, "training images that classifiers are fitted on", 1),
  "draws": whole(5, "random choices of features", 1),
  "regularisation": number(1.0, "C of scikit-learn's logistic regression", above=True),
  "max_iter": whole(1000, "of L-BFGS", 1),
}


def asked(config: ml_collections.ConfigDict) -> dict[str, Any] | None:
  """What the results depend on; None where no share is named."""
  return config.features.to_dict() if config.features.shares else None
