"""The command of docs/design.md makes a page of each module."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.support import paths

PAGE = (paths.ROOT / "docs/design.md").read_text()
(COMMAND,) = re.findall(r"^python -m (pdoc .*)$", PAGE, re.M)


@pytest.mark.slow
def test_pages_are_made_of_all_modules_and_that_of_pg_leads_to_load(tmp_path):
  assert " -o build/api " in COMMAND
  words = shlex.split(COMMAND.replace("build/api", shlex.quote(str(tmp_path))))
  done = subprocess.run(
    [sys.executable, "-m", *words],
    cwd=paths.ROOT,
    env=os.environ | {"XLA_FLAGS": ""},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  made = {
    str(x.relative_to(tmp_path).with_suffix(""))
    for x in tmp_path.rglob("*.html")
  }
  modules = {
    str(x.relative_to(paths.ROOT).with_suffix("")).removesuffix("/__init__")
    for x in (paths.ROOT / "pg").rglob("*.py")
  }
  assert modules <= made
  (link,) = re.findall(
    r'<code>load</code> is <code><a href="([^"#]+)#load">',
    (tmp_path / "pg.html").read_text(),
  )
  page = (tmp_path / link).read_text()
  assert '<section id="load">' in page and '<h6 id="raises">' in page
