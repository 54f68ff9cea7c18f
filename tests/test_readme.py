"""The README says what is there."""

import re

import pytest

from pg import config
from tests.support import tiny

README = (tiny.ROOT / "README.md").read_text()


@pytest.mark.parametrize(
  "path", sorted(set(re.findall(r"\]\(([^:)]+)\)", README)))
)
def test_a_link_leads_somewhere(path):
  path, _, anchor = path.partition("#")
  assert (tiny.ROOT / path).exists()
  heads = re.findall(r"^#+ (.*)$", README, re.M) if anchor else ()
  slugs = {re.sub(r"[^\w -]", "", x.lower()).replace(" ", "-") for x in heads}
  assert not anchor or anchor in slugs


@pytest.mark.parametrize("folder", re.findall(r"^(pg/\w+/) ", README, re.M))
def test_a_folder_of_the_map_exists(folder):
  assert list((tiny.ROOT / folder).glob("*.py"))


def test_the_map_leaves_no_folder_out():
  folders = {p.parent.name for p in (tiny.ROOT / "pg").glob("*/__init__.py")}
  assert folders == set(re.findall(r"^pg/(\w+)/ ", README, re.M))


def test_the_two_commands_are_on_the_first_screen():
  top = "\n".join(README.splitlines()[:20])
  assert "bash scripts/run.sh" in top and "bash scripts/test.sh" in top


MADE = set(re.findall(r"^cp \S+ (\S+)$", README, re.M))
CONFIGS = set(re.findall(r"--config ([\w/.]+\.py)", README)) - MADE


@pytest.mark.parametrize("file", sorted(CONFIGS))
def test_a_config_of_a_command_loads(file):
  assert config.load(str(tiny.ROOT / file)).batch_size
