"""What attack transfer tells of a pool of models: clusters, components, ensembles, categories.

Reads saved files only: no model, no device, no jax. Hwang et al., "Similarity of neural
architectures based on input gradient transferability"; Gontijo-Lopes et al. 2022, "No one
representation to rule them all".
"""

from dissim_jax import lazy

__getattr__ = lazy.attributes(__name__, {"print_findings": "page", "write_page": "page"})
