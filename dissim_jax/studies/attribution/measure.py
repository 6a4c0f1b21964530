"""Where members look: attribution maps of test images, and how much they differ in an ensemble."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax import attribution
from dissim_jax.attribution import normalise_maps
from dissim_jax.data.examples import balanced_part
from dissim_jax.data.pixels import check_images
from dissim_jax.errors import UserError
from dissim_jax.members.member import Member, Network
from dissim_jax.registry.attributions import CLASSES, METHODS
from dissim_jax.studies.context import Context

BLACK = 0.0  # Where the lines of integrated gradients start.


def measure(
  context: Context, settings: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """`attribute` on some of the test images, by the settings of `settings.asked`."""
  images, labels = context.dataset.test_images, context.dataset.test_labels
  used = balanced_part(labels, settings["images"])
  return attribute(
    context.members,
    context.sequences,
    images[used],
    labels[used],
    method=settings["method"],
    steps=settings["steps"],
    batch_size=context.config.evaluate.batch_size,
  )


def attribute(
  members: Sequence[Member],
  sequences: dict[str, list[str]],
  images: np.ndarray,
  labels: np.ndarray,
  *,
  method: str,
  steps: int,
  batch_size: int,
  of_class: str = "label",
  count_shown: int = 8,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Attribution maps of all members, and their diversity in every sequence and every pair.

  The score of an image is the logit of its TRUE class, whatever a member predicts, so that the maps
  of members that disagree answer one question; see `of_class`. Gradients are of networks in eval
  mode, with respect to pixels in 0..1, before each member's own normalisation. Diversity is
  `dissim_jax.attribution.attribution_diversity` (Rosales et al. 2023, Eq. 7, on maps of unit norm).
  Integrated gradients start at a black image.

  Args:
    members: one or more, of any architecture and normalisation.
    sequences: name of a sequence -> names of its members.
    images: uint8 `[N, H, W, C]`.
    labels: integer `[N]`.
    method: one of `METHODS`.
    steps: of integrated gradients, at least 1; saliency has none.
    batch_size: images at a time; maps do not outlive a batch.
    of_class: whose logit is attributed: the "label", or each member's own "prediction".
    count_shown: so many images, the first ones, are returned with their maps.

  Returns:
    A dictionary for JSON: "method", "of_class", "images" N, "steps" (None of saliency);
    "sequences": {name: {"diversity", "diversity_std" over images, "diversity_right": the mean over
    images that all its members get right, None without such}}; "pairs": [{"a", "b", "diversity"}];
    "members": {name: {"completeness_error_mean", "completeness_error_max"}, {} of saliency}.
    Arrays: "images" uint8 `[n, H, W, C]`, "labels" `[n]`, "predictions" int32 `[M, n]`, "maps"
    float32 `[M, n, H, W]` (sum over channels of the maps' absolute values, unit L2 norm),
    "members" their names.

  Raises:
    UserError: an unknown method or class, or `steps`, `batch_size` or `count_shown` out of range.
    ValueError: images, labels, members and sequences do not fit each other.
  """
  counts = {"steps": (steps, 1), "batch_size": (batch_size, 1), "count_shown": (count_shown, 0)}
  _check_settings(method, of_class, **counts)
  names = [member.name for member in members]
  _check_data(names, sequences, images, labels)
  steps = steps if method == "integrated_gradients" else None
  shown = min(count_shown, len(images))
  one = functools.partial(_attribute_batch, steps=steps, of_class=of_class)
  products, predictions, errors, maps = _collect(one, members, images, labels, batch_size, shown)
  right = predictions == np.asarray(labels)
  result = {
    "method": method,
    "of_class": of_class,
    "images": len(images),
    "steps": steps,
    "sequences": {
      name: _sequence_row(products, right, [names.index(member) for member in chosen])
      for name, chosen in sequences.items()
    },
    "pairs": [
      {"a": names[i], "b": names[j], "diversity": float(_diversity(products, [i, j]).mean())}
      for j in range(len(names))
      for i in range(j)
    ],
    "members": {
      name: {} if steps is None else _completeness_row(row)
      for name, row in zip(names, errors, strict=True)
    },
  }
  return result, {
    "images": np.asarray(images[:shown]),
    "labels": np.asarray(labels[:shown]),
    "predictions": predictions[:, :shown],
    "maps": maps,
    "members": np.array(names),
  }


def _collect(
  attribute_batch: Callable[..., tuple],
  members: Sequence[Member],
  images: np.ndarray,
  labels: np.ndarray,
  batch_size: int,
  shown: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """One pass over the images.

  Returns:
    Inner products of the members' maps `[N, M, M]`, predictions int32 `[M, N]`, completeness errors
    `[M, N]` (zeros of saliency), and maps to look at of the first `shown` images `[M, n, H, W]`.
  """
  products, predictions, errors, pictures = [], [], [], []
  for rows in _rows(len(images), batch_size):
    outputs = [attribute_batch(member, images[rows], labels[rows]) for member in members]
    said, maps, error = zip(*outputs, strict=True)
    products.append(_products(maps))
    predictions.append(np.stack(said))
    errors.append(np.stack(error))
    if not pictures or sum(each.shape[1] for each in pictures) < shown:
      pictures.append(_flatten(maps))
  whole = [np.concatenate(each, axis=1) for each in (predictions, errors, pictures)]
  counts = len(images), len(images), shown
  rest = [each[:, :count] for each, count in zip(whole, counts, strict=True)]
  return np.concatenate(products)[: len(images)], *rest


def _check_settings(method: str, of_class: str, **counts: tuple[int, int]) -> None:
  """Raises UserError naming the first argument that is not allowed; counts are (value, least)."""
  for name, value, allowed in (("method", method, METHODS), ("of_class", of_class, CLASSES)):
    if value not in allowed:
      raise UserError(f"{name}={value!r}: must be one of {', '.join(allowed)}")
  for name, (value, least) in counts.items():
    if value < least:
      raise UserError(f"{name}={value}: must be a whole number of at least {least}")


def _check_data(names: list[str], sequences: dict, images: np.ndarray, labels: np.ndarray) -> None:
  check_images(images)
  if not names or len(set(names)) < len(names):
    raise ValueError(f"members: the names {names} must be one or more, and different")
  if not len(images):
    raise ValueError("images: at least one is needed")
  if np.shape(labels) != (len(images),) or not np.issubdtype(np.asarray(labels).dtype, np.integer):
    raise ValueError(
      f"labels: shape {np.shape(labels)}, expected one integer for each of {len(images)} images"
    )
  for sequence, chosen in sequences.items():
    if not chosen or not set(chosen) <= set(names):
      raise ValueError(f"sequences[{sequence!r}]={chosen}: must be one or more of {names}")


def _rows(count: int, batch_size: int) -> np.ndarray:
  """Images of every batch `[batches, size]`; the last is filled up so that all compile to one."""
  parts = -(-count // batch_size)
  size = -(-count // parts)
  return np.resize(np.arange(count), (parts, size))


@functools.partial(jax.jit, static_argnames="network")
def _logits(network: Network, variables: Any, pixels: jax.Array) -> jax.Array:
  """float32 `[B, K]` from pixels in 0..1."""
  return network(variables, pixels)


def _score(network: Network, variables: Any, classes: jax.Array, pixels: jax.Array) -> jax.Array:
  """The logit `[B]` of one class of each image."""
  return jnp.take_along_axis(network(variables, pixels), classes[:, None], axis=-1)[:, 0]


@functools.partial(jax.jit, static_argnames="network")
def _saliency(network: Network, variables: Any, pixels, classes) -> jax.Array:
  return attribution.saliency(functools.partial(_score, network, variables, classes), pixels)


@functools.partial(jax.jit, static_argnames="network")
def _gradients(network: Network, variables: Any, pixels, classes, positions):
  """The sum of gradients at some positions of the lines from black."""
  score = functools.partial(_score, network, variables, classes)
  return attribution.path_gradients(score, pixels, BLACK, positions)


@functools.partial(jax.jit, static_argnames="network")
def _completeness(network: Network, variables: Any, pixels, classes, maps):
  score = functools.partial(_score, network, variables, classes)
  return attribution.completeness_error(score, pixels, BLACK, maps)


def _attribute_batch(
  member: Member, images: np.ndarray, labels: np.ndarray, steps: int | None, of_class: str
) -> tuple[np.ndarray, jax.Array, np.ndarray]:
  """Predictions int32 `[B]`, maps `[B, H, W, C]` and completeness errors `[B]` of one member."""
  network = member.network, member.variables
  pixels = np.asarray(images, np.float32) / 255
  logits = np.asarray(_logits(*network, pixels))
  if min(labels) < 0 or max(labels) >= logits.shape[-1]:
    raise ValueError(
      f"labels: {min(labels)}..{max(labels)}, {member.name} has classes 0..{logits.shape[-1] - 1}"
    )
  said = np.argmax(logits, axis=-1).astype(np.int32)
  classes = said if of_class == "prediction" else np.asarray(labels, np.int32)
  if steps is None:
    return said, _saliency(*network, pixels, classes), np.zeros(len(images), np.float32)
  # On CPU the gradient of a convolution inside a loop of XLA is several times slower.
  parts = steps if jax.default_backend() == "cpu" else 1
  positions = np.array_split(np.asarray(attribution.midpoints(steps)), parts)
  total = sum(_gradients(*network, pixels, classes, part) for part in positions)
  maps = (pixels - BLACK) * total / steps
  return said, maps, np.asarray(_completeness(*network, pixels, classes, maps))


@jax.jit
def _products(maps: Sequence[jax.Array]) -> jax.Array:
  """Inner products of the members' maps of unit norm `[B, M, M]`: of any ensemble's diversity."""
  units = normalise_maps(jnp.stack(maps))
  return jnp.einsum("ibhwc,jbhwc->bij", units, units, precision="highest")


def _diversity(products: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
  """`attribution_diversity` `[N]` of chosen members: `mean_i |u_i|^2 - |mean_i u_i|^2`."""
  block = products[:, chosen][:, :, chosen].astype(np.float64)
  squares = np.trace(block, axis1=1, axis2=2) / len(chosen)
  return np.maximum(squares - block.mean(axis=(1, 2)), 0.0)


def _sequence_row(products: np.ndarray, right: np.ndarray, chosen: list[int]) -> dict:
  values, everyone = _diversity(products, chosen), right[chosen].all(axis=0)
  return {
    "diversity": float(values.mean()),
    "diversity_std": float(values.std()),
    "diversity_right": float(values[everyone].mean()) if everyone.any() else None,
  }


def _completeness_row(errors: np.ndarray) -> dict:
  ends = {"mean": errors.mean(), "max": errors.max()}
  return {f"completeness_error_{end}": float(value) for end, value in ends.items()}


@jax.jit
def _flatten(maps: Sequence[jax.Array]) -> jax.Array:
  """Maps to look at `[M, B, H, W]`: absolute values summed over channels, of unit norm."""
  return normalise_maps(jnp.sum(jnp.abs(jnp.stack(maps)), axis=-1, keepdims=True))[..., 0]
