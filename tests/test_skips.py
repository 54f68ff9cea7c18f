"""A test that cannot run says why."""

import os
import subprocess
import sys

from tests.support import paths


def test_tests_that_need_gemmas_vocabulary_are_counted_where_it_is_absent():
  command = [sys.executable, "-m", "pytest", "-q", "-m", "gemma"]
  done = subprocess.run(
    [*command, "tests/codecs/test_tokenizer.py"],
    cwd=paths.ROOT,
    env=os.environ | {"PG_GEMMA_TOKENIZER": "nowhere.model"},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout
  assert "\n3 skipped: needs Gemma's vocabulary; PG_GEMMA" in done.stdout
