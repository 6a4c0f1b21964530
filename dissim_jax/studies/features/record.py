"""What `evaluation/features.json` holds."""

import dataclasses

from dissim_jax.files import typed

FILE, ARRAYS = "features.json", ""


@dataclasses.dataclass(frozen=True)
class Features:
  """What `evaluation/features.json` holds.

  Attributes:
    draws: random choices that means and standard deviations are over.
    regularisation: of the logistic regression.
    num_train, num_test: images it was fitted and measured on.
    sequences: {name: {"a", "b", "width", "shares", "accuracy", "accuracy_std", "dimensions",
      "diverse", "random", "random_std"}}, the baseline first; the lists are float64 arrays.
  """

  draws: int
  regularisation: float
  num_train: int
  num_test: int
  sequences: dict


def read(results) -> Features | None:
  """Reads the file of a run; None where features were not studied.

  Raises:
    UserError: it is damaged; the sentence names it.
  """
  content = typed.read_json(results.workdir, FILE)
  if content is None:
    return None
  with typed.form(results.workdir, FILE):
    return Features(
      int(content["draws"]),
      typed.number(content["regularisation"]),
      int(content["num_train"]),
      int(content["num_test"]),
      {
        name: _sequence(content["sequences"][name])
        for name in typed.in_order(results, content["sequences"])
      },
    )


def _sequence(row):
  lists = {
    "shares": typed.places(row["shares"]),
    **{key: typed.numbers(row[key]) for key in ("accuracy", "accuracy_std")},
  }
  compression = {
    "dimensions": typed.places(row["compression"]["dimensions"]),
    **{key: typed.numbers(row["compression"][key]) for key in ("diverse", "random", "random_std")},
  }
  typed.same_length(**lists)
  typed.same_length(**compression)
  return {
    "a": str(row["a"]),
    "b": str(row["b"]),
    "width": int(row["width"]),
    **lists,
    **compression,
  }
