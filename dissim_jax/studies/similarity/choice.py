"""What can be compared by what: the choice of measures and options, and whether images suffice."""

import bisect
import dataclasses
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax import texts
from dissim_jax.data.batches import SMALLEST_BATCH
from dissim_jax.errors import UserError
from dissim_jax.names import nearest
from dissim_jax.registry.measures import check_comparable
from dissim_jax.similarity import MEASURES, Measure, empty_moments
from dissim_jax.similarity.comoments import Size, common_size

# `Measure.fitted` as a number of channels, of x and y channels.
_FITTED: dict[str, Callable[[int, int], int]] = {
  "both": lambda x, y: x + y,
  "second": lambda x, y: y,
  "larger": max,
}
_MANY_IMAGES = 2**14  # Larger than any batch; nothing of it is computed.


@dataclasses.dataclass(frozen=True)
class ChosenMeasure:
  """A measure and the options it is called with, as (name, value) pairs; hashable."""

  measure: Measure
  options: tuple[tuple[str, Any], ...] = ()


def choose(names: Iterable[str], options: Iterable[str]) -> tuple[ChosenMeasure, ...]:
  """The measures of the given names, with options given as `measure.option=value`.

  Raises:
    UserError: a measure that is unknown or needs aligned channels; an option that is unknown, of a
      measure that is not chosen, or of a value that the measure does not take.
  """
  given: dict[str, dict[str, Any]] = {name: {} for name in names}
  if not given:
    raise UserError("--measures is missing")
  for name in given:
    check_comparable(name)
  for text in options:
    name, option, value = _read_option(text, given)
    given[name][option] = value
  chosen = tuple(
    ChosenMeasure(MEASURES[name], tuple(measure_options.items()))
    for name, measure_options in given.items()
  )
  for c in chosen:
    _check_values(c)
  return chosen


def default_options(measure: Measure) -> dict[str, Any]:
  """The options of a measure, as it is computed over batches, and their default values."""
  function = measure.pairwise.update if measure.pairwise else measure.from_moments
  parameters = inspect.signature(function).parameters.values()
  return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _read_option(text: str, given: dict[str, dict]) -> tuple[str, str, Any]:
  """Measure, option and value of `measure.option=value`."""
  key, equals, value = text.partition("=")
  name, dot, option = key.partition(".")
  field = f"--option={text}"
  if not (equals and dot):
    raise UserError(f"{field}: must be measure.option=value, such as svcca.variance=0.95")
  if name not in given:
    raise UserError(f"{field}: {name!r} is not among the measures {', '.join(given)}")
  defaults = default_options(MEASURES[name])
  if option not in defaults:
    known = ", ".join(defaults) or "none"
    near = nearest(option, defaults)
    raise UserError(f"{field}: {name} has no such option, it has {known}{near}")
  return name, option, _convert(field, value, defaults[option])


def _convert(field: str, text: str, default: Any) -> Any:
  """The value in the type of the option's default."""
  if isinstance(default, str):
    return text
  read = {bool: texts.boolean, int: texts.whole, float: texts.number}[type(default)]
  try:
    value = read(text)
  except ValueError as error:
    raise UserError(f"{field}: {error}") from error
  if isinstance(value, float) and not math.isfinite(value):
    raise UserError(f"{field}: must be a finite number")
  return value


def _check_values(chosen: ChosenMeasure) -> None:
  """Asks the measure itself whether it takes the values of its options."""
  try:
    _trace(chosen, _MANY_IMAGES)
  except ValueError as error:
    name = chosen.measure.name
    given = " ".join(f"--option={name}.{key}={value}" for key, value in chosen.options)
    raise UserError(f"{given or name}: {str(error).rstrip('.')}") from error


def _trace(chosen: ChosenMeasure, count: int) -> None:
  """Goes through the measure without computing it; raises its ValueError."""
  options = dict(chosen.options)
  if chosen.measure.pairwise:
    tap = jax.ShapeDtypeStruct((count, 2), jnp.float32)
    jax.eval_shape(lambda taps: chosen.measure.pairwise.update(taps, **options), [tap])
  else:
    jax.eval_shape(lambda m: chosen.measure.from_moments(m, **options), empty_moments(2, 3))


@functools.cache  # By many traces, and asked again for every comparison.
def fewest_images(chosen: ChosenMeasure) -> int:
  """How many images a batch must have for the measure: at least `SMALLEST_BATCH`."""
  if not chosen.measure.pairwise:
    return SMALLEST_BATCH

  def enough(count: int) -> bool:
    try:
      _trace(chosen, count)
    except ValueError:
      return False
    return True

  return bisect.bisect_left(range(_MANY_IMAGES), True, lo=SMALLEST_BATCH, key=enough)


def split(images: np.ndarray, batch_size: int, chosen: Sequence[ChosenMeasure]) -> list[np.ndarray]:
  """The images in batches of nearly equal size, each enough for every measure.

  Raises:
    UserError: the images are too few, or `batch_size` is too small.
  """
  fewest = max(chosen, key=fewest_images)
  needed, name = fewest_images(fewest), fewest.measure.name
  if len(images) < needed:
    raise UserError(f"{len(images)} test images are too few: {name} needs at least {needed}")
  if batch_size < needed:
    raise UserError(f"--batch_size={batch_size}: {name} needs at least {needed} images in a batch")
  return np.array_split(images, min(-(-len(images) // batch_size), len(images) // needed))


def check_positions(
  chosen: Sequence[ChosenMeasure],
  names: Sequence[str],
  taps: Sequence[Sequence[int]],
  shapes: Sequence[Sequence[tuple[Size, int]]],
  count: int,
  resize: bool,
) -> None:
  """Whether measures of positions have taps to compare, and enough samples for their channels.

  Args:
    chosen: the measures.
    names: of the members.
    taps: of every member.
    shapes: (spatial size, channels) of these taps; without space an image is one sample.
    count: number of images.
    resize: whether taps of different sizes are compared.

  Raises:
    UserError: no pair of taps of different members has a common size, or samples are too few.
  """
  positions = [c.measure for c in chosen if c.measure.samples == "position"]
  if not positions:
    return
  flat = [
    (i, tap, *shape)
    for i, member_taps in enumerate(taps)
    for tap, shape in zip(member_taps, shapes[i], strict=True)
  ]
  met = [
    (x, y, size)
    for x, y in itertools.product(flat, flat)
    if (size := common_size(x[2], y[2], resize)) is not None
  ]
  if len(names) > 1 and all(x[0] == y[0] for x, y, _ in met):
    raise UserError(
      f"--measures={','.join(m.name for m in positions)}: all taps of different members have "
      "different spatial sizes; --resize or --samples=pooled makes them comparable"
    )
  for measure in positions:
    for x, y, size in met:
      _check_count(measure, names, x, y, size, count)


def _check_count(measure: Measure, names, x, y, size: Size, count: int) -> None:
  """Whether there are more samples than the measure's maps have channels."""
  if not measure.fitted:
    return
  samples = count * math.prod(size)
  channels = _FITTED[measure.fitted](x[3], y[3])
  if samples <= channels:
    places = f" x {math.prod(size)} positions" if size else ""
    one, other = (f"tap {tap} of {names[i]} ({c} channels)" for i, tap, _, c in (x, y))
    raise UserError(
      f"{count} test images{places} are too few for {measure.name} of {one} and {other}: more "
      f"than {channels} samples are needed, there are {samples}"
    )
