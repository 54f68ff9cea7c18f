"""What the comments of forkme.py say of other data is so."""

import ast
import io
import re

import pyarrow as pa
import pytest
from pyarrow import parquet

from pg import config, pp, schema
from pg.data import pipeline, stream
from pg.evals import task
from tests.support import hub, paths, records

FORKME = paths.ROOT / "transfers/forkme.py"


def as_parquet(start, stop):
  rows = [
    dict(
      image={"bytes": records.png(i), "path": None},
      question=f"how grey is {i}?",
      answer=f"{i} of 255",
    )
    for i in range(start, stop)
  ]
  sink = io.BytesIO()
  parquet.write_table(pa.Table.from_pylist(rows), sink)
  return sink.getvalue()


@pytest.fixture
def server(tmp_path, monkeypatch):
  monkeypatch.setenv("PG_CACHE", str(tmp_path / "cache"))
  files = {
    "README.md": b"# Greys",
    "data/train-00000-of-00002.parquet": as_parquet(0, 4),
    "data/train-00001-of-00002.parquet": as_parquet(4, 6),
    "data/validation-00000-of-00001.parquet": as_parquet(6, 9),
    "data/test-00000-of-00001.parquet": as_parquet(9, 12),
  }
  with hub.serve("owner/greys", files) as server:
    yield server


def with_the_lines_in_a_comment(text):
  """Returns forkme's text with the two lines for the hub in it."""
  data, pp = re.findall(r"^  #   (c\..*)$", text, re.MULTILINE)
  text = re.sub(r"^  c\.data = .*$", f"  {data}", text, flags=re.MULTILINE)
  return re.sub(r"^  (c\.pp = .*)$", rf"  \1\n  {pp}", text, flags=re.MULTILINE)


def test_a_dataset_of_the_hub_takes_two_lines(server, tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(with_the_lines_in_a_comment(FORKME.read_text()))
  root = "hf://datasets/owner/greys/data"
  c = config.load(f"{path}:train={root}/train-*,val={root}/validation-*")
  (data,) = pipeline.datasets(c.data, c.pp)
  assert len(data.source) == 6
  row = stream.read(data, 5, pp.Turn(), dict)
  assert row["prefix"] == "how grey is 5?"
  assert row["suffix"] == "5 of 255"
  assert row["image"].shape == (96, 96, 3)
  evaluators = task.tasks(c)
  assert [len(e.data.source) for e in evaluators] == [3, 3]
  got = stream.read(evaluators[0].data, 0, pp.Turn(), dict)
  assert got["suffix"] == "6 of 255"
  assert sorted(server.asked) == [
    ("GET", "data/train-00000-of-00002.parquet"),
    ("GET", "data/train-00001-of-00002.parquet"),
    ("GET", "data/validation-00000-of-00001.parquet"),
  ]


def comments():
  """Returns {key: what is said above it and on its lines} of forkme."""
  text = FORKME.read_text()
  lines = ["", *text.splitlines()]
  said = {}

  def note(key, first, last):
    above = first - 1
    while lines[above].lstrip().startswith("#"):
      above -= 1
    near = lines[above + 1 : last + 1]
    parts = (line.partition("# ")[2].rstrip(".:") for line in near)
    said[key] = " ".join(parts)

  for node in ast.walk(ast.parse(text)):
    if not isinstance(node, ast.Assign):
      continue
    (target,) = node.targets
    for x in getattr(target, "elts", [target]):
      if isinstance(x, ast.Attribute):
        note(x.attr, node.lineno, node.end_lineno)
        for word in getattr(node.value, "keywords", ()):
          note(f"{x.attr}.{word.arg}", word.lineno, word.value.end_lineno)
  return said


@pytest.mark.parametrize(
  "key",
  [
    k
    for k in schema.KEYS
    if "*" not in k and k not in ("arg", "mesh.replica", "mesh.tensor")
  ],
)
def test_the_comment_of_a_key_has_its_type_and_range(key):
  kind = re.escape(schema.KEYS[key])
  assert re.search(rf"(^|[\s(]){kind}($|[\s,;.)])", comments()[key])
