"""Independent, dissimilar and GNCL ensembles of three on digits, clean and corrupted, in one table.

What does it buy to force members apart: in their representations (Wald et al. 2023), or in their
predictions (Rosales et al. 2023)? All ensembles have three ResNets of 14 layers, start from the
same weights, and see 100 training images for 200 epochs; 300 images are for validation
(temperatures), 1397 for the test.

  python -m dissim_jax.main --config=configs/digits_compare.py --workdir=runs/compare/seed_0
  python -m dissim_jax.main --config=configs/digits_compare.py --workdir=runs/compare/seed_1 \
    --config.seed=1

One page over seeds: `python -m dissim_jax.report --workdir=runs/compare/seed_0 --workdir=…`
"""

from dissim_jax.configs import digits_expvar


def get_config():
  """digits_expvar.py with two more ensembles, and everything that is measured of them."""
  config = digits_expvar.get_config()
  config.data.train_per_class = 40
  config.data.validation = 300
  config.ensemble.size = 3
  config.ensemble.compare = ("gncl", "balanced")
  config.objective.weight = 0.2
  config.corruption.names = ("all",)
  config.attribution.method = "saliency"
  config.features.shares = (0.0, 0.25, 0.5, 0.75, 1.0)
  return config
