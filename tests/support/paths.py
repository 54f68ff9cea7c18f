"""Where tests find files."""

import os
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
# Gemma's vocabulary has terms of its own and is not committed: tests marked
# `gemma` are skipped where it is absent.
GEMMA = pathlib.Path(
  os.environ.get("PG_GEMMA_TOKENIZER")
  or ROOT.parent / "shared" / "tokenizers" / "gemma.model"
)
