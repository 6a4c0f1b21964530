"""What makes members differ on real images: five ways to train a second member, three seeds.

Narrow ResNet20s on 10,000 CIFAR-10 images, see `configs/cifar10_small.py`. Per seed one first
member, an independent second one, and second ones that are made dissimilar to the first: by the
paper's learned projection with 1 and 5 steps a member step, and with the projection in closed form
at one tap and at several. Taps and weight were chosen by `cifar10_small_choice.py`. 18 models, an
hour or two on two CPU cores.

  python -m launch.local --sweep=configs/sweeps/cifar10_small.py --override=data.dir=PATH
  python -m dissim_jax.collect --root=runs/cifar10_small
"""

from collections.abc import Iterator, Sequence

from dissim_jax.launch.sweep import Run

CONFIG = "cifar10_small"
SEEDS = (0, 1, 2)
TAP, TAPS, WEIGHT = 5, (3, 5, 7), 1.0


def get_sweep():
  """Pairs of one first member of each seed."""
  learned = {"dissim.projection.name": "learned"}
  five = {**learned, "dissim.projection.inner_steps": 5}
  second_members = [
    ("learned_1", (TAP,), WEIGHT, learned),
    ("learned_5", (TAP,), WEIGHT, five),
    ("closed_form", (TAP,), WEIGHT, {}),
    ("closed_form_taps", TAPS, WEIGHT, {}),
  ]
  for seed in SEEDS:
    yield from pairs(seed, second_members)


def pairs(seed: int, second_members: Sequence[tuple]) -> Iterator[Run]:
  """An independent pair, and its first member with every second one.

  Args:
    seed: of all.
    second_members: (name, taps, weight, further overrides) each.
  """
  first = f"seed_{seed}/independent"
  yield Run(first, CONFIG, {"seed": seed, "dissim.weight": 0.0})
  for name, taps, weight, more in second_members:
    values = {"seed": seed, "dissim.taps": taps, "dissim.weight": weight, **more}
    yield Run(f"seed_{seed}/{name}", CONFIG, values, teachers=(f"{first}/member_0",))
