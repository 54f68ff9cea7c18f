"""Who may import whom. The rooms of the house are layers: a file imports files
of lower layers, and the lowest ones run without jax, in data workers and on
machines that only read a config.
"""

import ast
import collections
import importlib.metadata
import re
import subprocess
import sys

import pytest

from tests.support import paths

ROOT = paths.ROOT
PATHS = {
  ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
    ".__init__"
  ): path
  for folder in ("pg", "configs", "transfers", "scripts")
  for path in sorted((ROOT / folder).rglob("*.py"))
}

GROUND = (
  r"pg\.(atomic|chips|config|limits|machine|origin|progress|schema|stop|table"
  r"|tree)"
)
STORAGE = r"pg\.data\.storage(\..+)?"
CODECS = r"pg\.codecs(\..+)?"
PP = r"pg\.pp(\..+)?"
FORMATS = r"pg\.data\.formats(\..+)?"
SYNTHETIC = r"pg\.data\.synthetic(\..+)?"
SPINE = (
  r"pg\.data"
  r"(\.(source|prefix_lm|bad|cache|features|options|fingerprint|mixture))?"
)
BATCHES = r"pg\.data\.(pipeline|stream|lengths|evaluation)"
INSPECT = r"pg\.inspect(\..+)?"
METRICS = r"pg\.evals\.metrics(\..+)?"
MODELS = r"pg\.models(\..+)?"
ARRAYS = rf"{MODELS}|pg\.(learn(\..+)?|sharding|store)"
DECODE = r"pg\.decode(\..+)?"
WEIGHTS = r"pg\.weights(\..+)?"
PLAN = r"pg\.plan(\..+)?"
EVALS = r"pg\.evals(\.(?!metrics).+)?"
PAGES = r"pg\.log\.pages(\..+)?"
LOG = r"pg\.log(\.(?!pages).+)?"
ASK = r"pg\.ask(\..+)?"
SERVER = r"pg\.server(\..+)?"
CONFIGS = r"(configs|transfers)(\..+)?"

ANY = r".+"
NO_JAX = r"(?!(jax|jaxlib|flax|optax|orbax|chex|grain|tensorflow|torch)\b).+"
CONFIG_ONLY = r"ml_collections\b.*"
BAR_ONLY = r"tqdm\b.*"

# From the ground up: the first row whose pattern is the module says which of
# ours and which of other people's modules it may import.
LAYERS = (
  (r"pg\.progress", r"", BAR_ONLY),
  (GROUND, GROUND, CONFIG_ONLY),
  (CONFIGS, rf"pg\.config|{CONFIGS}", CONFIG_ONLY),
  (STORAGE, f"{GROUND}|{STORAGE}", NO_JAX),
  (CODECS, f"{GROUND}|{STORAGE}|{CODECS}", NO_JAX),
  (PP, f"{GROUND}|{CODECS}|{PP}", NO_JAX),
  (SYNTHETIC, f"{GROUND}|{CODECS}|{SYNTHETIC}", NO_JAX),
  (FORMATS, f"{GROUND}|{STORAGE}|{PP}|{FORMATS}", NO_JAX),
  (SPINE, f"{GROUND}|{PP}|{FORMATS}|{SYNTHETIC}|{SPINE}", NO_JAX),
  (METRICS, f"{GROUND}|{CODECS}|{PP}|{METRICS}", NO_JAX),
  (INSPECT, f"{GROUND}|{CODECS}|{PP}|{SPINE}|{INSPECT}", NO_JAX),
  (MODELS, rf"{GROUND}|pg\.sharding|{MODELS}", ANY),
  (ARRAYS, f"{GROUND}|{ARRAYS}", ANY),
  (DECODE, f"{GROUND}|{CODECS}|{ARRAYS}|{DECODE}", ANY),
  (
    WEIGHTS,
    f"{GROUND}|{STORAGE}|{CODECS}|{PP}|{ARRAYS}|{DECODE}|{WEIGHTS}",
    ANY,
  ),
  (BATCHES, rf"{GROUND}|{PP}|{SPINE}|pg\.(sharding|store)|{BATCHES}", ANY),
  (PLAN, f"{GROUND}|{ARRAYS}|{PLAN}", ANY),
  (
    EVALS,
    f"{GROUND}|{CODECS}|{FORMATS}|{SPINE}|{BATCHES}|{ARRAYS}|{DECODE}"
    f"|{METRICS}|{EVALS}",
    ANY,
  ),
  (PAGES, f"{GROUND}|{CODECS}|{INSPECT}|{LOG}|{PAGES}", ANY),
  (LOG, f"{GROUND}|{STORAGE}|{SPINE}|{BATCHES}|{PAGES}|{LOG}", ANY),
  (
    ASK,
    f"{GROUND}|{STORAGE}|{CODECS}|{PP}|{SPINE}|{INSPECT}|{ARRAYS}|{DECODE}"
    f"|{WEIGHTS}|{EVALS}|{PAGES}|{ASK}",
    ANY,
  ),
  (
    SERVER,
    rf"{GROUND}|{STORAGE}|pg\.models\.\w+|{DECODE}|{ASK}|{SERVER}",
    ANY,
  ),
  (r"pg", r"pg\.ask\.load", r""),
  (r"pg\.\w+|scripts(\.\w+)+", ANY, ANY),  # the verbs
)
VERBS = LAYERS[-1]
PROCESS_INDEX = (
  r"pg\.(job|store|data\.(pipeline|stream)"
  r"|log\.(run|lock|bucket_lock|mirror|pages\.predictions)"
  r"|weights\.(checkpoint|saver)|evals\.run)"
)


def layer(module):
  return next(row for row in LAYERS if re.fullmatch(row[0], module))


def imports(code):
  """Returns the full names of what a source text imports, wherever it does."""
  names = []
  for node in ast.walk(ast.parse(code)):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      origin = "." * node.level + (node.module or "")
      names += [f"{origin}.{alias.name}" for alias in node.names]
  return names


def is_ours(name):
  return name.split(".")[0] in ("pg", "configs", "transfers", "scripts", "")


def each(*patterns):
  return pytest.mark.parametrize(
    "module", [m for m in PATHS if any(re.fullmatch(p, m) for p in patterns)]
  )


def test_imports_inside_functions_and_of_several_names_are_seen():
  code = "import a.b as c\ndef f():\n  from d import e, g\n  from . import h"
  assert imports(code) == ["a.b", "d.e", "d.g", "..h"]


@each(ANY)
def test_a_file_imports_only_what_its_layer_may(module):
  _, ours, others = layer(module)
  for name in imports(PATHS[module].read_text()):
    if is_ours(name):
      assert re.fullmatch(ours, name), f"{module} imports {name}"
    elif name.split(".")[0] not in sys.stdlib_module_names:
      assert re.fullmatch(others, name), f"{module} imports {name}"


@each(ANY)
def test_a_file_imports_modules_of_ours_and_not_names(module):
  for name in filter(is_ours, imports(PATHS[module].read_text())):
    assert name in PATHS, f"{module} imports {name}"


@each(r"pg\.models(\..+)?")
def test_a_model_knows_of_sharding_only_the_axes_of_a_batch(module):
  for node in ast.walk(ast.parse(PATHS[module].read_text())):
    if isinstance(node, ast.Attribute):
      if isinstance(node.value, ast.Name) and node.value.id == "sharding":
        assert node.attr == "BATCH", f"{module}:{node.lineno}"


@each(rf"(?!{PROCESS_INDEX}$)(pg|configs|transfers)\b.*")
def test_a_file_does_not_ask_which_process_it_runs_in(module):
  for node in ast.walk(ast.parse(PATHS[module].read_text())):
    if isinstance(node, ast.Attribute):
      assert node.attr != "process_index", f"{module}:{node.lineno}"


@each(*(row[0] for row in LAYERS[:-1]))
def test_a_file_below_the_verbs_does_not_read_flags(module):
  names = imports(PATHS[module].read_text())
  assert not [name for name in names if name.startswith("absl.flags")]


@each(r"pg\b.*")
def test_a_file_is_named_by_what_is_in_it(module):
  drawers = {"utils", "util", "common", "helpers", "base", "misc", "shared"}
  assert not drawers & set(module.split("."))


def test_everything_that_is_imported_is_a_requirement():
  kinds = ("", "-kaggle", "-serve", "-wandb")
  files = [ROOT / f"requirements{kind}.txt" for kind in kinds]
  lines = [line for file in files for line in file.read_text().splitlines()]
  required = {
    re.match(r"[\w-]+", line)[0].lower().replace("_", "-")
    for line in lines
    if line and not line.startswith("#")
  }
  owners = importlib.metadata.packages_distributions()
  for module, path in PATHS.items():
    if not module.startswith("scripts."):
      tops = {name.split(".")[0] for name in imports(path.read_text())}
      for top in tops - set(sys.stdlib_module_names):
        dists = {d.lower().replace("_", "-") for d in owners.get(top, [top])}
        assert is_ours(top) or dists & required, f"{module} imports {top}"


def test_data_workers_metrics_and_configs_never_load_jax():
  modules = [m for m in PATHS if layer(m)[2] in (NO_JAX, CONFIG_ONLY, BAR_ONLY)]
  code = (
    "import importlib, sys\n"
    f"for name in {modules}:\n"
    "  importlib.import_module(name)\n"
    "  assert not {'jax', 'tensorflow'} & set(sys.modules), name\n"
  )
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("module", sorted(PATHS))
def test_a_name_of_a_module_is_given_once(module):
  """Two of a name come of two changes that did not know of each other."""
  given = collections.Counter(
    target.id
    for node in ast.parse(PATHS[module].read_text()).body
    if isinstance(node, ast.Assign)
    for target in node.targets
    if isinstance(target, ast.Name)
  )
  assert [name for name, num in given.items() if num > 1] == []
