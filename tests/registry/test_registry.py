"""Entries of the registry: every path leads to what it says, and an entry is all that is needed."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest

from dissim_jax.configs import default
from dissim_jax.data import augment, load
from dissim_jax.registry import metrics
from dissim_jax.registry.architectures import MODELS, fewest_taps
from dissim_jax.registry.attacks import ATTACKS
from dissim_jax.registry.corruptions import CORRUPTIONS
from dissim_jax.registry.datasets import DATASETS, POLICIES, training_images
from dissim_jax.registry.entry import Entry, Quantity
from dissim_jax.registry.measures import MEASURES
from dissim_jax.registry.metrics import METRICS, TAKES, Metric
from dissim_jax.registry.objectives import JOINT, ONE_BY_ONE, OPTIMIZERS, PROJECTIONS, recipe
from dissim_jax.registry.stitching import STARTS
from dissim_jax.registry.studies import STUDIES
from dissim_jax.studies.outputs import diversity, ensembles
from dissim_jax.studies.pool import measures
from dissim_jax.studies.stitching import pair


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_metrics_have_a_function_that_takes_what_they_say(metric):
  assert set(metric.takes) <= set(TAKES[metric.of])
  pair = metric.of == "pair"
  count = sum(2 if pair and name != "labels" else 1 for name in metric.takes)
  inspect.signature(metric.function).bind(*range(count))
  assert metric.better in (-1, 0, 1) and metric.unit in ("", "%", "points")


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_measures_have_their_parts(measure):
  assert set(inspect.signature(measure.function).parameters) >= {"axis_name"}
  parts = measure.pairwise or (measure.from_moments,)
  assert measure.aligned or all(map(callable, parts))
  assert (measure.pairwise is not None) == (measure.samples == "example")
  assert measure.fitted in ("", "both", "second", "larger")


@pytest.mark.parametrize("name", MODELS)
def test_architectures_have_the_taps_they_say(name):
  entry = MODELS[name]
  assert len(entry(2).layers) == entry.taps and entry.name == name
  if not entry.patches:
    with pytest.raises(ValueError, match="no patches"):
      entry(2, patch_size=4)


def test_names_that_configs_check_are_those_that_are_known():
  assert set(STARTS) == set(pair.STARTS)
  assert set(POLICIES) == set(augment.POLICIES)


def test_fewest_taps():
  assert fewest_taps(["resnet14", "resnet8", "vit_mini"]) == ("resnet8", 3)


@pytest.mark.parametrize(
  "table", [ATTACKS, CORRUPTIONS, DATASETS, JOINT, ONE_BY_ONE, OPTIMIZERS, PROJECTIONS]
)
def test_every_path_leads_to_a_function(table):
  for name, entry in table.items():
    assert entry.name == name and entry.label and callable(entry.function)


def test_images_for_training_are_those_that_are_loaded():
  data = default.get_config().data
  for fields in ({}, {"validation": 7, "train_per_class": 20}, {"images_per_class": 5}):
    data.update(fields)
    assert training_images(data) == len(load(data).train_labels)


def test_an_entry_may_hold_the_object_itself():
  assert Entry(name="x", label="X", code=len).function is len
  assert Entry(name="x", label="X", code="metrics.pairs:q_statistic").function.__name__ == (
    "q_statistic"
  )


def test_quantities_are_shown_in_their_unit():
  assert Quantity("x", "X", +1, 1, "%").text(0.12345) == "12.3"
  assert Quantity("x", "X", -1, unit="points").title == "X [points] ↓"
  assert Quantity("x", "X").text(None) == "–"


def test_a_new_metric_is_one_entry(monkeypatch):
  """Of pairs and of groups: computed and shown by its entry alone."""
  agreement = lambda a, b: jnp.mean(jnp.asarray(a == b, jnp.float32))  # noqa: E731
  everyone = lambda classes, right: jnp.mean(jnp.where(right, classes[0] == 0, 0.0))  # noqa: E731
  new = (
    Metric(
      name="agreement",
      label="Agreement",
      code=agreement,
      of="pair",
      takes=("classes",),
      better=-1,
      unit="%",
      tables=("outputs", "diversity"),
    ),
    Metric(
      name="everyone",
      label="Everyone",
      code=everyone,
      of="group",
      takes=("classes", "right"),
      tables=("diversity",),
    ),
  )
  for metric in new:
    monkeypatch.setitem(METRICS, metric.name, metric)
  ensembles._pair_values.clear_cache()
  logits = np.random.default_rng(0).normal(size=(3, 40, 4)).astype(np.float32)
  labels = logits.sum(0).argmax(-1)
  values = ensembles.mean_pair_metrics(logits[:2], labels)
  classes = logits.argmax(-1)
  assert values["agreement"] == pytest.approx(np.mean(classes[0] == classes[1]))
  right = np.arange(40) < 30
  group = diversity._group.__wrapped__(classes, right, labels)
  assert float(group["everyone"]) == pytest.approx(np.mean((classes[0] == 0) & right))
  assert [each.key for each in metrics.quantities("outputs")][-1] == "agreement"
  assert metrics.outputs()[-1].title == "Agreement [%] ↓"
  ensembles._pair_values.clear_cache()


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_studies_have_their_parts(study):
  """What measuring and the page ask of each."""
  report, record = study.part("report"), study.part("record")
  assert callable(record.read) and list(inspect.signature(record.read).parameters) == ["results"]
  assert list(inspect.signature(report.sections).parameters)[0] == "results"
  assert all(isinstance(name, str) for name in report.PICTURES)
  if study.block:
    settings = study.part("settings")
    assert settings.FIELDS
  if study.block and not study.own_files:
    assert settings.asked(default.get_config()) is None
    parameters = list(inspect.signature(study.part("measure").measure).parameters)
    assert parameters == ["context", "settings"]
    assert record.FILE.endswith(".json") and (not record.ARRAYS or record.ARRAYS.endswith(".npz"))


def test_recipes_are_called_alike():
  names = (*ONE_BY_ONE, *JOINT)
  parameters = {tuple(inspect.signature(recipe(name)).parameters) for name in names}
  assert parameters == {("config", "planned", "dataset", "frozen", "mesh")}


def test_the_pool_measures_pairs_as_the_registry_does():
  """Its definitions are of NumPy, as what reads files needs no JAX."""
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 4, 200)
  classes = [np.where(rng.random(200) < 0.6, labels, rng.integers(0, 4, 200)) for _ in range(3)]
  a, b = (own == labels for own in classes[:2])
  given = (*map(jnp.asarray, classes[:2]), jnp.asarray(labels))
  for name in ("error_consistency", "error_inconsistency"):
    value = float(METRICS[name].function(*given))
    assert getattr(measures, name)(a, b) == pytest.approx(value, rel=1e-5), name
  together = np.where(classes[0] == classes[1], classes[0], classes[2])
  wrong = [float(np.mean(own != labels)) for own in (together, *classes)]
  rate = METRICS["error_reduction_rate"].function(
    jnp.stack(classes), jnp.asarray(together), jnp.asarray(labels)
  )
  assert measures.error_reduction_rate(wrong[0], wrong[1:]) == pytest.approx(float(rate), rel=1e-5)
