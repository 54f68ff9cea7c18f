"""Where tests find files."""

import os
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
# What is not committed: tests that need it are skipped where it is absent.
SHARED = ROOT.parent / "shared"
GEMMA = pathlib.Path(
  os.environ.get("PG_GEMMA_TOKENIZER") or SHARED / "tokenizers" / "gemma.model"
)
