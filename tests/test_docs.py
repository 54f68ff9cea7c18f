"""What pages of docs/ name is there.

The cookbook's Python is run by tests/ask/test_page.py, the commands of
finetune.md by test_finetune.py.
"""

import ast
import re
import shlex

import pytest

from pg import config, pp, schema
from pg.ask import answer, load, model, options
from pg.data import source
from pg.decode import sampling
from pg.evals import metrics, task
from pg.pp import parse
from tests.support import paths
from transfers import base

DOCS = paths.ROOT / "docs"
COOKBOOK = (DOCS / "cookbook.md").read_text()
COMING = (DOCS / "coming_from.md").read_text()
FINETUNE = (DOCS / "finetune.md").read_text()
PAGES = dict(cookbook=COOKBOOK, coming_from=COMING, finetune=FINETUNE)
# Pages whose commands are not those of verbs.
NOT_RUN = (DOCS / "not_run.md").read_text()
OTHERS = dict(not_run=NOT_RUN, design=(DOCS / "design.md").read_text())
CODE = re.compile(r"`([^`]+)`")


def rows(text):
  """Returns the cells of each row of the tables of a page, without heads."""
  lines = [x for x in text.splitlines() if x.startswith("| ")]
  return [[x.strip() for x in line[1:-1].split(" | ")] for line in lines]


def flags(verb):
  """Returns the flags of a verb, which it gives to `command.run`."""
  tree = ast.parse((paths.ROOT / "pg" / f"{verb}.py").read_text())
  (call,) = (
    node
    for node in ast.walk(tree)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "command.run"
  )
  given = {k.arg: k.value for k in call.keywords}
  known = {x for x in given if x not in ("with_config", "joins")}
  with_config = ast.unparse(given.get("with_config", ast.Constant(True)))
  return known | ({"config"} if with_config != "False" else set())


def check_command(words):
  """Sees that a verb has the flags of a command, and its config the keys."""
  assert words[:2] == ["python", "-m"]
  verb = words[2].removeprefix("pg.")
  known, files = flags(verb), {}
  for word, value in zip(words, [*words[1:], ""], strict=True):
    if word.startswith("--config."):
      assert word[9:].partition("=")[0] in schema.KEYS, word
    elif word.startswith("--"):
      assert word[2:].replace("-", "_") in known, word
      files |= {value: 1} if word == "--config" else {}
  for file in set(files) - {"F", "F:res=448"}:
    path, _, rest = file.partition(":")
    assert config.load(f"{paths.ROOT / path}:{rest}").batch_size


COMMANDS = [
  line
  for text in PAGES.values()
  for block in re.findall(r"```bash\n(.*?)```", text, re.S)
  for line in block.splitlines()
]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_has_only_flags_that_there_are(line):
  check_command(shlex.split(line))


def anchor(head):
  """Returns what a link to a heading has after "#"."""
  return re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*PAGES, *OTHERS])
def test_a_link_of_a_page_leads_somewhere(page):
  links = re.findall(r"\]\(([^)]+)\)", (PAGES | OTHERS)[page])
  assert links
  for link in links:
    name, _, place = link.partition("#")
    if "://" in name:
      continue
    path = DOCS / name if name else DOCS / f"{page}.md"
    assert path.exists(), link
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.M) if place else []
    assert not place or place in map(anchor, heads), link


NEVER = [x for x in rows(NOT_RUN) if x[0] not in ("never run", "---")]


@pytest.mark.parametrize("what, instead, wrong", NEVER)
def test_what_stands_for_what_was_never_run_is_there(what, instead, wrong):
  """A page that is linked, a file, or a test that has tests."""
  assert what and wrong
  links = re.findall(r"\]\(([^)#]+)", instead)
  assert links or instead == "Nothing"
  for link in links:
    path = DOCS / link
    assert path.exists(), link
    if path.name.startswith("test_"):
      assert "\ndef test_" in path.read_text(), link


def test_what_was_never_run_is_what_results_say():
  """A page that has such numbers takes its row out of the other one."""
  results = (DOCS / "results.md").read_text()
  assert "no accelerator" in results
  assert "None of this has run on a real TPU" in (DOCS / "pods.md").read_text()
  assert "none of them was reached here" in (DOCS / "transfers.md").read_text()
  never = [what.partition(",")[0].partition(":")[0] for what, *_ in NEVER]
  assert {"A GPU", "A TPU", "Several hosts"} <= set(never)


# Arguments of `pg.load` and `Model.answers`, of samplers, evaluators, rows.
ARGUMENTS = {
  *load.load.__kwdefaults__,
  *options.Options._fields,
  *sampling.Sampler.__dataclass_fields__,
  *task.KEYS,
  *("source", "path", "image_root", "prefix", "suffix"),
}
VALUES = dict(metric={*metrics.METRICS, "perplexity", "none"})
VALUES["source"] = source.SOURCES


def check_key(key):
  """Sees that a config has a key, which may be a group of others."""
  name = re.sub(r"^(data|evals)\.\w+", r"\1.*", key)
  assert any(x == name or x.startswith(name + ".") for x in schema.KEYS), key


def check_name(code):
  """Sees that what stands in a table as ours is ours."""
  name, _, value = map(str.strip, code.partition("="))
  call = re.match(r"([\w.]+)\(", code)
  if code.startswith("python -m "):
    check_command(shlex.split(code))
  elif code.startswith("config."):
    check_key(name.removeprefix("config."))
    c = base.get(None)
    keys = name.split(".")[1:]
    if value:
      for key in keys[:-1]:
        c = c[key]
      c[keys[-1]] = ast.literal_eval(value)
  elif code.startswith("--"):
    assert code[2:].replace("-", "_") in flags("predict"), code
  elif code.startswith(("model.", "answer.", "pg.")):
    place, _, attribute = code.partition("(")[0].partition(".")
    if place == "pg":
      assert (paths.ROOT / "pg" / f"{attribute}.py").exists() or (
        attribute == "load"
      )
    else:
      owner = dict(model=model.Model, answer=answer.Answer)[place]
      known = {*dir(owner), *getattr(owner, "__dataclass_fields__", ())}
      assert attribute in known, code
  elif call:
    assert call[1] in pp.OPS, code
    parse.build(code)
  elif name.startswith(("transfers/", "scripts/", ":")) or "+" in name:
    path, _, argument = code.partition(":")
    assert not path or (paths.ROOT / path).exists() or "+" in path, code
    if path.endswith(".py"):
      assert config.load(f"{paths.ROOT / path}:{argument}").batch_size
  elif code[0] == '"':
    ast.literal_eval(code)
  else:
    assert name in ARGUMENTS, code
    if name in VALUES:
      assert ast.literal_eval(value) in VALUES[name], code


OURS = [code for _, ours in rows(COMING) for code in CODE.findall(ours)]


@pytest.mark.parametrize("code", sorted(set(OURS)))
def test_a_name_of_ours_is_there(code):
  check_name(code)


def prompt(name):
  """Returns the template of the prompts of a transfer."""
  c = config.load(str(paths.ROOT / f"transfers/{name}.py"))
  for node in reversed(parse.nodes(c.pp)):
    how = {k.arg: k.value.value for k in getattr(node, "keywords", ())}
    op = parse.name(node)
    if op == "detect_all":
      return "detect all classes"
    if op == "science_qa":
      return None
    if how.get("out") == "prefix":
      text = node.args[0].value
      text = text if op == "fmt" else f"{{{text}}}"
      return text.replace("{question_text}", "{question}")
  raise AssertionError(f"{name} has no prompt")


SECTIONS = dict(
  re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", COOKBOOK, re.M | re.S)
)
ASKED = [
  (CODE.findall(cells[0]), name)
  for cells in rows(SECTIONS["Fine-tuned"])[1:]
  for name in CODE.findall(cells[1])
]


@pytest.mark.parametrize("asked, name", ASKED, ids=[x for _, x in ASKED])
def test_a_transfer_asks_as_the_cookbook_says(asked, name):
  assert asked == [x for x in [prompt(name)] if x]


def test_the_cookbook_has_every_transfer_once():
  files = {x.stem for x in (paths.ROOT / "transfers").glob("*.py")}
  files -= {"base", "forkme", "lora", "mix", "nano", "small_gpu"}
  assert sorted(name for _, name in ASKED) == sorted(files)


def test_the_cookbook_has_the_prompts_of_pre_training():
  file = (paths.ROOT / "configs/pretraining.py").read_text()
  made = set(re.findall(r"fmt\('([^']*)', out='prefix'\)", file))
  shown = [CODE.findall(x) for x, _ in rows(SECTIONS["Pre-trained"])[1:]]
  assert len(made) > 4 and made <= {code for found in shown for code in found}
  # Those about objects, of a cat and a dog there and a cow, by the op `ask`.
  written = parse.ask.ask.__doc__.replace("cow", "cat")
  asked = [x for x, *_ in shown if x.startswith("answer en ") and "{" not in x]
  assert len(asked) == 4 and all(x in written for x in asked)
