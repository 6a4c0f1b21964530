"""Additions from outside: modules of the user's that add entries to the registry.

A module is imported because the user names it, in `config.plugins` or by `--plugins`, and never
because a file of results does. It calls the functions of this module when it is imported; then its
measure, metric, corruption, architecture, attack or data set has the standing of one of ours: in
configs, checks, `--help`, results and reports.

A similarity measure, with an option that becomes `dissim.options.agreement.scale`:

  # my_pkg/measures.py; python -m dissim_jax.main --plugins=my_pkg.measures …
  import jax.numpy as jnp
  from dissim_jax.plugins import register_measure
  from dissim_jax.registry import fields

  def agreement(z, z_hat, *, scale=1.0):  # [n, ...] each; without axis_name: of the whole batch
    return jnp.exp(-scale * jnp.mean((z - z_hat) ** 2))  # 1 = identical

  register_measure(
    "agreement", agreement, label="Agreement", describe="exp of the negative squared distance",
    aligned=True, options={"scale": fields.number(1.0, "of the squared distance", above=True)},
  )
"""

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dissim_jax.errors import UserError
from dissim_jax.names import listed
from dissim_jax.registry.architectures import MODELS, Architecture
from dissim_jax.registry.attacks import ATTACKS
from dissim_jax.registry.corruptions import CORRUPTIONS, Corruption
from dissim_jax.registry.datasets import DATASETS, DataSet
from dissim_jax.registry.entry import Entry
from dissim_jax.registry.measures import MEASURES, PENALTIES, Measure
from dissim_jax.registry.metrics import METRICS, TAKES, Metric

_SEVERITIES = 6  # 0 … 5
_loaded: list[str] = []


def load(modules: Iterable[str]) -> None:
  """Imports modules that the user names, each once.

  Raises:
    UserError: one cannot be imported.
  """
  for name in listed(modules):
    if name in _loaded:
      continue
    if os.getcwd() not in sys.path:
      sys.path.append(os.getcwd())  # As `python -m` has it, and a console script has not.
    try:
      importlib.import_module(name)
    except UserError:
      raise
    except (Exception, SystemExit) as error:  # The module is the user's Python.
      reason = " ".join(f"{type(error).__name__}: {error}".split())
      raise UserError(f"plugins={name!r}: cannot be imported ({reason})") from error
    _loaded.append(name)


def loaded() -> list[str]:
  """The modules that were imported, in order; a member remembers them."""
  return list(_loaded)


def require(needed: Iterable[str], where: str) -> None:
  """Raises UserError unless the modules were named by the user; `where` names what needs them.

  They are not imported: a file of results may come from anywhere.
  """
  if missing := [name for name in listed(needed) if name not in _loaded]:
    raise UserError(
      f"{where} was made with modules that are not named here: give --plugins={','.join(missing)}"
    )


def _add(table: dict[str, Any], entry: Entry) -> None:
  """Adds an entry; a module that is run again may replace its own, but no name stands for two."""
  if not entry.name.isidentifier():
    raise UserError(f"{entry.name!r} cannot be registered: a name is letters, digits and _")
  old = table.get(entry.name)
  module = [getattr(each.code, "__module__", None) for each in (old, entry) if each is not None]
  if old is not None and (module[0] is None or module[0] != module[1]):
    raise UserError(f"{entry.name!r} cannot be registered: there is one of that name already")
  table[entry.name] = entry


def register_measure(
  name: str,
  function: Callable[..., Any],
  *,
  label: str = "",
  describe: str = "",
  options: Mapping[str, Any] | None = None,
  penalty: bool = True,
  **properties: Any,
) -> None:
  """Adds a similarity measure.

  Args:
    name: in configs (`dissim.metric`) and on command lines.
    function: `f(z, z_hat, *, axis_name=None, **options) -> scalar`, larger = more similar; one that
      takes no `axis_name` is given the gathered inputs of all devices.
    label: in tables and figures.
    describe: one line of what it is.
    options: by name, `registry.fields` that become `dissim.options.<name>.<option>`.
    penalty: whether members may be trained against it: differentiable and bounded.
    properties: see `registry.measures.Measure`: `aligned`, `low`, `high`, `symmetric`, `samples`,
      `streamed` (which `compare` needs), `up_to_linear`, `fitted`.
  """
  parameters = inspect.signature(function).parameters
  if unknown := [option for option in options or {} if option not in parameters]:
    raise UserError(f"{name!r} cannot be registered: its function takes no {unknown[0]!r}")
  called = function if "axis_name" in parameters else _gathered(function)
  entry = Measure(
    name=name,
    label=label or name,
    code=called,
    describe=describe or label or name,
    options=dict(options or {}),
    penalty=penalty,
    **properties,
  )
  _add(MEASURES, entry)
  if penalty and name not in PENALTIES:
    PENALTIES.append(name)


def _gathered(function: Callable[..., Any]) -> Callable[..., Any]:
  """A measure that knows nothing of devices, given the examples of all of them."""

  @functools.wraps(function)
  def measure(z, z_hat, *, axis_name=None, **options):
    import jax

    if axis_name is not None:
      gather = functools.partial(jax.lax.all_gather, axis_name=axis_name, tiled=True)
      z, z_hat = gather(z), gather(z_hat)
    value = function(z, z_hat, **options)
    # All devices have computed one number; their mean says so.
    return value if axis_name is None else jax.lax.pmean(value, axis_name)

  return measure


def register_metric(
  name: str,
  function: Callable[..., Any],
  *,
  of: str,
  takes: Iterable[str],
  label: str = "",
  **properties: Any,
) -> None:
  """Adds a measure of predictions, which is computed, written and shown.

  Args:
    name: in files.
    function: takes `takes` in that order, returns a scalar, and works under `jit`.
    of: "pair", "group" or "ensemble".
    takes: what it is given, see `registry.metrics.TAKES`.
    label: in tables.
    properties: see `registry.metrics.Metric`: `better`, `unit`, `decimals`, `head`, `both_ways`,
      `tables` (the table of diversity where nothing else is said).

  Example:
    register_metric("same_class", lambda a, b: jnp.mean(a == b), of="pair", takes=("classes",),
                    label="Same class", better=-1, unit="%", tables=("outputs", "diversity"))
  """
  if of not in TAKES:
    raise UserError(f"{name!r} cannot be registered: of={of!r} is none of {', '.join(TAKES)}")
  if unknown := [each for each in takes if each not in TAKES[of]]:
    raise UserError(
      f"{name!r} cannot be registered: a metric of a {of} takes none of {unknown[0]!r}, but "
      f"{', '.join(TAKES[of])}"
    )
  tables = properties.pop("tables", ("gains",) if of == "ensemble" else ("diversity",))
  _add(
    METRICS,
    Metric(
      name=name,
      label=label or name,
      code=function,
      of=of,
      takes=tuple(takes),
      tables=tables,
      **properties,
    ),
  )


def register_corruption(
  name: str,
  function: Callable[..., Any],
  *,
  constants: Mapping[str, tuple[float, ...]],
  label: str = "",
  reference: str = "",
  host: bool = False,
) -> None:
  """Adds a corruption of test images.

  Args:
    name: in `corruption.names`; its random numbers follow from it.
    function: `(keys, images, severity) -> images`, see `dissim_jax.corruptions`.
    constants: by name, six values, at severities 0 … 5; the function gets them, interpolated, from
      `corruptions.severities.constants(name, severity)`.
    label: in tables and figures.
    reference: the paper that it is from.
    host: whether it runs in NumPy on the host; others are jitted.

  Example:
    def grey(keys, images, severity):
      (share,) = constants("grey", severity)
      mean = jnp.mean(images.astype(jnp.float32), -1, keepdims=True)
      return jnp.round(images + share * (mean - images)).astype(jnp.uint8)

    register_corruption("grey", grey, constants={"share": (0, 0.2, 0.4, 0.6, 0.8, 1)})
  """
  for constant, values in constants.items():
    if len(values) != _SEVERITIES:
      raise UserError(
        f"{name!r} cannot be registered: {constant} has {len(values)} values, {_SEVERITIES} are "
        "needed, for severities 0 to 5"
      )
  _add(
    CORRUPTIONS,
    Corruption(
      name=name,
      label=label or name,
      code=function,
      reference=reference,
      constants=dict(constants),
      host=host,
    ),
  )


def register_architecture(
  name: str,
  design: Any,
  *,
  taps: int,
  label: str = "",
  patches: bool = False,
  reference: str = "",
) -> None:
  """Adds an architecture.

  Args:
    name: in `model.name` and `ensemble.models`.
    design: a `models.Design`: how the network is built, and what it is made of.
    taps: how many the network has: its layers.
    label: in tables.
    patches: whether it takes a `patch_size`.
    reference: the paper that it is from.

  Example:
    def build(num_classes, *, width_multiplier=1.0, dtype=jnp.float32, axis_name=None, stem=32):
      ops = resnet.Ops(dtype, axis_name)
      layers = resnet.Stem(round(16 * width_multiplier), ops, stem), MyBlock(ops)
      return Layered(layers, resnet.Head(num_classes, ops), ("stem", "block 1"))

    register_architecture("mine", Design(build, lambda stem: Components("CNN", "conv", "BN", …)),
                          taps=2)
  """
  _add(
    MODELS,
    Architecture(
      name=name, label=label or name, code=design, taps=taps, patches=patches, reference=reference
    ),
  )


def register_attack(
  name: str, function: Callable[..., Any], *, label: str = "", reference: str = ""
) -> None:
  """Adds an attack.

  Args:
    name: in `transfer.attack` and `--attack`.
    function: called as `attacks.pgd` is, `f(logits, images, labels, *, bounds, …) -> images`, with
      those settings of `registry.attacks.Attack` that it takes.
    label: in reports.
    reference: the paper that it is from.

  Example:
    def blank(logits, images, labels, *, epsilon, bounds=(0.0, 1.0), attacked=None, **_):
      return jnp.clip(images - epsilon, *bounds)

    register_attack("blank", blank, label="Darker")
  """
  _add(ATTACKS, Entry(name=name, label=label or name, code=function, reference=reference))


def register_data_set(
  name: str,
  function: Callable[..., Any],
  *,
  label: str = "",
  classes: int | None = None,
  images: int | None = None,
  reference: str = "",
) -> None:
  """Adds a data set.

  Args:
    name: in `data.name`.
    function: the `data` block of a config to a dict of arrays, see `registry.datasets.DataSet`.
    label: in reports.
    classes: how many; None if only the data tell.
    images: for training; None if only the data tell.
    reference: the paper that it is from.

  Example:
    def stripes(data):
      images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
      labels = np.arange(60, dtype=np.int32) % 3
      return {"train_images": images[:40], "train_labels": labels[:40],
              "test_images": images[40:], "test_labels": labels[40:],
              "class_names": np.array(["a", "b", "c"])}

    register_data_set("stripes", stripes, classes=3, images=40)
  """
  _add(
    DATASETS,
    DataSet(
      name=name,
      label=label or name,
      code=function,
      classes=classes,
      images=images,
      reference=reference,
    ),
  )
