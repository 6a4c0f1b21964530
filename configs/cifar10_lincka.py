"""Two ResNet34s on CIFAR-10, made dissimilar by LinCKA at tap 8 (Wald et al. 2023, Table 3).

The paper's value for lambda 1 (5 seeds, test set): ensemble 95.65 %, new member 94.95 %. LinCKA
needs no projection. The paper's Eq. 12-13 is the unbiased estimator with examples as samples; the
authors' training code takes the biased one with every position as a sample:
`--config.dissim.options.lincka.unbiased=False --config.dissim.options.lincka.samples=position`.

  python -m dissim_jax.main --config=configs/cifar10_lincka.py --workdir=runs/cifar10_lincka
"""

from dissim_jax.configs import cifar10_expvar


def get_config():
  """As `cifar10_expvar`, two members, another measure."""
  config = cifar10_expvar.get_config()
  config.ensemble.size = 2
  config.dissim.metric = "lincka"
  return config
