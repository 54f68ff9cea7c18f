"""Config files, arguments, overrides, durations and the command line."""

import subprocess
import sys
import warnings

import pytest

from pg import command, config, stop
from tests.support import paths

ROOT = paths.ROOT
NANO = str(ROOT / "configs/nano.py")


def test_a_known_name_is_looked_up():
  assert config.lookup({"cosine": 1}, "cosine", "schedule") == 1


def test_an_unknown_name_gets_the_nearest_one():
  with pytest.raises(ValueError) as error:
    config.lookup({"linear": 1, "cosine": 2}, "cosin", "schedule")
  assert str(error.value) == (
    'unknown schedule "cosin"; did you mean "cosine"? Known: cosine, linear.'
  )


def test_a_name_that_is_like_no_other_gets_the_list():
  with pytest.raises(ValueError, match="no similar one; Known: cosine, linear"):
    config.lookup({"linear": 1, "cosine": 2}, "xyz", "schedule")


@pytest.mark.parametrize(
  "text, value",
  (
    ("3", 3),
    ("3e-6", 3e-6),
    ("True", True),
    ("false", False),
    ("none", None),
    ("(('.*', None),)", ((".*", None),)),
    ("'7'", "7"),
    ("10ep", "10ep"),
    ("decode | resize(48)", "decode | resize(48)"),
  ),
)
def test_a_word_is_the_python_value_it_looks_like_else_text(text, value):
  found = config.literal(text)
  assert found == value and type(found) is type(value)


# Arguments after the colon.

DEFAULTS = dict(res=224, model="pg2_3b", lr=1e-5, freeze=False, other=None)


def test_arguments_replace_defaults_and_a_bare_word_is_true():
  arg = config.arguments("res=448,model=123,lr=1,freeze,other=5", **DEFAULTS)
  assert arg.to_dict() == dict(
    res=448, model="123", lr=1.0, freeze=True, other=5
  )
  assert isinstance(arg.lr, float) and isinstance(arg.model, str)


@pytest.mark.parametrize("arg", (None, ""))
def test_without_arguments_defaults_stay(arg):
  assert config.arguments(arg, **DEFAULTS).to_dict() == DEFAULTS


@pytest.mark.parametrize(
  "arg, message",
  (
    ("rez=448", 'unknown config argument "rez"; did you mean "res"?'),
    ("res=big", "config argument res=big: wanted int like 224"),
    ("res=4.5", "config argument res=4.5: wanted int like 224"),
    ("res=True", "config argument res=True: wanted int like 224"),
    ("freeze=1", "config argument freeze=1: wanted bool like False"),
    ("res", "config argument res has no value; write res=..."),
    ("model", "config argument model has no value; write model=..."),
  ),
)
def test_a_wrong_argument_is_an_error(arg, message):
  with pytest.raises(ValueError) as error:
    config.arguments(arg, **DEFAULTS)
  assert str(error.value).startswith(message)


# Files and overrides.


def load(*overrides):
  return config.load(NANO, [pair.split("=", 1) for pair in overrides])


def test_a_file_gets_its_arguments_and_is_locked():
  c = config.load(NANO + ":total=7,blind")
  assert c.total == 7 and c.blind is True
  with pytest.raises(AttributeError):
    c.new = 1
  with pytest.raises(AttributeError):
    c.model.new = 1


def test_datasets_and_evaluators_take_new_keys():
  c = load("evals.caption.num_examples=16", "data.digits.size=3")
  assert (c.evals.caption.num_examples, c.data.digits.size) == (16, 3)


@pytest.mark.parametrize(
  "override, value",
  (
    ("lr=3e-6", 3e-6),
    ("b1=0", 0.0),
    ("batch_size=8", 8),
    ("model.variant=nano2", "nano2"),
    ("model.final_softcap=none", None),
    ("model.window=512", 512),
    ("init=2024", "2024"),
    ("blind=True", True),
    ("schedule=(('img/.*', None), ('.*', 'linear'))", None),
    ("evals.nll.every=10", 10),
    ("total=2ep", "2ep"),
    ("warmup=10%", "10%"),
    ("save_every=100", 100),
    ("pp=decode | resize(96)", "decode | resize(96)"),
  ),
)
def test_an_override_sets_one_key(override, value):
  key, text = override.split("=", 1)
  changed = load(override)
  for name in key.split("."):
    changed = changed[name]
  if key == "schedule":
    value = (("img/.*", None), (".*", "linear"))
  assert changed == value and type(changed) is type(value)


@pytest.mark.parametrize(
  "override, message",
  (
    ("warmpu=1", 'unknown config key "warmpu"; did you mean "warmup"?'),
    ("modl.dtype=x", 'unknown config key "modl"; did you mean "model"?'),
    (
      "model.dtipe=x",
      'unknown config.model key "dtipe"; did you mean "dtype"?',
    ),
    ("lr.x=1", "config.lr is a value, it has no key 'x'"),
    ("lr=fast", "config.lr=fast: wanted float like 0.0015"),
    ("lr=True", "config.lr=True: wanted float like 0.0015"),
    ("batch_size=2.5", "config.batch_size=2.5: wanted int like 64"),
    ("batch_size=True", "config.batch_size=True: wanted int like 64"),
    ("schedule=[]", "config.schedule=[]: wanted tuple like"),
    (
      "model=nano",
      "config.model is a group; set one of dropout, dtype, final_",
    ),
  ),
)
def test_a_wrong_override_is_an_error(override, message):
  with pytest.raises(ValueError) as error:
    load(override)
  assert str(error.value).startswith(message)
  assert "\n" not in str(error.value)


def test_a_missing_file_is_an_error():
  with pytest.raises(ValueError, match="no config file 'configs/nan.py'"):
    config.load("configs/nan.py:res=3")


@pytest.mark.parametrize(
  "line, message",
  (
    ("c.lrr = 3", 'Key "lrr" does not .*locked. Did you mean "lr" instead'),
    ("c['lrr'] = 3", 'Key "lrr" does not .*locked. Did you mean "lr" instead'),
    ("c.modl.dtype = 3", "KeyError: 'modl' Did you mean \"model\" instead"),
    ("c.lr = 'x'", "TypeError: Could not override field 'lr'"),
    ("c.zzzzz = 3", 'KeyError: Key "zzzzz" does not exist'),
  ),
)
def test_a_wrong_line_in_a_file_is_an_error_of_one_line(
  line, message, tmp_path
):
  file = tmp_path / "mine.py"
  code = "from transfers import base\ndef get_config(arg):\n  c = base.get(arg)"
  file.write_text(f"{code}\n  {line}\n  return c\n")
  with pytest.raises(ValueError, match=message) as error:
    config.load(str(file))
  assert str(error.value).startswith(f"{file}:4: ")
  assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
  "code, message",
  (
    ("def get_config(arg):\n  return (", ":2: SyntaxError: '.' was never"),
    ("x = 1\0", ":1: SyntaxError: source code .* null bytes"),
    ("\nimport nosuch", ":2: ModuleNotFoundError: No module named 'nosuch'"),
    ("x = {}['k']", ":1: KeyError: k"),
    ("def get_config(arg):\n  return {}['k']", ":2: KeyError: k"),
    ("def get_config(arg):\n  return int('x')", ":2: ValueError: invalid"),
    (
      "import re\ndef get_config(arg):\n  re.compile('(')",
      ":3: error: missing|:3: PatternError: missing",
    ),
    ("def get_config(arg):\n  exit(3)", ":2: SystemExit: 3"),
    ("x = 1", ": AttributeError: .*'get_config'"),
    ("def get_config(): pass", r": TypeError: get_config\(\) takes 0"),
    ("def get_config(arg): pass", ": get_config returned None: wanted an ml_"),
    ("def get_config(arg): return dict(lr=1)", ": get_config returned {'lr'"),
  ),
)
def test_a_broken_file_is_an_error_with_its_line(code, message, tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(code)
  with pytest.raises(ValueError, match=f"^{file}({message})") as error:
    config.load(str(file))
  assert "\n" not in str(error.value)


def test_what_we_say_of_an_argument_stays_as_it_is(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(
    "from transfers import base\ndef get_config(arg): return base.get(arg)"
  )
  with pytest.raises(ValueError, match='^unknown config argument "rez"'):
    config.load(f"{file}:rez=3")


def test_the_nano_config_loads_without_jax_from_anywhere(tmp_path):
  code = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pg import config;"
    "del sys.path[0]; config.load(sys.argv[2]);"
    "print({'jax', 'flax', 'numpy', 'tensorflow'} & set(sys.modules))"
  )
  args = [sys.executable, "-c", code, str(ROOT), NANO]
  done = subprocess.run(args, cwd=tmp_path, capture_output=True, text=True)
  assert done.stdout.strip() == "set()", done.stderr


# Durations.


@pytest.mark.parametrize(
  "duration, steps",
  (
    (500, 500),
    ("500", 500),
    ("1e3", 1000),
    (0, 0),
    ("0%", 0),
    ("10ep", 313),  # 10,000 examples in batches of 32
    ("0.5 ep", 16),
    ("25%", 50),
    ("0.1%", 1),  # at least one
    ("33.4%", 67),  # up
    ("64 ex", 2),
    ("64k ex", 2000),
    ("1M ex", 31250),
  ),
)
def test_a_duration_is_a_number_of_steps(duration, steps):
  assert config.steps(duration, 32, num_examples=1000, total=200) == steps


def test_the_whole_run_is_not_a_step_more_than_the_run():
  runs = range(1, 2000)  # 100 * (7 / 100) is 7.000000000000001
  assert all(config.steps("100%", 1, total=total) == total for total in runs)


@pytest.mark.parametrize(
  "duration", ("ep", "ten", "-1", "1.2.3", "e", "10 epochs", "", None, True)
)
def test_what_is_not_a_duration_is_an_error(duration):
  with pytest.raises(ValueError, match='is not a duration; write 500, "10ep"'):
    config.steps(duration, 32, 1000, 200)


@pytest.mark.parametrize(
  "duration, what",
  (("2ep", "a number of training examples"), ("25%", "a total")),
)
def test_a_unit_without_its_size_is_an_error(duration, what):
  with pytest.raises(ValueError, match=f"{duration!r} needs {what}"):
    config.steps(duration, 32)


# The command line.


def run(monkeypatch, *words, main=lambda args: None, **options):
  """Runs `command.run` on a command line; returns the message it exits with."""
  monkeypatch.setattr(sys, "argv", ["verb", *words])
  monkeypatch.setattr(stop, "watch", int)
  try:
    command.run(main, "What it does.", **options)
  except SystemExit as ending:
    return ending.code


def test_a_command_line_reaches_main(monkeypatch):
  seen = []
  words = ["--config", NANO + ":total=7", "--config.lr=1", "--work-dir", "a"]
  words += ["--config.init=", "--config.warmup", "5%"]
  words += ["--config.model.dtype", "float32"]
  options = dict(work_dir=dict(required=True))
  main = lambda args: seen.append(args)
  assert run(monkeypatch, *words, main=main, **options) is None
  (args,) = seen
  assert args.work_dir == "a"
  c = args.config
  assert (c.total, c.lr, c.init, c.warmup) == (7, 1.0, "", "5%")
  assert c.model.dtype == "float32"


@pytest.mark.parametrize(
  "words, message",
  (
    (["--config", "nan.py"], "error: no config file 'nan.py'; configs live in"),
    (
      ["--config", NANO, "--confg.lr=1"],
      "error: unknown argument --confg.lr=1; did you mean --config.lr?",
    ),
    (["--config", NANO, "--config.lr"], "error: --config.lr has no value"),
    (
      ["--config", NANO, "--config.warmpu=1"],
      'error: unknown config key "warmpu"; did you',
    ),
    (["--config", NANO + ":x=1"], 'error: unknown config argument "x"; there'),
    (["--config", NANO, "stray"], "error: unknown argument stray; see --help"),
  ),
)
def test_a_wrong_command_line_ends_with_one_line(words, message, monkeypatch):
  code = run(monkeypatch, *words)
  assert code.startswith(message) and "\n" not in code


def test_a_verb_without_a_config_takes_no_other_words(monkeypatch):
  options = dict(with_config=False, port=dict(type=int))
  assert run(monkeypatch, "--port", "80", **options) is None
  code = run(monkeypatch, "--speed", "80", **options)
  assert code == "error: unknown argument --speed; see --help"


@pytest.mark.parametrize(
  "words",
  (
    ["--num-images", "2", "--text_len=5"],
    ["--num_images", "2", "--text-len", "5"],
    ["--num_images=2", "--text-l", "5"],
  ),
)
def test_flags_are_spelt_with_hyphens_or_underscores(words, monkeypatch):
  seen, number = [], dict(type=int)
  options = dict(with_config=False, num_images=number, text_len=number)
  assert (
    run(monkeypatch, *words, main=lambda args: seen.append(args), **options)
    is None
  )
  assert (seen[0].num_images, seen[0].text_len) == (2, 5)


@pytest.mark.parametrize(
  "typo", ("--chekpoint", "--check_point", "-checkpoint", "--checkpont=a")
)
def test_a_mistyped_flag_gets_a_suggestion_also_for_a_required_one(
  typo, monkeypatch
):
  options = dict(with_config=False, checkpoint=dict(required=True))
  code = run(monkeypatch, typo, "a", **options)
  wanted = f"error: unknown argument {typo}; did you mean --checkpoint?"
  assert code == wanted


def test_what_only_looks_like_a_flag_is_a_value(monkeypatch):
  seen = []
  options = dict(with_config=False, prompt={}, low=dict(type=float))
  words = "--prompt", "--prompts are odd", "--low", "-1.5"
  assert (
    run(monkeypatch, *words, main=lambda args: seen.append(args), **options)
    is None
  )
  assert (seen[0].prompt, seen[0].low) == ("--prompts are odd", -1.5)


@pytest.mark.parametrize("kind", (ValueError, OSError, FloatingPointError))
def test_what_a_user_can_cause_ends_without_a_traceback(kind, monkeypatch):
  def main(args):
    raise kind("no such thing")

  options = dict(main=main, with_config=False)
  assert run(monkeypatch, **options) == "error: no such thing"
  monkeypatch.setenv("PG_TRACEBACK", "1")
  with pytest.raises(kind):
    run(monkeypatch, **options)


def test_a_warning_is_one_line_without_code(monkeypatch, capsys):
  main = lambda args: warnings.warn("half is left out", stacklevel=2)
  with warnings.catch_warnings():
    warnings.simplefilter("always")
    assert run(monkeypatch, main=main, with_config=False) is None
  assert capsys.readouterr().err == "warning: half is left out\n"


def test_what_only_we_can_cause_keeps_its_traceback(monkeypatch):
  with pytest.raises(ZeroDivisionError):
    run(monkeypatch, main=lambda args: 1 / 0, with_config=False)


@pytest.mark.parametrize("old, new", config.RENAMED.items())
def test_a_key_that_was_renamed_is_answered_with_its_new_name(
  old, new, tmp_path
):
  group, _, leaf = old.rpartition(".")
  forked = (ROOT / "transfers/forkme.py").read_text()
  place = f"c.{group}.{leaf}" if group else f"c.{leaf}"
  changes = {
    "flat.py": forked.replace("  return c", f"  {place} = 1\n  return c"),
    "on_base.py": "from transfers import base\ndef get_config(arg=None):\n"
    f"  c = base.get(arg)\n  {place} = 1\n  return c\n",
  }
  for name, text in changes.items():
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"{old} is called {new} now"):
      config.load(str(path))
  with pytest.raises(ValueError, match=rf"{old} is called {new} now"):
    config.load(str(ROOT / "configs/nano.py"), [(old, "1")])


def test_nothing_of_strangers_works_the_terminal(monkeypatch, capsys):
  def main(args):
    print("\x1b[31mred", "\u202eback", sep="\n")
    warnings.warn("50%\rof http://a:b@c/d", stacklevel=1)
    raise ValueError("\x9b2J of http://c/d?key=secret")

  assert run(monkeypatch, main=main, with_config=False) == (
    r"error: \u009b2J of http://c/d?***"
  )
  out, err = capsys.readouterr()
  assert out == "\\u001b[31mred\n\\u202eback\n"
  assert err == "warning: 50%\\u000dof http://***@c/d\n"
