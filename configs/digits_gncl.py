"""Three networks on digits that are trained together to disagree (GNCL), beside independent ones.

Rosales et al. 2023, Eq. 2, with their lambda of 0.2. ResNets of 14 layers on scikit-learn's 8x8
digits: 100 training images, 300 for validation (temperatures), 1397 for the test. Other objectives:
gncl_masked, balanced, attribution (they found weights above 0.001 unstable), independent.

  python -m dissim_jax.main --config=configs/digits_gncl.py --workdir=runs/digits_gncl
"""

from dissim_jax.configs import digits_expvar


def get_config():
  """The networks and the budget of digits_expvar.py."""
  config = digits_expvar.get_config()
  config.data.train_per_class = 40
  config.data.validation = 300
  config.objective.name = "gncl"
  config.objective.weight = 0.2
  config.ensemble.size = 3
  return config
