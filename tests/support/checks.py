"""Small data with and without problems for `pg.check`, and a way to run it."""

import contextlib
import io
import json
import runpy
import sys
from unittest import mock

from PIL import Image

from pg.inspect import terminal


class Result:
  """What a user sees of a check, and its report.

  Attributes:
    code: what the program ended with.
    out, err: str, what it printed.
    report: inspection.Report, or None where it came to none.
    found: {kind: (severity, count, names of places without their folder)}.
  """

  def __init__(self, code, out, err, report):
    self.code, self.out, self.err, self.report = code, out, err, report
    self._pairs = report.inspection.findings.sorted() if report else ()
    self.found = {
      f.kind: (s, f.count, [w.split("/")[-1] for w, _ in f.places])
      for s, f in self._pairs
    }

  def detail(self, kind):
    """Returns what is said about the first place of a finding."""
    return next(f.places[0][1] for _, f in self._pairs if f.kind == kind)


def run(*args):
  """Runs `python -m pg.check` as a user does; returns Result."""
  render, reports = terminal.render, []
  keep = lambda report: reports.append(report) or render(report)
  out, err = io.StringIO(), io.StringIO()
  with contextlib.ExitStack() as stack:
    enter = stack.enter_context
    enter(mock.patch.object(terminal, "render", keep))
    enter(mock.patch.object(sys, "argv", ["check", *map(str, args)]))
    enter(contextlib.redirect_stdout(out))
    enter(contextlib.redirect_stderr(err))
    loaded = sys.modules.pop("pg.check", None)  # or runpy warns
    try:
      runpy.run_module("pg.check", run_name="__main__")
      code = None
    except SystemExit as end:
      code = end.code
    finally:
      if loaded:
        sys.modules["pg.check"] = loaded
  return Result(code, out.getvalue(), err.getvalue(), *reports or [None])


def row(suffix="a cat", prefix="caption en", **more):
  return {"prefix": prefix, "suffix": suffix, **more}


GOOD = row("a dog"), row("a big cat"), row("two owls", "what is there?")


def some(n):
  """Returns n rows that nothing is wrong with."""
  return [row(f"cat number {i}") for i in range(n)]


def jsonl(path, **more):
  return dict(source="jsonl", path=str(path), **more)


class Folder:
  """A folder of JSON lines and images, which are numbered: 0.png, 1.png, ..."""

  def __init__(self, path):
    self.path, self._made = path, 0

  def write(self, name, *lines):
    """Writes lines, texts or dicts; a dict gets an image unless it has one."""
    texts = []
    for line in lines:
      made = {"image": self._image()}
      texts.append(line if isinstance(line, str) else json.dumps(made | line))
    (self.path / name).write_text("\n".join(texts), encoding="utf-8")
    return self.path / name

  def train(self, *rows, **options):
    """Checks good training data with more rows, which are from line 4 on."""
    file = self.write("train.jsonl", *GOOD, *rows)
    args = [f"--{k.replace('_', '-')}={v}" for k, v in options.items()]
    return run("--train", file, "--res=16", *args)

  def config(self, data, evals=None, more=""):
    """Writes a config file; `more` is a line of its function."""
    (self.path / "mine.py").write_text(
      "from transfers import base\n\n\ndef get_config(arg=None):\n"
      "  c = base.get(arg, res=16, text_len=32)\n"
      f"  c.data = {data}\n  c.evals = {evals or {}}\n  {more}\n  return c\n"
    )
    return self.path / "mine.py"

  def _image(self):
    color = (self._made % 256, self._made // 256, 7)
    name = f"{self._made}.png"
    Image.new("RGB", (20, 16), color).save(self.path / name)
    self._made += 1
    return name
