"""What a sweep file may yield, its checks and its plan; nothing is trained."""

import io
import itertools
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import rich.console
from absl import flags

from dissim_jax import command_line
from dissim_jax.config.values import plain
from dissim_jax.configs import cifar10
from dissim_jax.configs.sweeps import wald_multi_tap
from dissim_jax.errors import UserError
from dissim_jax.files import atomic
from dissim_jax.launch import local, options, progress, sweep, table, tasks
from dissim_jax.launch.sweep import Comparison, Run
from dissim_jax.launch.tasks import Task
from dissim_jax.models import MODELS

DIGITS = "configs/digits_expvar.py"
HEAD = "from launch.sweep import Comparison, Run\nD = 'configs/digits_expvar.py'\n"
SWEEPS = Path("configs/sweeps")


def parsed(sweep_file, root, *arguments):
  """The flags of a command line of the local engine."""
  values = flags.FlagValues()
  holders = local.define_flags(values)
  values(["launch", f"--sweep={sweep_file}", f"--root={root}", *arguments])
  return holders


def launch(sweep_file, root, *arguments):
  """The local engine, as from the command line."""
  holders = parsed(sweep_file, root, *arguments)
  command_line.guarded(lambda argv: local.main(argv, holders))(["launch"])


@pytest.fixture
def written(tmp_path):
  """Writes a sweep file whose `get_sweep` has the given lines."""

  def write(*lines, head=HEAD):
    path = tmp_path / "mine.py"
    path.write_text(head + "def get_sweep():\n" + "".join(f"  {line}\n" for line in lines))
    return path

  return write


def asked(name, root="/nowhere/root", *arguments):
  return options.request(parsed(SWEEPS / f"{name}.py", root, *arguments)).tasks


# The paper's sweeps.


@pytest.mark.parametrize(
  "name, runs, models, comparisons",
  [
    ("wald_table1", 25, 5 * (5 + 4 * 4), 4),
    ("wald_tables2_4", 5 * 37, 5 * (2 + 36), 0),
    ("wald_multi_tap", 25, 5 * (2 + 4), 0),
    ("wald_resnet101_cifar100", 25, 5 * (2 + 4), 0),
    ("wald_architectures", 75, 3 * 5 * (2 + 4), 0),
    ("digits_table1", 15, 3 * (5 + 4 * 4), 4),
  ],
)
def test_sweeps_train_the_models_that_they_say(name, runs, models, comparisons):
  found = asked(name)
  assert [sum(t.kind == kind for t in found) for kind in ("run", "comparison")] == [
    runs,
    comparisons,
  ]
  assert sum(task.models for task in found) == models
  names = [task.name for task in found]
  assert all(names.index(need) < names.index(task.name) for task in found for need in task.needs)


@pytest.mark.parametrize(
  "name, size",
  [
    ("wald_table1", 5),
    ("wald_tables2_4", 2),
    ("wald_multi_tap", 2),
    ("wald_resnet101_cifar100", 2),
    ("wald_architectures", 2),
  ],
)
def test_all_runs_of_a_seed_share_the_baselines_first_member(name, size):
  runs = {task.name: task for task in asked(name) if task.kind == "run"}
  seeds = set()
  for task in runs.values():
    config = task.config
    seeds.add(config["seed"])
    assert config["ensemble"]["size"] == size and not config["ensemble"]["baseline"]
    if config["dissim"]["weight"] == 0:
      assert not task.needs and task.name.endswith("/baseline") and task.models == size
      continue
    (parent,) = task.needs
    assert config["ensemble"]["teachers"] == [f"/nowhere/root/{parent}/member_0"]
    mother = runs[parent].config
    assert mother["dissim"]["weight"] == 0 and task.models == size - 1
    for block in ("seed", "data", "augment", "model", "optimizer", "train", "dtype"):
      assert mother[block] == config[block], block
  assert seeds == {0, 1, 2, 3, 4}


def penalties(name):
  """{(model, data): set of (metric, taps, lambda)} of the regularised runs."""
  found = {}
  for task in asked(name):
    dissim, config = task.config["dissim"], task.config
    if dissim["weight"]:
      group = found.setdefault((config["model"]["name"], config["data"]["name"]), {})
      key = (dissim["metric"], tuple(dissim["taps"]), dissim["weight"])
      group.setdefault(key, set()).add(config["seed"])
  assert all(len(seeds) == 5 for group in found.values() for seeds in group.values())
  return {key: set(group) for key, group in found.items()}


def test_sweeps_vary_what_the_paper_varies():
  thirty_six = itertools.product(("expvar", "lincka", "l2corr"), (1, 3, 8, 13), (0.25, 1, 4))
  assert penalties("wald_tables2_4") == {
    ("resnet34", "cifar10"): {(metric, (tap,), weight) for metric, tap, weight in thirty_six}
  }
  assert penalties("wald_resnet101_cifar100") == {
    ("resnet101", "cifar100"): {("lincka", (tap,), 1.0) for tap in (1, 3, 20, 32)}
  }
  assert penalties("wald_multi_tap") == {
    ("resnet34", "cifar10"): {("expvar", taps, 1.0) for taps in wald_multi_tap.TAP_SETS}
  }
  sets = [set(taps) for taps in wald_multi_tap.TAP_SETS]
  assert len(sets[0]) == 1 and all(a < b for a, b in itertools.pairwise(sets))
  assert sets[-1] == {1, 3, 8, 13}


@pytest.mark.parametrize(
  "model, blocks",
  [("resnet18", (2, 2, 2, 2)), ("resnet34", (3, 4, 6, 3)), ("resnet101", (3, 4, 23, 3))],
)
def test_architectures_are_regularised_at_the_same_places(model, blocks):
  assert len(MODELS[model](10).layers) == 1 + sum(blocks)
  third = blocks[0] + blocks[1]
  places = {1, blocks[0], third + 1, third + blocks[2]}
  found = penalties("wald_architectures")[model, "cifar10"]
  assert found == {("expvar", (tap,), 1.0) for tap in places}


# What is refused.

RUN = "yield Run('a', D)"
BROKEN = {
  "unknown field": (["yield Run('a', D, {'dissim.wieght': 1.0})"], "did you mean 'dissim.weight'?"),
  "a block": (["yield Run('a', D, {'train': 3})"], "train: it is a block, set one of its fields"),
  "number": (
    ["yield Run('a', D, {'dissim.weight': 'high'})"],
    "run 'a': dissim.weight='high': must be a number",
  ),
  "whole number": (
    ["yield Run('a', D, {'train.epochs': 2.5})"],
    "train.epochs=2.5: must be a whole number",
  ),
  "bool": (
    ["yield Run('a', D, {'augment.flip': 'maybe'})"],
    "augment.flip='maybe': must be True or False",
  ),
  "text": (["yield Run('a', D, {'data.dir': None})"], "data.dir=None: must be a text"),
  "none": (["yield Run('a', D, {'seed': None})"], "seed=None: must be a whole number"),
  "tuple": (
    ["yield Run('a', D, {'dissim.taps': '(1,'})"],
    "dissim.taps='(1': must be a whole number of at least 0",
  ),
  "refused": (
    ["yield Run('a', D, {'dissim.taps': (17,)})"],
    "run 'a': dissim.taps=[17]: resnet14 has taps 0..6",
  ),
  "twice": ([RUN, RUN], "two runs of the sweep are named 'a'"),
  "cycle": (
    [
      "yield Run('a', D, teachers=('c/member_0',))",
      "yield Run('b', D, teachers=('a/member_0',))",
      "yield Run('c', D, teachers=('b/member_0',))",
    ],
    "wait for each other: '",
  ),
  "itself": (["yield Run('a', D, teachers=('a/member_0',))"], "'a' needs 'a'"),
  "no parent": (
    [RUN, "yield Run('b', D, teachers=('A/member_0',))"],
    "run 'b' needs 'A', which is no run of the sweep",
  ),
  "no member": (
    [RUN, "yield Run('b', D, teachers=('a/member_7',))"],
    "'a' has the members member_0, member_1, independent_1",
  ),
  "no slash": ([RUN, "yield Run('b', D, teachers=('member_7',))"], "give 'run/member'"),
  "teachers text": (
    [RUN, "yield Run('b', D, teachers='a/member_0')"],
    "teachers='a/member_0': must be a tuple of texts",
  ),
  "teachers twice": (
    [RUN, "yield Run('b', D, {'ensemble.teachers': ()}, ('a/member_0',))"],
    "give teachers or ensemble.teachers, not both",
  ),
  "too many": (
    [RUN, "yield Run('b', D, {'ensemble.size': 1}, ('a/member_0', 'a/member_1'))"],
    "run 'b': ensemble.teachers names 2 members",
  ),
  "inside": ([RUN, "yield Run('a/b', D)"], "'a/b' would lie in the folder of run 'a'"),
  "no config": (["yield Run('a', 'nowhere.py')"], "config='nowhere.py': there is no such file"),
  "config": (["yield Run('a', 3)"], "config=3: must be the path of a file, or a ConfigDict"),
  "bad config": (["yield Run('a', __file__)"], "it needs a function get_config()"),
  "overrides": (["yield Run('a', D, ['seed=1'])"], "must be a dict of values by field"),
  "raises": (["return 1 / 0"], "cannot be loaded: ZeroDivisionError"),
  "half way": ([RUN, "raise OSError('a\\nb')"], "cannot be loaded: OSError: a b"),
  "key": (["yield {}['get_sweep']"], "cannot be loaded: KeyError: 'get_sweep'"),
  "exits": (["raise SystemExit(0)"], "cannot be loaded: SystemExit: 0"),
  "nothing": (["return", RUN], "get_sweep() yields no run"),
  "returns None": (["pass"], "needs a function get_sweep() that yields runs"),
  "not a run": ([RUN, "yield 'b'"], "yields 'b': only Run and Comparison can be launched"),
  "compares none": ([RUN, "yield Comparison('c', ())"], "give one run or two different ones"),
  "compares itself": ([RUN, "yield Comparison('c', ('a', 'a'))"], "two different ones"),
  "compares text": ([RUN, "yield Comparison('c', 'a')"], "runs='a': must be a tuple of texts"),
  "measure": (
    [RUN, "yield Comparison('c', ('a',), measures=('linkca',))"],
    "comparison 'c': measures=linkca: choose among",
  ),
  "member": (
    [RUN, "yield Comparison('c', ('a',), ('member_9',))"],
    "comparison 'c': members='member_9': its runs have member_0",
  ),
}


@pytest.mark.parametrize("case", BROKEN, ids=str)
def test_broken_sweep_is_one_sentence_and_nothing_is_written(case, written, tmp_path, capsys):
  lines, told = BROKEN[case]
  with pytest.raises(SystemExit) as stop:
    launch(written(*lines), tmp_path / "root")
  error = capsys.readouterr().err
  assert stop.value.code == 2 and told in error and error.count("\n") == 1, error
  assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
  "head, told",
  [
    ("from launch.sweep import Nothing\n", "cannot be loaded: ImportError"),
    ("def get_sweep(:\n", "cannot be loaded: SyntaxError"),
    ("\0", "cannot be loaded: "),
  ],
)
def test_file_that_is_no_sweep_is_told(head, told, written):
  with pytest.raises(UserError, match=told):
    sweep.load(written("pass", head=head))


def test_a_config_that_was_built_in_python(written, tmp_path):
  """What the run's command gives is that config."""
  path = written(
    "config = cifar10.get_config('lincka')",
    "config.dissim.taps = (8, 9)",
    "config.dissim.projection.optimizer.momentum = 0.5",
    "yield Run('a', config, {'seed': 7})",
    head="from dissim_jax.configs import cifar10\n" + HEAD,
  )
  (task,) = options.request(parsed(path, tmp_path / "root")).tasks
  config = cifar10.get_config("lincka")
  config.dissim.taps = (8, 9)
  config.dissim.projection.optimizer.momentum = 0.5
  config.seed = 7
  assert task.config == plain(config)
  assert "--config=default" in task.argv and "--config.dissim.taps=(8, 9)" in task.argv
  assert not any("epochs_" in text or "warmup" in text for text in task.argv)


def test_sweep_file_that_is_missing_or_has_no_function_is_told(tmp_path):
  (tmp_path / "empty.py").write_text("")
  for path, told in (
    (tmp_path / "empty.py", "get_sweep()"),
    (tmp_path, "no such file"),
    ("x" * 5000, "no such file"),
    ("a\0b", "no such file"),
  ):
    with pytest.raises(UserError, match=told):
      sweep.load(path)


FOLDERS = (
  "; rm -rf x",
  "$(touch x)",
  "`x`",
  'it\'s "q"',
  " x ",
  "-rf",
  "é" * 100,
  "a\\nb",
  "%s",
  "{x}",
  "[red]x",
  "a*?",
  "*",
  "a/b c/d",
  ".x",
  "~",
  "x" * 200,
)
NO_NAMES = (
  "",
  "a\nb",
  "a\tb",
  "..",
  "a/../b",
  "/a",
  "a/",
  "a//b",
  "./a",
  ".",
  "launch/x",
  "sweep.json",
  "tables/x",
  "x" * 201,
  "é" * 101,
  "a\0b",
  "\udcff",
  "\x1b[2J",
  None,
  3,
)


@pytest.mark.parametrize("name", FOLDERS)
def test_any_name_that_a_folder_can_have_is_taken_literally(name):
  entries = sweep.check([Run(name, DIGITS), Run("child", DIGITS, teachers=(f"{name}/member_0",))])
  mother, child = tasks.make_tasks(entries, Path("/root/a b"))
  assert mother.argv[-1] == f"--workdir=/root/a b/{name}"
  assert child.config["ensemble"]["teachers"] == [f"/root/a b/{name}/member_0"]
  assert child.needs == (name,)


@pytest.mark.parametrize("name", NO_NAMES)
def test_name_that_leaves_the_root_or_breaks_a_line_is_refused(name):
  with pytest.raises(UserError, match="run name") as error:
    sweep.check([Run(name, DIGITS)])
  assert str(error.value).isprintable()


# Order, choice, values.


def test_parents_come_first_and_otherwise_the_order_is_kept():
  rng = random.Random(0)
  for _ in range(20):
    needs = {i: [j for j in range(i) if rng.random() < 0.2] for i in range(12)}
    runs = [
      Run(f"r{i}", DIGITS, teachers=tuple(f"r{j}/member_0" for j in needs[i])) for i in range(12)
    ]
    assert sweep.check(runs) == runs
    shuffled = rng.sample(runs, 12)
    found = sweep.check(shuffled)
    place = {run.name: found.index(run) for run in runs}
    assert all(place[f"r{j}"] < place[f"r{i}"] for i in needs for j in needs[i])
    assert sorted(found, key=runs.index) == runs


def test_long_chain_of_runs_is_no_problem():
  runs = [Run("r0", DIGITS)]
  runs += [Run(f"r{i}", DIGITS, teachers=(f"r{i - 1}/member_0",)) for i in range(1, 3000)]
  assert sweep.check(runs[::-1]) == runs


def test_cycle_is_told_in_the_direction_of_need():
  needs = {"a": "b", "b": "c", "c": "a"}
  runs = [Run(name, DIGITS, teachers=(f"{need}/member_0",)) for name, need in needs.items()]
  with pytest.raises(UserError) as error:
    sweep.check(runs)
  names = str(error.value).partition(": ")[2].replace("'", "").split(" needs ")
  assert len(names) == 4 and all(needs[a] == b for a, b in itertools.pairwise(names))


def test_only_chooses_runs_and_those_they_need():
  found = asked("wald_table1", "/r", "--only=seed_0/*_tap_8", "--only=seed_3/baseline")
  names = ["seed_0/baseline", "seed_0/expvar_tap_8", "seed_3/baseline"]
  assert [task.name for task in found] == names
  with pytest.raises(UserError, match=r"--only='seed_O/\*': no run is named so"):
    asked("wald_table1", "/r", "--only=seed_O/*")


def test_reused_member_is_taken_from_the_run_that_trained_it():
  entries = sweep.check(
    [
      Run("a", DIGITS, {"ensemble.baseline": False}),
      Run("b", DIGITS, teachers=("a/member_0",)),
      Run("c", DIGITS, {"ensemble.size": 3}, teachers=("b/member_0", "b/member_1")),
      Run("d", DIGITS, {"ensemble.size": 3}, teachers=("c/member_0", "c/member_1", "c/member_2")),
    ]
  )
  found = tasks.make_tasks(entries, Path("/r"))
  assert found[2].config["ensemble"]["teachers"] == ["/r/a/member_0", "/r/b/member_1"]
  assert found[3].config["ensemble"]["teachers"] == [
    "/r/a/member_0",
    "/r/b/member_1",
    "/r/c/member_2",
  ]
  assert found[3].needs == ("a", "b", "c") and found[2].needs == ("a", "b")
  assert [task.models for task in found] == [2, 2, 3, 2]  # Independent ones beside the others.


def test_values_reach_the_config_through_the_command_line():
  values = {
    "dissim.weight": np.float64(0.25),
    "seed": np.int64(3),
    "dissim.taps": np.array([1, 2]),
    "data.mean": [0.25],
    "augment.flip": True,
    "optimizer.momentum": 1,
    "ensemble.size": "4",
    "dissim.projection.optimizer.momentum": None,
    "data.dir": " a'b\"\\ $(x) ",
    "dissim.projection.optimizer.learning_rate": 1e-3,
  }
  (task,) = tasks.make_tasks([Run("a", DIGITS, values)], Path("/r"))
  config = task.config
  assert (config["dissim"]["weight"], config["seed"], config["ensemble"]["size"]) == (0.25, 3, 4)
  assert config["dissim"]["taps"] == [1, 2] and config["data"]["mean"] == [0.25]
  assert config["augment"]["flip"] is True and config["data"]["dir"] == " a'b\"\\ $(x) "
  projection = config["dissim"]["projection"]["optimizer"]
  assert projection["momentum"] is None and projection["learning_rate"] == 1e-3
  assert "--config.dissim.taps=(1, 2)" in task.argv and "--config.seed=3" in task.argv
  assert "--config.data.dir= a'b\"\\ $(x) " in task.argv


def test_override_is_of_every_run_and_after_its_own(written):
  path = written("yield Run('a', D, {'seed': 1})", "yield Run('b', D)")
  arguments = ("--override=seed=5", "--override=dissim.taps=3,4", "--override=data.dir=7=x")
  for task in options.request(parsed(path, "/r", *arguments)).tasks:
    assert task.config["seed"] == 5 and task.config["dissim"]["taps"] == [3, 4]
    assert task.config["data"]["dir"] == "7=x"


@pytest.mark.parametrize(
  "override, told",
  [
    ("seed", "--override='seed': give FIELD=VALUE"),
    ("=3", "give FIELD=VALUE"),
    ("sed=3", "run 'a': sed: the config has no such field, did you mean 'seed'?"),
    ("seed=x", "run 'a': seed='x': must be a whole number"),
    ("train.epochs=0", "run 'a': train.epochs=0: must be a whole number of at least 1"),
  ],
)
def test_bad_override_is_told(override, told, written):
  with pytest.raises(UserError) as error:
    options.request(parsed(written(RUN), "/r", f"--override={override}"))
  assert told in str(error.value)


# The root.


@pytest.fixture
def saved(written, tmp_path):
  """A root with the plan of a sweep of one run."""
  request = options.request(parsed(written(RUN), tmp_path / "root"))
  tasks.save_plan(request.name, request.tasks, request.root)
  return request


def everything(folder):
  return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
  "lines, arguments, told",
  [
    ([RUN], ["--override=seed=1"], r"its run 'a' was made with other settings \(--config.seed=1\)"),
    (["yield Run('a', 'configs/digits_gncl.py')"], [], "made with other settings"),
    (["yield Run('a', D, {'dissim.taps': (17,)})"], [], "taps 0..6"),
  ],
)
def test_root_keeps_the_settings_of_its_runs(saved, written, lines, arguments, told, capsys):
  before = everything(saved.root)
  for mode in ([], ["--dry_run"]):
    with pytest.raises(SystemExit) as stop:
      launch(written(*lines), saved.root, *arguments, *mode)
    assert stop.value.code == 2
  capsys.readouterr()
  with pytest.raises(UserError, match=told):
    asked = options.request(parsed(written(*lines), saved.root, *arguments))
    tasks.save_plan(asked.name, asked.tasks, asked.root)
  assert everything(saved.root) == before


def test_config_file_that_was_edited_is_told(saved):
  old = json.loads((saved.root / "sweep.json").read_text())
  old["tasks"][0]["config"]["train"]["epochs"] = 7
  (saved.root / "sweep.json").write_text(json.dumps(old))
  with pytest.raises(UserError, match="train.epochs: 7 there, 200 now"):
    tasks.save_plan(saved.name, saved.tasks, saved.root)
  del old["tasks"][0]["config"]["train"]["epochs"]  # A field that is new since then is no conflict.
  (saved.root / "sweep.json").write_text(json.dumps(old))
  tasks.save_plan(saved.name, saved.tasks, saved.root)


def test_roots_that_cannot_be_used_are_told(saved, tmp_path):
  (tmp_path / "file").write_text("mine")
  foreign = tmp_path / "foreign"
  foreign.mkdir()
  (foreign / "thesis.tex").write_text("mine")
  damaged = tmp_path / "damaged"
  damaged.mkdir()
  (damaged / "sweep.json").write_text('{"sweep": "mine", "tasks": [{}]}')
  cases = [
    (tmp_path / "file", "Not a directory"),
    (tmp_path / "file" / "x", "cannot be"),
    (Path("/proc/nowhere"), "cannot be written"),
    (foreign, "is not empty"),
    (damaged, "move it away"),
  ]
  for root, told in cases:
    with pytest.raises(UserError, match=told) as error:
      tasks.save_plan(saved.name, saved.tasks, root)
    assert "\n" not in str(error.value)
  with pytest.raises(UserError, match="it belongs to the sweep 'mine', this is 'other'"):
    tasks.save_plan("other", saved.tasks, saved.root)
  assert (tmp_path / "file").read_text() == "mine" and len(list(foreign.iterdir())) == 1


def test_plan_half_written_by_a_killed_launcher_is_no_obstacle(saved, tmp_path):
  root = tmp_path / "new"
  root.mkdir()
  atomic.part_of(root / "sweep.json").write_text("{")
  tasks.save_plan(saved.name, saved.tasks, root)
  assert tasks.read_plan(root) == (saved.name, saved.tasks)


def test_runs_are_added_to_a_plan_and_the_same_plan_is_not_written_again(saved, written):
  more = options.request(parsed(written("yield Run('b', D)"), saved.root))
  tasks.save_plan(more.name, more.tasks, more.root)
  assert [task.name for task in tasks.read_plan(saved.root)[1]] == ["a", "b"]
  before = os.stat(saved.root / "sweep.json").st_ino
  tasks.save_plan(saved.name, saved.tasks, saved.root)
  assert os.stat(saved.root / "sweep.json").st_ino == before


# The plan and the table.


def console(width=80, height=24):
  return rich.console.Console(
    file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None
  )


def test_dry_run_tells_models_dependencies_and_hours_and_writes_nothing(tmp_path, capsys):
  root = tmp_path / "root"
  launch(SWEEPS / "wald_table1.py", root, "--dry_run", "--images_per_second=30000")
  told = capsys.readouterr().out
  assert "wald_table1: 25 runs, 105 models to train, 4 comparisons\n" in told
  hours = 105 * 250 * 40_000 / 30_000 / 3600
  assert f"at 30000 images/s: {hours:.1f} GPU hours\n" in told
  assert not root.exists()
  for rate in ("nan", "inf", "0"):
    with pytest.raises(SystemExit):
      launch(SWEEPS / "wald_table1.py", root, "--dry_run", f"--images_per_second={rate}")


def test_dry_run_counts_what_is_left(saved):
  (saved.root / "a" / "report").mkdir(parents=True)
  (saved.root / "a" / "report" / "report.html").write_text("")
  shown = console()
  table.print_plan("mine", saved.tasks, saved.root, lambda task: 100, 10.0, shown)
  told = shown.file.getvalue()
  assert "a (done)" in told and "1 are done in" in told and "0 models are left" in told
  assert "0 images (models x epochs x training images); at 10 images/s: 0.0 GPU hours" in told


NAMES = ("[red]x", "[/]", ":smile:", "[bold", "a\\[b]", "日本" * 30, "seed_0/" + "long" * 40 + "_q")


def test_table_fits_a_terminal_and_takes_names_literally(tmp_path, monkeypatch):
  names = [*NAMES, *(f"seed_{i}/expvar_tap_{i}" for i in range(98))]
  entries = [Task(name, "run", (), (), {"train": {"epochs": 250}}, {"m": 1}) for name in names]
  states = dict.fromkeys(names, progress.WAITING)
  states |= dict.fromkeys(names[20:60], progress.DONE) | dict.fromkeys(NAMES, progress.RUNNING)
  states[names[100]] = progress.FAILED
  progress.launch_folder(entries[100], tmp_path).mkdir(parents=True)
  progress.log_file(entries[100], tmp_path).write_text("x\n\x1b[2Jerror: [/] is wrong\n")
  for width in (80, 200):
    screen = console(width)
    live = table.LiveTable(entries, tmp_path, screen)
    monkeypatch.setattr(live._live, "update", lambda drawn, refresh, to=screen: to.print(drawn))
    live.show(states)
    lines = screen.file.getvalue().splitlines()
    assert len(lines) < 24 and max(map(rich.cells.cell_len, lines)) <= width
    told = "\n".join(lines)
    assert all(name in told for name in NAMES[:5]) and "error: [/] is wrong" in told
    assert "40 done, 7 running, 1 failed, 57 waiting (87 not shown)" in told
    assert "\x1b" not in told and told.count("running") == 8 and told.count("_q ") == 1
  plain = rich.console.Console(file=io.StringIO(), width=80)
  with table.LiveTable(entries, tmp_path, plain) as shown:
    shown.show(states)
  assert "running [/]\n" in plain.file.getvalue() and "running :smile:\n" in plain.file.getvalue()


def test_table_of_nothing_shown_yet_does_not_hide_an_error(tmp_path):
  with pytest.raises(OSError), table.LiveTable([Task("a", "run", ())], tmp_path, console()):
    raise OSError


def log(folder, rows):
  folder.mkdir(parents=True, exist_ok=True)
  lines = [json.dumps({"epoch": e, "seconds": s, "pad": "x" * 200}) + "\n" for e, s in rows]
  (folder / "metrics.jsonl").write_text("".join(lines) + '{"epoch": 99, "sec')


def test_time_left_is_that_of_the_last_epochs(tmp_path):
  task = Task(
    "a", "run", (), (), {"train": {"epochs": 100}}, {"member_0": 1, "member_1": 1, "gncl": 3}
  )
  assert progress.progress(task, tmp_path).seconds_left is None
  log(tmp_path / "a" / "member_0", [(1, 40.0)])
  assert progress.progress(task, tmp_path).seconds_left == pytest.approx(40 * 499)
  log(tmp_path / "a" / "member_0", [(e, 40.0 + e) for e in range(1, 101)])  # Compiled in 40 s.
  found = progress.progress(task, tmp_path)
  assert (found.training, found.epoch, found.done, found.total) == ("member_0", 100, 100, 500)
  assert found.seconds_left == pytest.approx(400)
  log(tmp_path / "a" / "member_1", [(e, 30.0 + 2 * e) for e in range(1, 51)])  # It has a teacher.
  assert progress.progress(task, tmp_path).seconds_left == pytest.approx(2 * (50 + 300))
  log(tmp_path / "a" / "member_1", [(e, 30.0 + 2 * e) for e in range(1, 101)])
  log(tmp_path / "a" / "gncl", [(e, 90.0 + 9 * e) for e in range(1, 11)])  # Three at a time.
  found = progress.progress(task, tmp_path)
  assert (found.training, found.done) == ("gncl", 230)
  assert found.seconds_left == pytest.approx(9 * 90)
  assert table.where(task, tmp_path, progress.RUNNING) == ("gncl epoch 10/100", "13:30 min")


@pytest.mark.parametrize(
  "code, log_text, told",
  [
    ("1", "a\nerror: b\n\n", "error: b"),
    ("-9", "epoch 3\n", "killed by SIGKILL"),
    ("143", "epoch 3", "killed by SIGTERM"),
    ("1", "", "exit code 1"),
    ("255", "", "exit code 255"),
  ],
)
def test_why_a_run_failed_is_told(tmp_path, code, log_text, told):
  task = Task("a", "run", ())
  progress.launch_folder(task, tmp_path).mkdir(parents=True)
  progress.log_file(task, tmp_path).write_text(log_text)
  progress.exit_file(task, tmp_path).write_text(code)
  assert progress.states([task], tmp_path, {}) == {"a": progress.FAILED}
  assert table.where(task, tmp_path, progress.FAILED) == (told, "")


def test_states_follow_the_files(tmp_path):
  chain = [Task("a", "run", ()), Task("b", "run", (), ("a",)), Task("c", "run", (), ("b",))]

  def states(running=()):
    return list(progress.states(chain, tmp_path, dict.fromkeys(running, "running")).values())

  assert states() == ["ready", "waiting", "waiting"]
  assert states(["a"]) == ["running", "waiting", "waiting"]
  for task in chain:
    progress.launch_folder(task, tmp_path).mkdir(parents=True)
  progress.exit_file(chain[0], tmp_path).write_text("75")
  assert states() == ["ready", "waiting", "waiting"]
  progress.exit_file(chain[0], tmp_path).write_text("2")
  assert states() == ["failed", "blocked", "blocked"]
  (tmp_path / "a" / "report").mkdir(parents=True)
  (tmp_path / "a" / "report" / "report.html").write_text("")
  assert states() == ["done", "ready", "waiting"]
  progress.exit_file(chain[1], tmp_path).write_text("")  # Written to a full disk: not known.
  assert states() == ["done", "ready", "waiting"]


def test_comparison_is_a_command_with_its_folders():
  entries = sweep.check(
    [
      Comparison("c", ("a", "b"), ("member_0", "b:member_1"), ("lincka", "r2")),
      Run("a", DIGITS),
      Run("b", DIGITS),
    ]
  )
  found = tasks.make_tasks(entries, Path("/r"))[-1]
  assert found.needs == ("a", "b") and found.argv == (
    "-m",
    "dissim_jax.compare",
    "--workdir=/r/a",
    "--workdir=/r/b",
    "--measures=lincka,r2",
    "--out=/r/c",
    "--members=member_0,b:member_1",
  )
