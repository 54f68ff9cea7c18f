"""What tests of preparations have in common."""

import importlib

from pg.data.formats import prepared
from scripts.prepare import release


def rows(raw, name, split, *, pictures=False):
  """Prepares a release next to its folder, and returns the rows of a split."""
  module = importlib.import_module(f"scripts.prepare.{name}")
  out = raw.parent / name
  release.prepare(module.splits, raw, out, allow_incomplete=True, quiet=True)
  source = prepared.find(out, split)
  drop = set() if pictures else {"image"}
  found = [source[i] for i in range(len(source))]
  return [{k: row[k] for k in row if k not in drop} for row in found]


def change(path, old, new):
  """Replaces a text in a file, which must be there."""
  text = path.read_text(encoding="utf-8")
  assert old in text
  path.write_text(text.replace(old, new), encoding="utf-8")
