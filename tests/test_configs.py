"""Every config file builds, has the default's fields, and passes the checks."""

import importlib.util
from pathlib import Path

import pytest

from dissim_jax.config.check import check_config
from dissim_jax.configs import default

FILES = sorted(
  path for path in (Path(__file__).parents[1] / "configs").glob("*.py") if path.stem != "__init__"
)


def build(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config()


def fields(config, prefix=""):
  names = {}
  for name, value in config.items():
    below = fields(value, f"{prefix}{name}.") if hasattr(value, "items") else {prefix + name: value}
    names |= below
  return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config_builds_with_known_fields_and_passes_the_checks(path):
  config = build(path)
  assert set(fields(config)) == set(fields(default.get_config()))
  check_config(config)


def test_every_default_field_has_its_unit_in_a_comment():
  for line in Path(default.__file__).read_text().splitlines():
    if line.strip().startswith("config.") and "ConfigDict()" not in line:
      assert "#" in line, line


def test_paper_configs_have_the_papers_hyperparameters():
  """Wald et al. 2023, appendix A.1."""
  by_name = {path.stem: build(path) for path in FILES}
  for name in ("cifar10_expvar", "cifar10_l2corr", "cifar10_lincka", "cifar10_baseline"):
    config = by_name[name]
    assert (config.train.epochs, config.train.batch_size) == (250, 128)
    assert config.model.name == "resnet34"
    assert config.optimizer.to_dict() == {
      "name": "sgd",
      "learning_rate": 0.1,
      "warmup_epochs": 0.0,
      "momentum": 0.9,
      "nesterov": True,
      "b2": 0.999,
      "weight_decay": 5e-4,
    }
    assert (config.augment.crop_padding, config.augment.crop_fill) == (4, 128)
    assert (config.augment.autoaugment, config.augment.cutout) == ("cifar10", 16)
  assert by_name["cifar100_lincka"].train.epochs == 200
  assert by_name["cifar100_lincka"].model.name == "resnet101"
  assert by_name["cifar10_baseline"].dissim.weight == 0
