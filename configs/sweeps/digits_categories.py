"""Which change of training makes networks err differently? Gontijo-Lopes et al. 2022, on digits.

Around one ResNet: other seeds, other hyperparameters, other architectures, other objectives. The
analysis of the pool shows error inconsistency, ensemble gain and attack transfer by category,
within an accuracy band so that no category is only better or worse (the paper's, section 3.1).

  python -m launch.local --sweep=configs/sweeps/digits_categories.py --parallel=2
  python -m dissim_jax.transfer --members=runs/digits_categories --out=runs/categories_transfer \
    --epsilon=32/255 --step_size=4/255 --images=400
  python -m dissim_jax.analyse --folder=runs/categories_transfer --accuracy_band=0.9,0.96
"""

from dissim_jax.configs.sweeps.digits_zoo import ALONE, CONFIG, alone
from dissim_jax.launch.sweep import Run

BASE = "resnet14"
SEEDS = (0, 1, 2, 3)
HYPERPARAMETERS = {
  "slow": {"optimizer__learning_rate": 0.05},
  "fast": {"optimizer__learning_rate": 0.2},
  "decay": {"optimizer__weight_decay": 1.2e-2},
  "no_decay": {"optimizer__weight_decay": 5e-4},
  "small_batches": {"train__batch_size": 25},
  "no_crops": {"augment__crop_padding": 0},
}
ARCHITECTURES = (
  "preact_resnet_mini",
  "wide_resnet_mini",
  "se_resnet_mini",
  "vgg_mini",
  "densenet_mini",
)


def get_sweep():
  """Networks alone; then members trained together, against each other, and from each other."""
  for seed in SEEDS:
    yield alone(f"reinitialisation/seed_{seed}", BASE, seed)
  for name, overrides in HYPERPARAMETERS.items():
    yield alone(f"hyperparameters/{name}", BASE, SEEDS[0], **overrides)
  for model in ARCHITECTURES:
    yield alone(f"architecture/{model}", model, SEEDS[0])
  common = {**ALONE, "model.name": BASE, "ensemble.size": 2, "ensemble.baseline": False}
  yield Run("objective/gncl", CONFIG, {**common, "objective.name": "gncl"})
  first = ("reinitialisation/seed_0/member_0",)
  yield Run("objective/distill", CONFIG, {**common, "objective.name": "distill"}, teachers=first)
  for taps in ((3,), (2, 3, 4)):
    values = {**common, "dissim.weight": 1.0, "dissim.taps": taps}
    name = "_".join(map(str, taps))
    yield Run(f"objective/dissimilar_{name}", CONFIG, values, teachers=first)
