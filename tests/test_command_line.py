"""What a user types: values of fields and flags, config files, and the first sign of life."""

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from dissim_jax import command_line, texts
from dissim_jax.config import blocks, source
from dissim_jax.config.check import check_config
from dissim_jax.config.values import get
from dissim_jax.configs import default
from dissim_jax.errors import UserError
from dissim_jax.files.workdir import check_workdir
from dissim_jax.launch import commands, local, slurm
from dissim_jax.launch import flags as launch_flags
from dissim_jax.studies.similarity import choice as similarity_choice

ROOT = Path(__file__).parents[1]
DIGITS = "configs/digits_expvar.py"
FIELDS = blocks.fields()


def of_kind(kind):
  return [field for field, own in FIELDS.items() if own.kind is kind]


def read(field, text):
  """The value of a field of the default config after `--config.field=text`."""
  config = default.get_config().lock()
  source.read(config, field, text)
  return get(config, field)


def parse(*arguments):
  """The config and the rest of a command line of a program with --config and --workdir."""
  values = flags.FlagValues()
  holder = command_line.define_config(values)
  flags.DEFINE_string("workdir", None, "", flag_values=values)
  flags.DEFINE_bool("resize", False, "", flag_values=values)
  command_line.define_whole("batch_size", 1, "", values, 1)
  return holder, command_line.parse(["program", *arguments], values)


def refused(capsys, *arguments):
  """The one sentence that a command line ends with."""
  with pytest.raises(SystemExit) as stop:
    parse(*arguments)
  told = capsys.readouterr().err
  assert stop.value.code == 2 and told.startswith("error: ") and told.count("\n") == 1, told
  return told.removeprefix("error: ").strip()


# Values.

LISTS = {
  "a": ("a",),
  "a,b": ("a", "b"),
  " a , b, ": ("a", "b"),
  "": (),
  "()": (),
  "[]": (),
  "(a,b)": ("a", "b"),
  "('a','b')": ("a", "b"),
  "[\"a\", 'b']": ("a", "b"),
  "a,": ("a",),
  "/x/a,/y/b c": ("/x/a", "/y/b c"),
  "'/a,b','/c'": ("/a,b", "/c"),
  "'/a,b'": ("/a,b",),
  "/o'neill,/b": ("/o'neill", "/b"),
  "(a),(b)": ("(a)", "(b)"),
  "m_0:m_1,m_1:m_0": ("m_0:m_1", "m_1:m_0"),
  "1": ("1",),
  "08,1/2,nan": ("08", "1/2", "nan"),
}


@pytest.mark.parametrize("text", LISTS)
def test_all_fields_that_hold_texts_are_split_at_commas(text):
  for field in (field for field, own in FIELDS.items() if own.of_texts):
    assert read(field, text) == LISTS[text], field


@pytest.mark.parametrize(
  "text, expected",
  [
    ("2,3", (2, 3)),
    ("2", (2,)),
    ("", ()),
    ("(2, 3)", (2, 3)),
    ("1e-3,1/4", (1e-3, 0.25)),
    ("-1,08", (-1, 8)),
    ("1e30", (1e30,)),
    (str(10**30), (10**30,)),
  ],
)
def test_all_fields_that_hold_numbers_are_split_at_commas(text, expected):
  fields = [field for field in of_kind(tuple) if not FIELDS[field].of_texts]
  assert "dissim.taps" in fields
  for field in fields:
    found = read(field, text)
    assert found == expected and list(map(type, found)) == list(map(type, expected))


def test_what_python_writes_is_read_back():
  names = ("a", "a,b", "it's", 'say "a"', "a\\b", " a ", "é", "(a", "a)", "1", "1/2", "[x]", "=")
  for several in (names, *((name,) for name in names), *itertools.pairwise(names)):
    assert texts.several(repr(several), of_texts=True) == several
  for several in ((1,), (1, 2.5), (), (1e-05, 10**30)):
    assert texts.several(repr(several)) == several


@pytest.mark.parametrize("text", ["a,,b", "'a,b", "'a'b,c", ",a"])
def test_lists_that_cannot_be_meant_are_told(text):
  with pytest.raises(UserError, match="ensemble.teachers=.*: (has nothing|must have both quotes)"):
    read("ensemble.teachers", text)


@pytest.mark.parametrize("field", of_kind(float))
def test_every_number_may_be_a_fraction(field):
  assert read(field, "8/255") == 8 / 255 and read(field, "2.5e-1") == 0.25
  for text in ("8/0", "1/2/3", "high", "", "8/", "True"):
    with pytest.raises(UserError, match=f"{field}={text!r}: must be a number or a fraction"):
      read(field, text)


@pytest.mark.parametrize("field", of_kind(int))
def test_whole_numbers_have_any_size_and_nothing_else_is_one(field):
  assert read(field, str(2**31)) == 2**31 and read(field, "1" + "0" * 30) == 10**30
  for text in ("1.0", "1e3", "", "True", "None", "8/4", "x"):
    with pytest.raises(UserError, match=f"{field}={text!r}: must be a whole number"):
      read(field, text)
  with pytest.raises(UserError, match="at most 4300 digits"):
    read(field, "9" * 5000)


@pytest.mark.parametrize("field", [field for field, own in FIELDS.items() if own.default is None])
def test_what_is_none_can_be_none_again(field):
  values = {str: "adamw", float: "1/2", bool: "True"}
  block, _, last = field.rpartition(".")
  for text in ("None", "none"):
    holder, rest = parse(
      f"--config={DIGITS}",
      f"--config.{field}={values[FIELDS[field].kind]}",
      f"--config.{field}={text}",
    )
    assert rest == ["program"] and get(holder.value, block)[last] is None
  (argv, config) = commands.for_run("a", DIGITS, {field: "None"}, Path("/r"))
  assert get(config, field) is None and f"--config.{field}=None" in argv


def test_a_sweep_reads_a_text_as_the_command_line_does():
  given = {
    "dissim.taps": "2,3",
    "ensemble.models": "resnet8,resnet14",
    "optimizer.learning_rate": "1/16",
    "ensemble.teachers": "'/a,b'",
    "corruption.severities": "",
    "transfer.epsilon": "8/255",
    "seed": str(10**30),
    "augment.flip": "true",
    "stitch.pairs": "member_0:member_1",
  }
  settings = [f"--config.{field}={text}" for field, text in given.items()]
  argv, config = commands.for_run("a", DIGITS, given, Path("/r"))
  assert argv[2:-1] == [f"--config={DIGITS}", *settings]
  holder, _ = parse(f"--config={DIGITS}", *settings)
  assert holder.value.to_dict() == config.to_dict()
  assert config.ensemble.teachers == ("/a,b",) and config.transfer.epsilon == 8 / 255


def test_options_of_measures_are_read_as_fields_are():
  (chosen,) = similarity_choice.choose(["svcca"], ["svcca.variance=19/20"])
  assert dict(chosen.options) == {"variance": 0.95}


# Values that make no sense, whichever field has them.

NONSENSE = {
  float: (math.nan, math.inf, -1.0),
  int: (-1,),
  str: ("no such name",),
  tuple: (("no such name",), (math.nan,)),
  bool: (),
}
ANY = {"data.dir", "seed", "data.split_seed", "corruption.seed", "transfer.seed"}


@pytest.mark.parametrize("field", FIELDS)
def test_nonsense_is_refused_before_anything_starts_and_blamed_on_its_field(field):
  block, _, last = field.rpartition(".")
  for value in NONSENSE[FIELDS[field].kind]:
    if field == "data.dir" or (field == "ensemble.teachers" and isinstance(value[0], str)):
      continue  # Any text is a path.
    config = default.get_config()
    (get(config, block) if block else config)[last] = value
    with pytest.raises(UserError) as error:
      check_config(config)
    assert str(error.value).startswith(field) and "\n" not in str(error.value)


@pytest.mark.parametrize(
  "name, told",
  [
    ("momentum=7", "in 0..1"),
    ("b2=2", "in 0..1"),
    ("name=adamx", "choose one of"),
    ("learning_rate=-1", "finite number of at least 0"),
    ("warmup_epochs=200", "less than"),
  ],
)
def test_the_projections_optimiser_is_checked_as_the_members_is(name, told):
  for block in ("optimizer", "dissim.projection.optimizer"):
    field, _, text = name.partition("=")
    with pytest.raises(UserError, match=rf"run 'a': {block}.{field}=.*: .*{told}"):
      commands.for_run("a", DIGITS, {f"{block}.{field}": text}, Path("/r"))


def test_adamw_of_the_projection_is_checked_with_the_members_momentum():
  values = {"optimizer.momentum": 1.0, "dissim.projection.optimizer.name": "adamw"}
  with pytest.raises(UserError, match=r"optimizer.momentum=1.0: adamw needs less than 1"):
    commands.for_run("a", DIGITS, values, Path("/r"))
  values["dissim.projection.optimizer.momentum"] = 0.9
  commands.for_run("a", DIGITS, values, Path("/r"))


# Config files.


def test_fields_can_be_set_with_and_without_equals_sign_and_before_the_file():
  holder, rest = parse(
    "--config.seed",
    "3",
    "--config",
    DIGITS,
    "--config.dissim.weight",
    "1/4",
    "--config.augment.flip",
    "--noconfig.ensemble.baseline",
    "-config.dtype=auto",
    "--workdir=x",
  )
  config = holder.value
  assert (config.seed, config.dissim.weight, config.augment.flip) == (3, 0.25, True)
  assert config.ensemble.baseline is False and config.dtype == "auto" and rest == ["program"]


def test_the_config_of_a_run_is_a_config(tmp_path):
  config = default.get_config()
  config.seed = 10**30
  config.dissim.taps, config.ensemble.teachers = (1, 2), ("/a,b",)
  config.dissim.projection.optimizer.momentum = 0.5
  saved = json.loads(json.dumps(config.to_dict())) | {"command": "python -m dissim_jax.main"}
  del saved["train"]["monitor_images"]  # As an old run, which did not know this field.
  (tmp_path / "config.json").write_text(json.dumps(saved))
  for path in (tmp_path, tmp_path / "config.json"):
    holder, _ = parse(f"--config={path}", "--config.train.epochs=7")
    assert holder.value.train.epochs == 7
    holder.value.train.epochs = config.train.epochs
    assert holder.value.to_dict() == config.to_dict()


def test_names_that_earlier_versions_kept_as_one_text_are_still_the_same_experiment(tmp_path):
  config = default.get_config()
  config.ensemble.compare = ("gncl", "balanced")
  saved = json.loads(json.dumps(config.to_dict()))
  saved["ensemble"]["compare"] = ["gncl,balanced"]
  (tmp_path / "config.json").write_text(json.dumps(saved))
  assert check_workdir(config, tmp_path)
  config.ensemble.compare = ("gncl",)
  with pytest.raises(UserError, match="ensemble.compare"):
    check_workdir(config, tmp_path)


@pytest.mark.parametrize(
  "text, told",
  [
    ("{", "is damaged"),
    ("", "is damaged"),
    ("[]", "is not the config.json of a run"),
    ("{}", "is not the config.json of a run"),
    ('{"seed": "a"}', "seed='a': must be a whole number"),
    ('{"seed": 1, "sede": 2}', "sede: the config has no such field, did you mean 'seed'?"),
    ('{"seed": 1, "data": 2}', "data: it is a block"),
    ("\0", "is damaged"),
    ('{"seed": null}', "seed=None: must be"),
    ('{"seed": true}', "seed=True: must be"),
    ('{"seed": 0, "ensemble": {"models": [1]}}', r"ensemble.models=[1]: must be a tuple of texts"),
  ],
)
def test_damaged_config_of_a_run_is_told(text, told, tmp_path, capsys):
  (tmp_path / "config.json").write_text(text)
  assert told in refused(capsys, f"--config={tmp_path}")


BUILD = "from configs import default\ndef get_config({}):\n  config = default.get_config()\n"
FILES = {
  "raises": (
    "def get_config():\n  x = 1\n  return x / 0\n",
    "cannot be loaded: ZeroDivisionError: division by zero (line 3)",
  ),
  "lines": ("raise OSError('a\\nb')\n", "cannot be loaded: OSError: a b (line 1)"),
  "exits": ("import sys\nsys.exit(0)\n", "cannot be loaded: SystemExit: 0 (line 2)"),
  "syntax": ("\ndef get_config(:\n", "cannot be loaded: SyntaxError: invalid syntax (line 2)"),
  "import": ("import no_such_module\n", "No module named 'no_such_module' (line 1)"),
  "nothing": ("x = 1\n", "it needs a function get_config()"),
  "no function": ("get_config = 3\n", "it needs a function get_config()"),
  "number": ("def get_config():\n  return 3\n", "get_config() returns int, a ConfigDict is needed"),
  "none": ("def get_config():\n  pass\n", "get_config() returns NoneType"),
  "argument": (BUILD.format("size") + "  return config\n", "give it as FILE.py:ARGUMENT"),
  "misspelt": (
    BUILD.format("") + "  config.dissim.wieght = 2\n  return config\n",
    "dissim.wieght: the config has no such field, did you mean 'dissim.weight'?",
  ),
  "type": (BUILD.format("") + "  config.seed = 0.5\n  return config\n", "(line 4)"),
  "bool": (
    BUILD.format("") + "  config.seed = True\n  return config\n",
    "seed=True: must be a whole number",
  ),
  "fields": (
    "from ml_collections import ConfigDict\ndef get_config():\n  return ConfigDict({'seed': 1})\n",
    "plugins is missing: start from",
  ),
}


@pytest.mark.parametrize("case", FILES)
def test_what_is_wrong_with_a_config_file_is_one_sentence(case, tmp_path, capsys):
  text, told = FILES[case]
  (tmp_path / "mine.py").write_text(text)
  sentence = refused(capsys, "--config", f"{tmp_path}/mine.py", "--config.seed=3")
  assert sentence.startswith(f"--config={tmp_path}/mine.py: ") and told in sentence


def test_a_config_file_may_take_an_argument(tmp_path):
  (tmp_path / "mine.py").write_text(
    BUILD.format("name") + "  config.data.name = name\n  return config\n"
  )
  holder, _ = parse(f"--config={tmp_path}/mine.py:a:b")
  assert holder.value.data.name == "a:b"


@pytest.mark.parametrize(
  "arguments, told",
  [
    ([f"--config={DIGITS}", "--config.sed=3"], "sed: the config has no such field, did you mean"),
    (["--config", DIGITS, "--config.dissim.wieght=2"], "did you mean 'dissim.weight'?"),
    ([f"--config={DIGITS}", "--config.dissim=3"], "dissim: it is a block, set one of its fields"),
    ([f"--config={DIGITS}", "--config.dissim.weight=high"], "dissim.weight='high': must be a num"),
    ([f"--config={DIGITS}", "--config.augment.flip=maybe"], "must be True or False"),
    ([f"--config={DIGITS}", "--config.seed"], "seed: the value is missing"),
    ([f"--config={DIGITS}:foo"], "get_config() takes no argument, leave out ':foo'"),
    (["--config=configs/nowhere.py"], "--config=configs/nowhere.py: there is no such file"),
    (["--config=configs"], "the folder holds no config.json"),
    (["--config="], "no such file"),
    (["--config=a\0b"], "no such file"),
    (["--config"], "--config: the value is missing"),
    (["--config.seed=3"], "--config is missing: --config.seed sets a field of its config"),
    ([f"--confg={DIGITS}"], "--confg: there is no such flag, did you mean 'config'?"),
    (["--wokdir=x"], "--wokdir: there is no such flag, did you mean 'workdir'?"),
    (["--workdir"], "--workdir: the value is missing"),
    (["--resize=2"], "must be True or False"),
    (["--batch_size=0"], "--batch_size=0: must be a whole number of at least 1"),
    (["--batch_size=1.5"], "--batch_size=1.5: must be a whole number"),
    (["--flagfile=/nowhere"], "Unable to open flagfile"),
  ],
)
def test_bad_command_line_is_one_sentence_and_exit_code_2(arguments, told, capsys):
  sentence = refused(capsys, *arguments)
  assert told in sentence and "<" not in sentence and "object at" not in sentence


def test_help_is_no_error_and_says_how_lists_are_written(capsys):
  with pytest.raises(SystemExit) as stop:
    command_line.parse(["program", "-h"], _with_help())
  assert stop.value.code == 0 and texts.SEVERAL[:20] in " ".join(capsys.readouterr().out.split())


def _with_help():
  class Help(flags.BooleanParser):
    def parse(self, argument):
      if argument == "true":
        print(values.get_help())
        sys.exit(1)  # As absl does.
      return False

  values = flags.FlagValues()
  command_line.define_config(values)
  flags.DEFINE_flag(flags.Flag(Help(), None, "help", False, "", boolean=True), values)
  return values


def test_launchers_take_numbers_as_all_commands_do():
  values = flags.FlagValues()
  launch_flags.define(values)
  values(["launch", "--images_per_second=1/4"])
  assert values.images_per_second == 0.25
  for module, flag in ((local, "parallel"), (slurm, "nodes")):
    values = flags.FlagValues()
    module.define_flags(values)
    with pytest.raises(flags.IllegalFlagValueError, match="must be a whole number of at least 1"):
      values(["launch", f"--{flag}=0"])


# The first sign of life.

SLOW = ("jax", "matplotlib", "sklearn")
WHOLE = {  # Command lines with which the slow modules are needed, and which is told.
  "dissim_jax.main": (["--config", DIGITS, "--workdir=x"], "JAX"),
  "dissim_jax.compare": (["--workdir=x"], "JAX"),
  "dissim_jax.stitch": (["--source=x", "--target=x"], "JAX"),
  "dissim_jax.transfer": (["--members=x", "--out=x"], "JAX"),
  "dissim_jax.report": (["--workdir=x"], "the report"),
  "dissim_jax.collect": (["--root=x"], "the results"),
  "dissim_jax.analyse": (["--folder=x"], "the analysis"),
}


@pytest.mark.parametrize("module", WHOLE)
def test_a_command_says_that_it_has_started_before_it_imports_what_is_slow(module, tmp_path):
  for name in SLOW:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')\n")
  arguments, what = WHOLE[module]
  path = os.pathsep.join((str(tmp_path), str(ROOT)))
  done = subprocess.run(
    [sys.executable, "-m", module, *arguments],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": path},
    timeout=300,
  )
  assert (done.stdout, done.stderr) == ("", f"loading {what} …\nimported\n")


@pytest.mark.parametrize(
  "arguments",
  [
    ["dissim_jax.launch.local", "--sweep=wald_table1", "--dry_run"],
    [
      "dissim_jax.launch.slurm",
      "--sweep=digits_table1",
      "--dry_run",
      "--cluster=launch/clusters/example.toml",
    ],
  ],
)
def test_a_dry_run_needs_nothing_slow(arguments, tmp_path):
  (tmp_path / "jax.py").write_text("raise SystemExit('imported')\n")
  path = os.pathsep.join((str(tmp_path), str(ROOT)))
  done = subprocess.run(
    [sys.executable, "-m", *arguments],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": path},
    timeout=300,
  )
  assert done.returncode == 0 and "models" in done.stdout, done.stderr


def test_main_exits_with_2_and_no_traceback(tmp_path):
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "dissim_jax.main",
      f"--config={DIGITS}",
      "--config.dissim.taps=17",
      f"--workdir={tmp_path / 'run'}",
    ],
    capture_output=True,
    text=True,
    cwd=ROOT,
    timeout=300,
  )
  assert done.returncode == 2 and done.stdout == ""
  assert done.stderr == "error: dissim.taps=[17]: resnet14 has taps 0..6\n"
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("module", ["main", "compare", "report", "launch.local"])
def test_a_reader_that_has_left_is_no_traceback(module):
  command = f"{sys.executable} -m dissim_jax.{module} --help | head -c 1; exit ${{PIPESTATUS[0]}}"
  done = subprocess.run(
    ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert done.returncode in (0, 141) and not done.stderr
