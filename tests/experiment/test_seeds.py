"""A seed is any whole number from 0, from the command line to the report."""

import itertools
import json
import types

import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from dissim_jax import attacks, command_line, corruptions, main, metrics
from dissim_jax.config import blocks, source
from dissim_jax.config.check import check_config
from dissim_jax.config.values import get
from dissim_jax.errors import UserError
from dissim_jax.files.workdir import check_workdir
from dissim_jax.pages import seeds_findings, seeds_means
from dissim_jax.seeds import folded
from dissim_jax.studies.pool import clusters
from dissim_jax.studies.pool import ensembles as pool_ensembles
from dissim_jax.studies.pool.settings import Settings
from dissim_jax.studies.stitching import pair
from dissim_jax.train.loop import epoch_order
from dissim_jax.train.recipes import member_seed
from tests.pages.test_report import make_run

SMALL = (0, 1, 12345, 2**31 - 1)
LARGE = (2**31, 2**31 + 1, 2**32, 2**32 + 1, 2**63, 2**64, 2**64 + 1, 10**30, 10**30 + 1)


def test_small_seeds_are_what_they_were_and_large_ones_fit():
  assert [folded(seed) for seed in SMALL] == list(SMALL)
  found = [folded(seed) for seed in (*SMALL, *LARGE, *(2 ** (32 * k) for k in range(2, 9)))]
  assert all(0 <= seed < 2**31 for seed in found)
  # 2^64 is there twice; the generator's own output, from NumPy's stable SeedSequence.
  assert len(set(found)) == len(found) - 1
  assert folded(2**31) == int(np.random.SeedSequence(2**31).generate_state(1)[0]) // 2


def test_members_of_large_seeds_are_not_those_of_small_ones():
  # A list of entropy is one number: [2^32, 0] is [0, 1, 0], which is [0, 1] with zeros behind.
  assert member_seed(2**32, 0) != member_seed(0, 1)
  found = {member_seed(seed, place) for seed in (*SMALL, *LARGE) for place in range(3)}
  assert len(found) == 3 * len(SMALL + LARGE) and all(0 <= seed < 2**31 for seed in found)
  expected = np.random.SeedSequence([7, 2]).generate_state(1)[0] >> 1
  assert member_seed(7, 2) == expected  # As before there were large seeds.


def _votes(seed):
  logits = np.stack([np.eye(4)[np.arange(200) % 4], np.eye(4)[(np.arange(200) + 1) % 4]])
  return metrics.combine(jnp.asarray(logits, jnp.float32), "vote", seed)[1]


def _attack(seed):
  images = jnp.full((2, 4, 4, 1), 0.5)
  logits = lambda x: x.reshape(len(x), -1)[:, :3]  # noqa: E731
  return attacks.pgd(logits, images, jnp.zeros(2, int), iterations=1, seed=seed)


def _clusters(seed):
  similarity = np.random.default_rng(0).random((8, 8))
  return clusters.spectral_clusters(similarity + similarity.T, 3, 1, seed)


def _stitch(seed):
  study = types.SimpleNamespace(fitted=[types.SimpleNamespace(xy=np.zeros((3, 4)))])
  return pair.StitchPair.start(study, 0, "random", seed).kernel


DRAWS = {
  "order of images": lambda seed: epoch_order(seed, 1, 100, 10),
  "tied votes": _votes,
  "random start": _attack,
  "random stitch": _stitch,
  "corruption": lambda seed: corruptions.corrupt(
    "gaussian_noise", np.full((2, 8, 8, 1), 128, np.uint8), 3, seed
  ),
  "sampled ensembles": lambda seed: pool_ensembles.draw(np.arange(12) % 3, 4, 3, 20, seed).members,
}


@pytest.mark.parametrize("what", DRAWS)
def test_every_draw_takes_every_seed_and_follows_from_it(what):
  draw = DRAWS[what]
  found = [np.asarray(draw(seed)) for seed in (0, 2**31 - 1, 2**31, 2**32, 10**30)]
  for one, other in itertools.combinations(found, 2):
    assert not np.array_equal(one, other)
  np.testing.assert_array_equal(found[-1], draw(10**30))


def test_analysis_takes_every_seed():
  assert Settings(seed=10**30).seed == 10**30
  np.testing.assert_array_equal(_clusters(10**30), _clusters(10**30))


def test_every_seed_of_a_config_has_any_size_and_is_not_negative():
  fields = [field for field in blocks.fields() if "seed" in field.rpartition(".")[2]]
  assert sorted(fields) == ["corruption.seed", "data.split_seed", "seed", "transfer.seed"]
  for field in fields:
    config = source.load("configs/digits_expvar.py")
    source.read(config, field, str(10**400))
    check_config(config)
    source.read(config, field, "-1")
    with pytest.raises(ValueError, match=f"{field}=-1: must be a whole number of at least 0"):
      check_config(config)


def test_a_report_over_seeds_takes_large_ones_in_order(tmp_path):
  order = (3, 2**31, 10**30)
  for seed in order:
    make_run(tmp_path / f"s{seed}", seed=seed)
  runs = seeds_means.read_runs([str(tmp_path / f"s{seed}") for seed in reversed(order)])
  assert tuple(runs.seeds) == order
  assert f"seeds 3, {2**31}, {10**30}" in seeds_findings.facts(runs)


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_large_seeds_is_trained_measured_and_reported(tmp_path):
  seeds = {"seed": 10**30, "corruption.seed": 2**31, "transfer.seed": 2**64}
  seeds["data.split_seed"] = 2**32
  values = {
    **seeds,
    "model.name": "stem_alone",
    "dissim.taps": 0,
    "train.epochs": 1,
    "data.images_per_class": 4,
    "ensemble.baseline": False,
    "dissim.weight": 0,
    "evaluate.ensemble_rule": "vote",
    "corruption.names": "gaussian_noise",
    "corruption.severities": 1,
    "transfer.attack": "pgd",
    "transfer.iterations": 1,
    "transfer.epsilon": "8/255",
    "transfer.images": 20,
    "ensemble.size": 1,
  }
  run = tmp_path / "run"
  settings = [f"--config.{field}={value}" for field, value in values.items()]
  flags.FLAGS.unparse_flags()
  main.main(command_line.parse(["main", "--config=tests/tiny.py", f"--workdir={run}", *settings]))
  said = {file.stem: json.loads(file.read_text()) for file in (run / "evaluation").glob("*.json")}
  assert said["metrics"]["seed"] == 10**30 and said["robustness"]["seed"] == 2**31
  assert said["transferability"]["attack"]["seed"] == 2**64
  assert f"seed {10**30}" in (run / "report" / "report.html").read_text()
  config = source.load(str(run))
  assert {field: get(config, field) for field in seeds} == seeds
  assert check_workdir(config, run)  # `--config=RUN` is that experiment.
  config.seed += 1
  with pytest.raises(UserError, match="seed"):
    check_workdir(config, run)
