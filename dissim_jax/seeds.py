"""Seeds: any whole number from 0, of any size, also where JAX and scikit-learn take 31 bits."""

import numpy as np

_LIMIT = 2**31  # JAX's default integers are int32.


def folded(seed: int) -> int:
  """The seed that generators get: itself below 2^31, of larger ones a hash of all their bits.

  Two large seeds have the same one with probability 2^-31.

  Args:
    seed: a whole number of at least 0.

  Returns:
    A whole number in 0..2^31 - 1.
  """
  if seed < _LIMIT:
    return int(seed)
  return int(np.random.SeedSequence(int(seed)).generate_state(1)[0] >> 1)
