"""All recipes on small releases, and what their first example becomes.

python -m tests.support.transfer_rows   writes tests/golden/transfers.json again
"""

import functools
import importlib
import json
import pathlib
import pkgutil
import re
import tempfile

from pg import config, pp
from pg.codecs import tokenizer
from pg.data import pipeline, prefix_lm, stream
from scripts.prepare import release
from tests.support import paths, releases

ROOT = paths.ROOT
GOLDEN = ROOT / "tests/golden/transfers.json"
TOKENIZERS = {
  "nano": pathlib.Path(tokenizer.NANO),
  "gemma": paths.GEMMA,
}


def _collect(name):
  """Returns the dicts of that name in the files of releases/, merged."""
  found = {}
  for module in pkgutil.iter_modules(releases.__path__):
    module = importlib.import_module(f"tests.support.releases.{module.name}")
    found |= getattr(module, name, {})
  return found


ROWS = _collect("ROWS")  # row -> function that writes its release
PREPARES = _collect("PREPARES")  # recipe -> its preparations, if not its name
ARGS = _collect("ARGS")  # recipe -> arguments, with {raw} for its release
RECIPES = [r for r in ROWS if (ROOT / f"transfers/{r}.py").exists()]


def preparations(row):
  return PREPARES.get(row, [row])


class Data:
  """Releases and prepared data in a folder, made as they are asked for."""

  def __init__(self, root):
    self.root = pathlib.Path(root)

  def raw(self, name, otherwise=None):
    """Returns the folder of a release; `otherwise`: the row that writes it."""
    folder = self.root / "raw" / name
    if not folder.exists():
      folder.mkdir(parents=True)
      ROWS[name if name in ROWS else otherwise](folder)
    return folder

  @functools.cache  # noqa: B019, there are one or two
  def prepare(self, row):
    """Returns the splits that a row's preparations wrote: {(name, split)}."""
    done = set()
    for name in preparations(row):
      module = importlib.import_module(f"scripts.prepare.{name}")
      out = self.root / "data" / name
      found = release.prepare(
        module.splits,
        self.raw(name, row),
        out,
        allow_incomplete=True,
        quiet=True,
      )
      done |= {(name, prepared.split.name) for prepared in found}
    return done

  def config(self, row, **arguments):
    """Returns a recipe's config on this data."""
    self.prepare(row)
    spec = f"{ROOT}/transfers/{row}.py"
    words = [f"{k}={v}" for k, v in arguments.items()]
    words += [f"data={self.root}/data"] if preparations(row) else []
    if row in ARGS:
      words.append(ARGS[row].format(raw=self.raw(row)))
    return shorten(config.load(f"{spec}:{','.join(words)}"))


def shorten(c):
  """Makes slices of rows fit small releases; returns the config."""
  with c.unlocked():
    for spec in (c.data, *c.data.values(), *c.evals.values()):
      if hasattr(spec, "items") and isinstance(spec.get("split"), str):
        spec.split = short(spec.split)
  return c


def short(split):
  """Returns split syntax with every number of rows but percentages 1."""
  return re.sub(r"(?<=[\[:-])\d[\d_]*(?=[:\]])", "1", split)


def first(c):
  """Returns the first example of a config's training data, after its ops."""
  dataset = pipeline.datasets(c.data, c.pp)[0]
  for i in range(len(dataset.source)):
    try:
      return stream.read(dataset, i, pp.Turn(row=i), dict)
    except pp.Skip:
      continue
  raise ValueError("all rows are skipped")


def golden(c, example, tok):
  """Returns the tokens and masks of an example, as lists and texts."""
  texts = example["prefix"], example["suffix"]
  spans = example.get("no_loss", ())
  row = prefix_lm.make(*texts, tok, c.text_len, spans)
  num = int(row["mask_input"].sum())
  masks = {
    k: "".join(map(str, row[k][:num].astype(int).tolist()))
    for k in ("mask_ar", "mask_loss")
  }
  return dict(tokens=row["tokens"][:num].tolist(), **masks)


def main():
  made = {}
  with tempfile.TemporaryDirectory() as root:
    data = Data(root)
    for row in sorted(RECIPES):
      c = data.config(row)
      example = first(c)
      made[row] = dict(
        prefix=example["prefix"],
        suffix=example["suffix"],
        text_len=c.text_len,
        **{
          name: golden(c, example, tokenizer.Tokenizer(path))
          for name, path in TOKENIZERS.items()
        },
      )
  lines = [
    f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}"
    for k, v in made.items()
  ]
  GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
  print(f"{GOLDEN}: {len(made)} recipes")


if __name__ == "__main__":
  main()
