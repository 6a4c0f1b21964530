"""Every config file builds, has the default's fields, and passes the checks."""

import importlib.util
from pathlib import Path

import pytest

from dissim_jax.config import source
from dissim_jax.config.check import check_config
from dissim_jax.configs import cifar10, cifar10_expvar, default
from dissim_jax.errors import UserError

FILES = sorted(
  path for path in (Path(__file__).parents[2] / "configs").glob("*.py") if path.stem != "__init__"
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
  for method in cifar10.METHODS:
    config = cifar10.get_config(method)
    check_config(config)
    if method == "cifar100":
      assert (config.train.epochs, config.model.name) == (200, "resnet101")
      continue
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
  assert cifar10.get_config("baseline").dissim.weight == 0
  assert cifar10.get_config("l2corr").dissim.metric == "l2corr"
  assert cifar10_expvar.get_config().to_dict() == cifar10.get_config().to_dict()


def test_a_family_takes_a_method_and_may_share_its_name_with_a_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "cifar10").mkdir()  # of data
  assert source.load("cifar10:lincka").dissim.metric == "lincka"
  assert source.load("cifar10").dissim.metric == "expvar"
  with pytest.raises(UserError, match="'linkca': choose one of expvar, baseline, lincka"):
    source.load("cifar10:linkca")
