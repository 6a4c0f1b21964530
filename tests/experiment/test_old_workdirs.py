"""Folders of earlier versions, whose configs lack fields that are newer, still open."""

import json

import pytest

from dissim_jax.config.blocks import complete
from dissim_jax.configs import default
from dissim_jax.errors import UserError
from dissim_jax.files.atomic import write_json
from dissim_jax.files.workdir import check_workdir, read_config
from dissim_jax.members.find import find_all
from dissim_jax.pages import seeds_means
from dissim_jax.pages.sweep import rows
from tests.pages.test_report_seeds import make_seeds


def plain(config):
  return json.loads(json.dumps(config.to_dict()))


def drop(values, *fields):
  """The values without some dotted fields."""
  for field in fields:
    *blocks, name = field.split(".")
    block = values
    for part in blocks:
      block = block[part]
    del block[name]
  return values


NEWER = ("data.background", "dissim.options.rsa", "model.stem", "augment", "dissim.taps")


def test_missing_fields_have_their_defaults_and_others_stay():
  config = default.get_config()
  config.train.epochs = 3
  config.data.background = 7
  whole = plain(config)
  assert complete(drop(plain(config), *NEWER)) == whole | {
    "data": whole["data"] | {"background": 128}
  }
  assert complete({"mine": {"x": 1}})["mine"] == {"x": 1}
  complete({})["data"]["name"] = "changed"
  assert complete({}) == plain(default.get_config())  # a copy was changed
  assert complete({"ensemble": 3})["ensemble"] == 3


@pytest.mark.parametrize("field", NEWER)
def test_workdir_without_a_newer_field_opens_unless_the_field_is_set(tmp_path, field):
  config = default.get_config()
  write_json(tmp_path / "config.json", drop(plain(config), field) | {"command": "x"})
  assert check_workdir(config, tmp_path)
  config.data.background = 7
  if field == "data.background":
    with pytest.raises(UserError, match="data.background .128 there, 7 now.;"):
      check_workdir(config, tmp_path)
  config.data.background = 128
  config.train.epochs += 1
  with pytest.raises(UserError, match="differs in train.epochs .100 there, 101 now."):
    check_workdir(config, tmp_path)


def test_a_field_that_is_no_more_is_another_config(tmp_path):
  config = default.get_config()
  write_json(tmp_path / "config.json", plain(config) | {"gone": 1})
  with pytest.raises(UserError, match="gone .1 there, None now."):
    check_workdir(config, tmp_path)


def test_config_of_an_old_run_is_read_whole(tmp_path):
  write_json(tmp_path / "config.json", drop(plain(default.get_config()), *NEWER))
  config = read_config(tmp_path, "--workdir")
  assert config.data.background == 128 and list(config.dissim.taps) == [3]
  for field in ("data", "seed"):
    write_json(tmp_path / "config.json", drop(plain(default.get_config()), field))
    (tmp_path / "member_0").mkdir(exist_ok=True)
    write_json(tmp_path / "member_0" / "member.json", {})
    with pytest.raises(UserError, match=f"--members=.*: its config.json has no {field!r}"):
      find_all([tmp_path], "--members")


def test_old_and_new_runs_are_seeds_of_one_experiment(tmp_path):
  workdirs_of = make_seeds(tmp_path, robust=False)
  path = tmp_path / "seed_1" / "config.json"
  old = json.loads(path.read_text())
  old["data"].pop("background", None)
  new = json.loads((tmp_path / "seed_0" / "config.json").read_text())
  new["data"]["background"] = 128
  write_json(path, old)
  write_json(tmp_path / "seed_0" / "config.json", new)
  assert len(seeds_means.read_runs(workdirs_of).runs) == len(workdirs_of)
  assert rows.shared(old) == rows.shared(new)
  new["data"]["background"] = 0
  write_json(tmp_path / "seed_0" / "config.json", new)
  with pytest.raises(UserError, match="data.background=0 in .*seed_0 but 128 in"):
    seeds_means.read_runs(workdirs_of)
  assert rows.shared(old) != rows.shared(new)
