"""One pass over the test images: predictions of all members and the statistics of their taps.

Activations never outlive a batch: LinCKA needs sums of HSIC between all taps, regression needs
co-moments of channels.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dissim_jax.data.batches import batches
from dissim_jax.members.member import Member
from dissim_jax.models import Layered, matching_tap, resized
from dissim_jax.similarity import (
  Moments,
  cka_from_hsic,
  hsic_matrix,
  lincka_from_moments,
  merge_moments,
  moments,
  r2_from_moments,
  swap_moments,
)
from dissim_jax.studies.similarity import nonfinite


def predict(
  members: Sequence[Member],
  images: np.ndarray,
  preprocess: Callable[[jax.Array], jax.Array],
  batch_size: int,
) -> np.ndarray:
  """Logits float32 `[M, N, K]` of all members for uint8 images `[N, H, W, C]`."""

  @jax.jit
  def logits(variables, images):
    images = preprocess(images)
    return jnp.stack([m.model.apply(v, images)[0] for m, v in zip(members, variables, strict=True)])

  variables = [member.variables for member in members]
  outputs = [np.asarray(logits(variables, batch)) for batch in batches(images, batch_size)]
  return np.concatenate(outputs, axis=1)


def measure(
  members: Sequence[Member],
  images: np.ndarray,
  preprocess: Callable[[jax.Array], jax.Array],
  batch_size: int,
  compared: Sequence[tuple[int, int]] | None = None,
  match: str = "depth",
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Predictions of all members and the similarity of all their taps.

  Args:
    members: one or more members.
    images: uint8 `[N, H, W, C]`.
    preprocess: from uint8 images to the networks' input.
    batch_size: minibatch of LinCKA, at least 4.
    compared: pairs (i, j), i < j, of members for the position-wise measures; None for all pairs.
    match: which tap of a member of another architecture belongs to a tap, see `matching_tap`.

  Returns:
    Logits float32 `[M, N, K]`, and arrays by name.
    For members a, b in the order given: `lincka/a/b` `[L_a, L_b]`, unbiased minibatch LinCKA with
    examples as samples (Wald et al. 2023, Eq. 12-13), for a up to b. For compared a before b, at
    each tap of b and the tap of a that belongs to it: `matched/a/b` int `[L_b]`, that tap (of one
    architecture the same); `lincka_position/a/b` `[L_b]`, LinCKA with positions as samples; and
    `r2/a/b`, `r2/b/a` `[L_b]`, the R^2 of the affine least-squares map from the first to the
    second. Where spatial sizes differ, a's tap is resized to b's. What a tap that holds NaN or
    infinity takes part in is NaN, and stderr says which taps these are.
  """
  everyone = [(i, j) for j in range(len(members)) for i in range(j)]
  pairs = everyone if compared is None else list(compared)
  matched = {pair: _matched(*(members[i].model for i in pair), match) for pair in pairs}

  @jax.jit
  def statistics(variables, images):
    images = preprocess(images)
    outputs = [m.model.apply(v, images) for m, v in zip(members, variables, strict=True)]
    logits, taps = zip(*outputs, strict=True)
    hsic = hsic_matrix([tap for member_taps in taps for tap in member_taps])
    pair_moments = {
      (i, j): [
        moments(resized(taps[i][tap], target.shape[1:3]), target).exact
        for tap, target in zip(matched[i, j], taps[j], strict=True)
      ]
      for i, j in pairs
    }
    return jnp.stack(logits), hsic, pair_moments

  is_moments = lambda x: isinstance(x, Moments)  # noqa: E731
  merge = jax.jit(lambda a, b: jax.tree.map(merge_moments, a, b, is_leaf=is_moments))
  variables = [member.variables for member in members]
  logits, hsic_sum, total = [], 0.0, None
  for batch in batches(images, batch_size):
    batch_logits, hsic, part = statistics(variables, batch)
    logits.append(np.asarray(batch_logits))
    hsic_sum = hsic_sum + np.asarray(hsic, np.float64)
    total = part if total is None else merge(total, part)
  _warn_of_broken_taps(members, hsic_sum)
  arrays = _lincka_arrays(members, hsic_sum) | _moment_arrays(members, total)
  for (i, j), taps in matched.items():
    arrays[f"matched/{members[i].name}/{members[j].name}"] = np.array(taps, np.int32)
  return np.concatenate(logits, axis=1), arrays


def _matched(model: Layered, other: Layered, match: str) -> list[int]:
  """The tap of `model` that belongs to each tap of `other`; by depth where none has its name."""
  taps = range(len(other.layers))
  if match == "name" and set(other.tap_names) <= set(model.tap_names):
    return [matching_tap(tap, other, model, match) for tap in taps]
  return [matching_tap(tap, other, model) for tap in taps]


def _spans(members: Sequence[Member]) -> list[slice]:
  """Where the taps of each member are among all."""
  ends = np.cumsum([len(member.model.layers) for member in members])
  return [slice(end - len(m.model.layers), end) for end, m in zip(ends, members, strict=True)]


def _warn_of_broken_taps(members: Sequence[Member], hsic_sum: np.ndarray) -> None:
  broken = nonfinite.broken(hsic_sum)
  taps = (np.flatnonzero(broken[span]) for span in _spans(members))
  nonfinite.warn(zip((member.name for member in members), taps, strict=True))


def _lincka_arrays(members: Sequence[Member], hsic_sum: np.ndarray) -> dict[str, np.ndarray]:
  """Blocks of the all-taps LinCKA matrix, by pair of members."""
  cka = np.asarray(cka_from_hsic(hsic_sum), np.float32)
  spans = _spans(members)
  return {
    f"lincka/{a.name}/{b.name}": cka[spans[i], spans[j]]
    for j, b in enumerate(members)
    for i, a in enumerate(members[: j + 1])
  }


def _moment_arrays(
  members: Sequence[Member], total: dict[tuple[int, int], list[Moments]]
) -> dict[str, np.ndarray]:
  """What co-moments tell, tap by tap, of each pair of members."""

  @jax.jit  # one program for all taps of as many channels
  def measures(m):
    return lincka_from_moments(m), r2_from_moments(m), r2_from_moments(swap_moments(m))

  arrays = {}
  for (i, j), taps in total.items():
    a, b = members[i].name, members[j].name
    values = np.array(jax.device_get([measures(m) for m in taps]), np.float32).T
    keys = (f"lincka_position/{a}/{b}", f"r2/{a}/{b}", f"r2/{b}/{a}")
    arrays |= dict(zip(keys, values, strict=True))
  return arrays
