"""Is the device right? Comparisons with float64 NumPy, with the CPU, and of a run with itself."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.device import cka
from benchmarks.device.setting import Setting
from benchmarks.device.steps import BATCH, Steps, cpu, relative
from benchmarks.device.timing import LEFT_OUT, Budget, NotHereError, first_line
from dissim_jax import similarity
from dissim_jax.data.augment import augment

RIDGE = 1e-3


@dataclasses.dataclass
class Check:
  """One comparison: how large an error may be, and how large it is."""

  name: str
  allowed: float
  error: float | None = None
  note: str = ""

  @property
  def failed(self) -> bool:
    """Whether the error, NaN included, is larger than allowed, or there was an exception."""
    right = self.error is not None and self.error <= self.allowed
    return not right and (self.error is not None or self.note.startswith("failed"))


def run(setting: Setting, budget: Budget, tell: Callable[[str], None]) -> list[Check]:
  """All comparisons, until the time is up."""
  checks = []
  for name, allowed, compare in comparisons(setting):
    check = Check(name, allowed)
    checks.append(check)
    try:
      if budget.left():
        check.error = float(compare())
      else:
        check.note = LEFT_OUT
    except NotHereError as error:
      check.note = str(error)
    except Exception as error:  # The next comparison may tell why.
      check.note = first_line(error)
    tell(f"check: {name}: {check.note or f'{check.error:.1e} of {allowed:.0e}'}")
  return checks


def comparisons(setting: Setting) -> Iterator[tuple[str, float, Callable[[], float]]]:
  """Name, largest error allowed, and a function that gives the error.

  Measures and the closed form compute in full float32 precision whatever the default is; networks
  may use the shorter products of the device (TF32), unless the comparison asks for all digits.
  """
  z, other = pair()
  for name, (ours, oracle) in MEASURES.items():
    yield name, 1e-5, lambda f=ours, g=oracle: abs(float(jax.jit(f)(z, other)) - g(z, other))
  yield "closed form", 1e-4, closed_form
  yield "CKA of all pairs, features of mean 10", 1e-5, all_pairs
  for dtype, allowed in (("float32", 2e-3), ("bfloat16", 2e-2)):
    yield f"convolution, {dtype}", allowed, functools.partial(convolution, dtype)
  steps = Steps(setting)
  pixels = "augmentation: pixels that differ"
  yield f"{pixels} in another order", 0.0, lambda: augmented(setting, steps.device)
  yield f"{pixels} from the CPU's", 1e-2, lambda: augmented(setting, cpu())
  yield "U's step and the CPU's, float32", 1e-3, lambda: steps.compared("float32")
  if setting.dtype != "float32":
    yield f"U's step in {setting.dtype} and the CPU's", 0.2, lambda: steps.compared(setting.dtype)
  # The CPU repeats itself exactly; sums of other devices may depend on which came first.
  repeated = 0.0 if steps.device.platform == "cpu" else 1e-3
  yield "steps from a checkpoint and uninterrupted", repeated, steps.resumed


def pair() -> tuple[np.ndarray, np.ndarray]:
  """Two similar representations float32 `[64, 4, 4, 24]` with means far from their deviations.

  So similar that no measure is near a bound, where it would see no error.
  """
  rng = np.random.default_rng(0)
  z = rng.normal(size=(64, 4, 4, 24))
  other = z @ (np.eye(24) + rng.normal(size=(24, 24)) / 10) + rng.normal(size=z.shape) / 2
  return (10 + z).astype(np.float32), (10 + other).astype(np.float32)


def rows(z: np.ndarray, *, examples: bool = False) -> np.ndarray:
  """Centred samples in float64: positions, or examples with all their features."""
  z = z.astype(np.float64).reshape(len(z) if examples else -1, -1 if examples else z.shape[-1])
  return z - z.mean(0)


def exact_cka(z: np.ndarray, other: np.ndarray, examples: bool) -> float:
  """Unbiased linear CKA."""
  k, m = (cka.u_centred(rows(x, examples=examples)) for x in (z, other))
  return np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m))


def exact_r2(z: np.ndarray, other: np.ndarray) -> float:
  """How well `other` predicts `z`, mean over channels."""
  z, other = rows(z), rows(other)
  residual = z - other @ np.linalg.lstsq(other, z, rcond=None)[0]
  return np.mean(1 - np.sum(residual**2, 0) / np.sum(z**2, 0))


def exact_cca(z: np.ndarray, other: np.ndarray) -> float:
  """Mean canonical correlation."""
  (q, _), (p, _) = (np.linalg.qr(rows(x)) for x in (z, other))
  return np.mean(np.linalg.svd(q.T @ p, compute_uv=False))


def exact_expvar(z: np.ndarray, other: np.ndarray) -> float:
  """Wald et al. 2023, Eq. 8-10, CELU included."""
  residual = z.astype(np.float64) - other
  ratio = np.sum(residual**2, (0, 1, 2)) / (np.sum(rows(z) ** 2, 0) + 1e-4)
  return np.mean(np.where(ratio < 1, 1 - ratio, np.expm1(1 - ratio)))


MEASURES = {
  "LinCKA, examples": (similarity.lincka, functools.partial(exact_cka, examples=True)),
  "LinCKA, positions": (
    functools.partial(similarity.lincka, samples="position"),
    functools.partial(exact_cka, examples=False),
  ),
  "R²": (similarity.r2, exact_r2),
  "CCA": (similarity.cca, exact_cca),
  "ExpVar": (similarity.expvar, exact_expvar),
}


def closed_form() -> float:
  """Ridge regression of all channels."""
  z, other = pair()

  @jax.jit
  def ours(z, other):
    weights, _ = similarity.solve_affine(similarity.moments(z, other), ridge=RIDGE)
    return weights

  x, y = rows(z), rows(other)
  added = RIDGE * np.mean(np.sum(x * x, 0)) * np.eye(x.shape[1])
  return relative(ours(z, other), np.linalg.solve(x.T @ x + added, x.T @ y))


def all_pairs() -> float:
  """Of two batches, in minibatches."""
  data = cka.activations(2, 0, ((4, 4, 8), (2, 2, 16)), batch=64, mean=10.0)
  return np.max(np.abs(cka.all_pairs(data) - cka.reference(data)))


def convolution(dtype: str) -> float:
  """3x3, 64 channels, as the networks have it, against a sum over shifts."""
  rng = np.random.default_rng(0)
  images, kernel = rng.normal(size=(8, 8, 8, 64)), rng.normal(size=(3, 3, 64, 32))
  padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
  exact = sum(padded[:, i : i + 8, j : j + 8] @ kernel[i, j] for i in range(3) for j in range(3))
  convolve = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(1, 1),
    padding="SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  return relative(jax.jit(convolve)(jnp.asarray(images, dtype), jnp.asarray(kernel, dtype)), exact)


def augmented(setting: Setting, device: jax.Device) -> float:
  """The share of pixels that differ from those that another device, or order, gives."""
  images, config = setting.images[:BATCH], setting.config.augment
  seeds = np.arange(BATCH)

  @jax.jit
  def run(seeds, images):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), seeds)
    return augment(keys, images, config)

  first_device = setting.mesh.devices.flat[0]
  reference = run(*jax.device_put((seeds, images), first_device))
  other = run(*jax.device_put((seeds[::-1], images[::-1]), device))
  return np.mean(np.asarray(reference) != np.asarray(other)[::-1])
