"""Adversarial images in an L-infinity ball: pure functions of a classifier, images and labels.

`N` images `[H, W, C]` in 0..1, or in `bounds` of their own, and a classifier `logits(images) -> [N,
K]` whose row n depends on image n alone (a network in eval mode). Normalising and resizing had best
happen inside it: with a deviation for each channel the ball has another size in each. A classifier
`jax.tree_util.Partial(function, variables)` with a hashable function shares its compiled program
with all others of that function. What is climbed is a loss whose gradient does not vanish where the
cross-entropy's does, see `attack_step`.

On the CPU a loop of XLA around the gradient of a convolution is several times slower (measured:
ResNet20, 128 images of 32x32x3, 2 cores, 5 iterations: 9.6 s in one `fori_loop`, 2.0 s dispatched
one by one), so that iterations are dispatched one by one there and all at once elsewhere.

References: Goodfellow et al. 2015, "Explaining and harnessing adversarial examples" (FGSM); Madry
et al. 2018, "Towards deep learning models resistant to adversarial attacks" (PGD); Dong et al.
2018, "Boosting adversarial attacks with momentum" (MI-FGSM).
"""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from dissim_jax.attacks import inputs
from dissim_jax.attacks.step import UNIT, Bounds, Iterate, Logits, attack_step, random_images
from dissim_jax.registry.attacks import ATTACKS, Attack, check_settings
from dissim_jax.seeds import folded


def fgsm(
  logits: Logits,
  images: jax.Array,
  labels: jax.Array,
  *,
  epsilon: float = Attack.epsilon,
  attacked: jax.Array | None = None,
  bounds: Bounds = UNIT,
) -> jax.Array:
  """The fast gradient sign method: one step of size epsilon (Goodfellow et al. 2015, section 4).

  `clip(x + epsilon * sign(gradient), *bounds)`. Arguments, result and errors as of `pgd`.
  """
  check_attack(Attack("fgsm", epsilon), bounds=bounds)
  sizes = epsilon, epsilon, 0.0
  return _iterate(logits, images, labels, sizes, 1, None, attacked, None, 1, bounds, velocity=False)


def pgd(
  logits: Logits,
  images: jax.Array,
  labels: jax.Array,
  *,
  epsilon: float = Attack.epsilon,
  step_size: float = Attack.step_size,
  iterations: int = Attack.iterations,
  random_start: bool = Attack.random_start,
  seed: int = Attack.seed,
  attacked: jax.Array | None = None,
  indices: jax.Array | None = None,
  steps_per_dispatch: int = 0,
  bounds: Bounds = UNIT,
) -> jax.Array:
  """Projected gradient descent in the L-infinity ball (Madry et al. 2018, section 2.1).

  From a random start, see `random_images`, or the image itself, `iterations` times `attack_step`
  without velocity; the last iterate is the result. The same arguments give the same images. Works
  under `jit` with numbers and flags static. Values are not known there, and cannot be refused: an
  image that is to be attacked comes back as NaN where it or its label is not what is asked for.

  Args:
    logits: the classifier, see the module; it may compute in any dtype.
    images: floating `[N, H, W, C]`, finite and within the bounds (up to a millionth of their
      width).
    labels: integer `[N]` in 0..K-1, which the attack leads away from.
    epsilon: radius of the ball, from 0 to the width of the bounds; 0 leaves every image as it is,
      bit for bit.
    step_size: of one iteration, above 0 and up to the width of the bounds.
    iterations: at least 1.
    random_start: False starts at the image.
    seed: of random starts, at least 0.
    attacked: bool `[N]`; other images are returned as they are, whatever they and their labels
      hold. None attacks all.
    indices: integer `[N]`, what an image's random start is drawn by; None counts from 0.
    steps_per_dispatch: iterations sent to the device at once; 0: one on the CPU, elsewhere all.
    bounds: the lowest and the highest value that an image may hold, which epsilon and step_size are
      in the unit of.

  Returns:
    float32 `[N, H, W, C]` within the bounds, within epsilon of the images.

  Raises:
    ValueError: shapes, dtypes or, outside of `jit`, values do not fit.
    UserError: a number is out of range.
  """
  check_attack(
    Attack("pgd", epsilon, step_size, iterations, random_start, seed=seed), bounds=bounds
  )
  sizes, start = (epsilon, step_size, 0.0), folded(seed) if random_start else None
  return _iterate(
    logits,
    images,
    labels,
    sizes,
    iterations,
    start,
    attacked,
    indices,
    steps_per_dispatch,
    bounds,
    velocity=False,
  )


def momentum_pgd(
  logits: Logits,
  images: jax.Array,
  labels: jax.Array,
  *,
  epsilon: float = Attack.epsilon,
  step_size: float = Attack.step_size,
  iterations: int = Attack.iterations,
  random_start: bool = Attack.random_start,
  momentum: float = Attack.momentum,
  seed: int = Attack.seed,
  attacked: jax.Array | None = None,
  indices: jax.Array | None = None,
  steps_per_dispatch: int = 0,
  bounds: Bounds = UNIT,
) -> jax.Array:
  """PGD along an accumulated gradient, MI-FGSM (Dong et al. 2018, Algorithm 1).

  `momentum` is their decay factor mu, at least 0; all else as of `pgd`. Differs from the paper,
  which starts at the image: so does `random_start=False`.
  """
  check_attack(
    Attack("momentum_pgd", epsilon, step_size, iterations, random_start, momentum, seed),
    bounds=bounds,
  )
  sizes, start = (epsilon, step_size, momentum), folded(seed) if random_start else None
  return _iterate(
    logits,
    images,
    labels,
    sizes,
    iterations,
    start,
    attacked,
    indices,
    steps_per_dispatch,
    bounds,
    velocity=True,
  )


def perturb(
  attack: Attack,
  logits: Logits,
  images: jax.Array,
  labels: jax.Array,
  *,
  bounds: Bounds = UNIT,
  **where,
) -> jax.Array:
  """The images of an attack by its settings; `where` has what the functions take besides."""
  check_attack(attack, bounds=bounds)
  function = ATTACKS[attack.name].function
  known = inspect.signature(function).parameters
  given = dataclasses.asdict(attack) | where | {"bounds": bounds}
  return function(logits, images, labels, **{k: v for k, v in given.items() if k in known})


def check_attack(attack: Attack, prefix: str = "", bounds: Bounds = UNIT) -> None:
  """Raises UserError at the first setting that cannot be used; `prefix` stands before its name.

  Arrays without axes are numbers here, as they are where an attack is called.
  """
  names = [field.name for field in dataclasses.fields(attack)]
  settings = {name: inputs.number(getattr(attack, name)) for name in names}
  check_settings(Attack(**settings), prefix, bounds)


def _iterate(
  logits,
  images,
  labels,
  sizes,
  iterations,
  start,
  attacked,
  indices,
  steps_per_dispatch,
  bounds,
  velocity,
) -> jax.Array:
  """All iterations, in as many dispatches as the platform asks for."""
  images, labels = _array(images), _array(labels)
  attacked, indices = (None if array is None else _array(array) for array in (attacked, indices))
  inputs.check_arrays(images, labels, attacked, indices)
  logits = logits if isinstance(logits, Partial) else Partial(logits)
  classes = inputs.number_of_classes(logits, images, labels)
  known = not any(isinstance(array, jax.core.Tracer) for array in (images, labels, attacked))
  if known:
    inputs.check_values(images, labels, attacked, classes, bounds)
  images, labels = jnp.asarray(images, jnp.float32), jnp.asarray(labels)
  sizes, bounds = tuple(map(float, sizes)), (float(bounds[0]), float(bounds[1]))
  first = images
  if start is not None:
    indices = jnp.arange(len(images)) if indices is None else jnp.asarray(indices)
    first = random_images(images, sizes[0], start, indices, bounds)
  at = Iterate(first, jnp.zeros_like(images) if velocity else None)
  once = jax.default_backend() != "cpu" or isinstance(images, jax.core.Tracer)
  block = min(steps_per_dispatch or (iterations if once else 1), iterations)
  for done in range(0, iterations, block):
    count = min(block, iterations - done)
    at = _advance(logits, at, images, labels, sizes, bounds, count=count)
  perturbed = at.images
  if not known:
    right = inputs.in_range(images, labels, classes, bounds)
    perturbed = jnp.where(right[:, None, None, None], perturbed, jnp.nan)
  if attacked is None:
    return perturbed
  return jnp.where(jnp.asarray(attacked)[:, None, None, None], perturbed, images)


def _array(array) -> inputs.Array:
  return array if isinstance(array, jax.Array) else np.asarray(array)


@functools.partial(jax.jit, static_argnames="count")
def _advance(logits, at, images, labels, sizes, bounds, *, count) -> Iterate:
  """Some iterations in one program; a single one needs no loop."""
  epsilon, step_size, momentum = sizes

  def step(_, at):
    return attack_step(
      logits,
      at,
      images,
      labels,
      epsilon=epsilon,
      step_size=step_size,
      momentum=momentum,
      bounds=bounds,
    )

  return step(0, at) if count == 1 else jax.lax.fori_loop(0, count, step, at)
