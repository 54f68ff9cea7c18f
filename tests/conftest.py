"""Tests run on eight fake CPU devices."""

import collections
import functools
import os
import signal
import sys

import pytest

from tests.support import paths

NO_GEMMA = "needs Gemma's vocabulary; PG_GEMMA_TOKENIZER can name its file"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
flags = os.environ.get("XLA_FLAGS", "")
if "host_platform_device_count" not in flags:
  os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"

# Broadcasting to more dimensions is written out, in subprocesses, too.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# Tests compile more than they compute: less optimized code is ready sooner.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Products of int8 weights with activations as they are.
os.environ.setdefault("PG_INT8_KERNEL", "0")
# What is compiled once is compiled once: for all tests and their subprocesses.
cache = paths.ROOT / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

# A shell's background job ignores Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path, config):
  """Leaves out files that take seconds to import and whose tests do not run."""
  name = collection_path.name
  named = any(name in arg for arg in config.args)
  if name.startswith("test_parity") and not named:
    return "not parity" in config.option.markexpr or None


def pytest_collection_modifyitems(items):
  """Puts files with whole runs first, as each of them takes a process long.

  Tests that need Gemma's vocabulary are skipped where it is absent.
  """
  items.sort(key=lambda item: "one_device" not in item.fixturenames)
  if not paths.GEMMA.is_file():
    for item in items:
      if item.get_closest_marker("gemma"):
        item.add_marker(pytest.mark.skip(reason=NO_GEMMA))


def pytest_terminal_summary(terminalreporter):
  """Says how many tests were skipped, and why."""
  skipped = terminalreporter.stats.get("skipped", ())
  reasons = (s.longrepr[2].removeprefix("Skipped: ") for s in skipped)
  for reason, number in sorted(collections.Counter(reasons).items()):
    terminalreporter.write_line(f"{number} skipped: {reason}")


@pytest.fixture(scope="module", autouse=True)
def few_programs():
  """Forgets compiled programs before they are too many.

  Each is three mappings of memory, of which Linux lets a process have 65,530:
  one more, and the compiler crashes.
  """
  yield
  if "jax" not in sys.modules or not os.path.exists("/proc/self/maps"):
    return
  with open("/proc/self/maps", "rb") as f:
    num = sum(1 for _ in f)
  if num > 20_000:
    sys.modules["jax"].clear_caches()


@pytest.fixture(scope="module")
def one_device():
  """Lets runs see one device: a program for eight takes longer to compile.

  Their blind baseline reads few rows.
  """
  import jax

  from pg import sharding
  from pg.evals import blind

  with pytest.MonkeyPatch.context() as patch:
    one = functools.partial(sharding.make_mesh, devices=jax.devices()[:1])
    patch.setattr(sharding, "make_mesh", one)
    patch.setattr(blind, "NUM_TEXTS", 64)
    yield
