"""Reads the reference scores in golden/metrics."""

import gzip
import json

from tests.support import paths

FOLDER = paths.GOLDEN / "metrics"


def read(name):
  """Returns the rows of a file, list of dict, and the summary after them."""
  with gzip.open(FOLDER / f"{name}.jsonl.gz", "rt", encoding="utf-8") as f:
    rows = [json.loads(line) for line in f]
  summary = rows.pop()["summary"] if "summary" in rows[-1] else None
  return rows, summary
