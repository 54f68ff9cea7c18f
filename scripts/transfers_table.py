"""Writes docs/transfers.md, the table of all recipes, from their configs.

  python -m scripts.transfers_table

Recipes are those of transfers/ with a small release in tests/support/releases.
Counts are those of the official releases; `pg.check` is run on the small ones.
"""

import importlib
import pathlib
import tempfile

from pg import atomic, check, config
from pg.data.formats import splits
from scripts.prepare import release
from tests.support import transfer_rows

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs/transfers.md"
RES = (224, 448, 896)
HEAD = """\
# Transfers

The recipes of PaliGemma's transfers, with their published settings; each file
of `transfers/` says what is known and what is not. Made by
`python -m scripts.transfers_table`.

Data are made once from the official release, `python -m scripts.prepare.NAME
--raw DIR --out data/NAME`; then `python -m pg.train --config CONFIG --workdir
runs/mine`. Data after a `+` are only evaluated on, where they are there.
Scores are what was published for PaliGemma 3B at each resolution, by these
settings; none of them was reached here, for want of the weights. Where the test
answers are not public, they are the test server's. An evaluator called `seen_*`
is on data that are trained on, as they were for the published scores; with
`tune=True` they are held out, and the server's scores are beside them. The
check is `pg.check` on a small made-up release in the official file format: how
many rows it read, and errors if there are any.

| task | data | examples | CONFIG | metric | published | check |
|---|---|--:|---|---|---|---|
"""


def row(name, data):
  """Returns the cells of a recipe.

  Args:
    name: str.
    data: transfer_rows.Data, or None to leave out the last cell.
  """
  configs = {res: load(name, f"res={res}") for res in RES}
  c = load(name)
  trained, looked_at = _sources(c)
  best = next((r for r in (448, 224, 896) if _published(configs[r])), c.res)
  file = f"transfers/{name}.py" + (f":res={best}" if best != c.res else "")
  cells = [
    name,
    ", ".join(trained) + "".join(f" + {x}" for x in looked_at),
    _examples(c),
    f"`{file}`",
    ", ".join(sorted({e["metric"] for e in c.evals.values()} - {"none"})),
    _scores(configs),
  ]
  return [*cells, *([] if data is None else [_status(name, data)])]


def load(name, arg=""):
  return config.load(f"{ROOT}/transfers/{name}.py:{arg}")


def _specs(c):
  return [c.data] if isinstance(c.data.get("source"), str) else c.data.values()


def _sources(c):
  """Returns the preparations trained on, and those only evaluated on."""
  name = lambda spec: pathlib.Path(spec["path"]).name
  prepared = lambda x: x.get("source") == "prepared" and "path" in x
  trained = {name(spec): None for spec in _specs(c) if prepared(spec)}
  looked_at = {name(e): None for e in c.evals.values() if prepared(e)}
  if not trained:
    return ["your own"], []
  return list(trained), [x for x in looked_at if x not in trained]


def _examples(c):
  """Returns how many examples an epoch has, by the official counts."""
  total = 0
  for spec in _specs(c):
    if spec.source != "prepared":
      return ""
    name = pathlib.Path(spec.path).name
    sizes = official(name)
    try:
      parts = splits.parse(spec.split, sizes)
    except (TypeError, ValueError):
      return "?"  # a split whose size is not published
    total += sum(part.stop - part.start for part in parts)
  return f"{total:,}"


def official(name):
  """Returns {split: rows in the official release, None if not published}."""
  with tempfile.TemporaryDirectory() as empty:
    raw = release.Raw(empty)
    raw.lenient = True
    module = importlib.import_module(f"scripts.prepare.{name}")
    return {split.name: split.num for split in module.splits(raw)}


def _published(c):
  return {
    (evaluator, score): value
    for evaluator, how in c.evals.items()
    for score, value in how.get("published", {}).items()
  }


def _scores(configs):
  """Returns "test acc .832 (224), .856 (448)" of all published scores."""
  found = {}
  for res, c in configs.items():
    for key, value in _published(c).items():
      text = f"{value:.4f}".removeprefix("0")
      found.setdefault(key, []).append(f"{text} ({res})")
  lines = [f"{e} {s} {', '.join(v)}" for (e, s), v in found.items()]
  return "<br>".join(lines)


def _status(name, data):
  """Returns what pg.check says about the small release."""
  c = data.config(name, model="nano", res=24)
  with c.unlocked():
    c.num_images, c.text_len = 16, 512
  report = check.check(c, name)
  rows = sum(d.num_read for d in report.inspection.datasets)
  # A recipe that trains on val, as published, is told so.
  kinds = {
    f.kind for s, f in report.inspection.findings.sorted() if s == "error"
  }
  kinds -= {"shared_question"}
  return f"{rows} rows" + "".join(f", {kind}" for kind in sorted(kinds))


def page(data):
  """Returns the text of the page."""
  lines = [
    f"| {' | '.join(row(n, data))} |" for n in sorted(transfer_rows.RECIPES)
  ]
  return HEAD + "\n".join(lines) + "\n"


def main():
  with tempfile.TemporaryDirectory() as folder:
    atomic.write(PAGE, page(transfer_rows.Data(folder)))
  print(f"{PAGE}: {len(transfer_rows.RECIPES)} recipes")


if __name__ == "__main__":
  main()
