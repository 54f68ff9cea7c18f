"""What is tried and advised where something else might fit."""

import ast
import math
import shlex
from types import SimpleNamespace

import pytest

from pg.plan import changes, target
from tests.support import tiny


def nano(**values):
  return tiny.nano(**dict(mesh=dict(fsdp=-1), batch_size=16) | values)


# Bytes an example.
KEPT = dict(everything=40, dots=20, ffw=16, attn_out=8, nothing=5, rows=4)


def attempts(limit, tried):
  """Returns a stand-in for what compiles, by the memory a batch takes."""

  def attempt(c, on, words=""):
    frozen = any(kind is None for _, kind in c.schedule)
    held = KEPT[c.model.remat] * c.batch_size * (0.5 if frozen else 1)
    held /= 1 if c.num_microbatches == 1 else 1.5
    chips = math.prod(map(int, on.name.partition(":")[2].split("x")))
    peak = held / chips
    tried.append((on.name, c.model.remat, c.batch_size))
    found = dict(peak=peak, fits=peak <= limit, chips=chips)
    found |= dict(remat=c.model.remat, batch_size=c.batch_size)
    return found | dict(examples_per_second=100 / KEPT[c.model.remat])

  return attempt


@pytest.mark.parametrize("batch_size", [8, 64, 1024])
def test_a_search_finds_the_largest_batch_of_each_policy(capsys, batch_size):
  c, on, tried = nano(batch_size=batch_size), SimpleNamespace(name="l4:1"), []
  changes.search(c, on, attempts(1280, tried))
  lines = capsys.readouterr().out.splitlines()
  found = [[w.split("=")[-1] for w in line.split()[:2]] for line in lines]
  assert found == [
    ["rows", "256"],
    ["nothing", "256"],
    ["attn_out", "128"],
    ["ffw", "64"],
    ["dots", "64"],
    ["everything", "32"],
  ]
  # A policy begins with the batch of the one before: compiling takes minutes.
  assert len(tried) <= 19


def test_what_does_not_fit_at_all_is_said(capsys):
  changes.search(nano(), SimpleNamespace(name="l4:1"), attempts(3, []))
  assert capsys.readouterr().out == "nothing fits l4:1\n"


@pytest.mark.parametrize(
  "limit, want",
  [
    # 16 examples of 40 bytes on 4 chips take 160.
    (110, ["remat=dots", "num_microbatches=2", "--on v5e:2x4"]),
    (90, ["remat=dots", "--on v5e:2x4", "batch_size=8"]),
    (41, ["remat=attn_out", "--on v5e:4x4", "batch_size=4"]),
    (11, ["batch_size=1"]),
    (5, []),
  ],
)
def test_advice_is_the_least_change_of_each_kind(
  monkeypatch, capsys, limit, want
):
  tried = []
  monkeypatch.setattr(target, "find", lambda name: SimpleNamespace(name=name))
  c = nano(batch_size=16)
  c.model.remat = "everything"
  changes.advice(c, SimpleNamespace(name="v5e:2x2"), attempts(limit, tried))
  first, *lines = capsys.readouterr().out.splitlines()
  assert len(lines) == len(want)
  for line, text in zip(lines, want):
    assert text in line and "examples/s a chip" in line
  if want:
    assert first == "it would fit, the cheapest change first:"
  else:
    assert first == "nothing that was tried would fit"
  assert tried[0] == ("v5e:2x2", "dots", 16)


def test_many_parts_are_advised_where_few_do_not_fit(monkeypatch, capsys):
  monkeypatch.setattr(target, "find", lambda name: SimpleNamespace(name=name))

  def attempt(c, on, words=""):
    return dict(fits=c.num_microbatches >= 16, peak=2**30, chips=4)

  changes.advice(nano(), SimpleNamespace(name="v5e:2x2"), attempt)
  _, line = capsys.readouterr().out.splitlines()
  assert line.startswith("  --config.num_microbatches=16: 1024.0 MiB")


def test_adapters_are_advised_once():
  c, on = nano(), SimpleNamespace(name="l4:1")
  words = "--config.lora.rank=8 --config.frozen_dtype=bfloat16"
  found = {
    w: other for family in changes.changes(c, on) for w, other, _ in family
  }
  assert found[words].lora.rank == 8 and found[words].lora.alpha == 16.0
  assert found[words].frozen_dtype == "bfloat16" and c.lora.rank == 0
  again = changes.changes(found[words], on)
  assert words not in {w for family in again for w, *_ in family}


def test_any_remat_policy_is_advised_from():
  c = nano()
  for policy in KEPT:
    c.model.remat = policy
    first, *_ = changes.changes(c, SimpleNamespace(name="l4:1"))
    tried = [other.model.remat for _, other, _ in first]
    assert [policy, *tried] == list(KEPT)[-len(tried) - 1 :]


def test_what_is_advised_can_be_typed():
  *_, [(words, other, _)] = changes.changes(
    nano(), SimpleNamespace(name="t4:8")
  )
  (flag,) = shlex.split(words)
  key, _, value = flag.partition("=")
  assert key == "--config.schedule"
  assert ast.literal_eval(value) == other.schedule


@pytest.mark.parametrize(
  "name, want",
  [
    ("v5e:8x8", ["v5e:8x16", "v5e:16x16"]),
    ("v5e:16x16", []),
    ("v4:2x2x4", ["v4:2x4x4", "v4:4x4x4"]),
    ("h200:4", ["h200:8"]),
    ("t4:1", ["t4:2", "t4:4"]),
    ("v5e:1x1", ["v5e:1x2", "v5e:2x2"]),
    ("here", []),
  ],
)
def test_there_are_larger_ones(name, want):
  assert changes.larger(name) == want
