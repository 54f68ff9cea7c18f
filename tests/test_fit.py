"""`pg.fit`: what a config needs of chips, here and where none are."""

import functools
import json
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from pg import chips, config, fit
from pg.codecs import tokenizer
from pg.data import prefix_lm
from pg.plan import needs, target
from tests.support import paths, tiny

NAMES = dict(config_file="nano.py", num_examples=640, efficiency=0.5)
ARGS = SimpleNamespace(**NAMES, decode=False)


@functools.cache
def here():
  """This machine, as if its processors were in the table."""
  chip = chips.Chip("cpu", "cpu", 2**30, 1e12, 1e11, 1e10, "")
  return target.find("here")._replace(chip=chip)


def nano(**changes):
  return tiny.nano(**dict(mesh=dict(fsdp=-1), batch_size=16) | changes)


@functools.cache
def training():
  c = nano()
  plan = fit.compile_training(c, here(), 640)
  return c, plan, fit.figures(c, here(), plan, ARGS)


def test_a_plan_is_of_the_batch_that_training_reads():
  c, plan, _ = training()
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  form = prefix_lm.Form(tok, c.res, c.num_images, c.text_len)
  image = np.zeros((c.res, c.res, 3), np.uint8)
  example = dict(image=image, prefix="a", suffix="b", source=0, index=0)
  row = prefix_lm.train_row(form, example)
  rows = fit.rows(c, plan.mesh, num_text=c.text_len + 1)
  assert {k: x.shape[1:] for k, x in rows.items()} == {
    k: np.shape(x) for k, x in {**row, "source": 0, "index": 0}.items()
  }
  dtypes = {k: x.dtype for k, x in rows.items() if k in row}
  assert dtypes == {k: np.asarray(row[k]).dtype for k in dtypes}


def test_memory_is_that_of_the_shards_of_a_device():
  c, plan, found = training()
  params = jax.tree.leaves(plan.state["params"])
  assert found["num_parameters"] == sum(x.size for x in params)
  # All arrays of a small model are whole everywhere.
  assert found["parameters"] == 4 * found["num_parameters"]
  assert found["optimizer"] == pytest.approx(2 * found["parameters"], rel=1e-3)
  assert found["replicated"] == found["parameters"]
  assert found["replicated_share"] == pytest.approx(1 / 3, rel=1e-3)
  batch = c.batch_size // 8 * c.res**2 * 3
  state = found["parameters"] + found["optimizer"]
  assert found["peak"] > state + batch
  assert found["activations"] == found["peak"] - state
  assert found["fits"] and found["has"] > found["peak"]


def test_speed_follows_from_the_chip():
  c, _, found = training()
  each = (found["flops"] + found["repeated"]) * c.batch_size / 8
  assert found["products"] == each / 0.5e12
  moved = found["collectives"]["all-reduce"][1]
  assert moved > found["parameters"]  # gradients
  assert found["links"] == 2 * moved / 1e10
  times = [found[k] for k in ("products", "memory", "links")]
  assert found["seconds"] == max(times) > 0
  assert found["steps"] == tiny.TOTAL
  hours = tiny.TOTAL * found["seconds"] / 3600
  assert found["hours"] == pytest.approx(hours)
  assert found["chip_hours"] == pytest.approx(8 * hours)


def test_a_smaller_device_does_not_hold_it(monkeypatch, capsys):
  c, plan, found = training()
  monkeypatch.setattr(needs, "memory", lambda on: found["peak"] - 1)
  small = fit.figures(c, here(), plan, ARGS)
  assert not small["fits"]
  fit.show(small, ARGS)
  assert "it does not fit" in capsys.readouterr().out
  fit.show(found, ARGS)
  out = capsys.readouterr().out
  assert "it fits" in out and "examples/s" in out and "chip-hours" in out
  assert json.loads(json.dumps(found)) is not None


def test_what_the_compiler_refuses_is_an_answer(monkeypatch):
  said = "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: 17.94G of 15.75G\nmore"

  def refuse(*args, **kwargs):
    raise jax.errors.JaxRuntimeError(said)

  lowered = SimpleNamespace(compile=refuse)
  step = SimpleNamespace(lower=lambda *args: lowered)
  monkeypatch.setattr(fit.train, "compile_update", lambda c, run: step)
  c = nano()
  plan = fit.compile_training(c, here())
  found = fit.figures(c, here(), plan, ARGS)
  assert not found["fits"]
  assert found["failed"] == "E1000: CompileTimeHbmOom: 17.94G of 15.75G"
  assert not fit.attempt(c, here(), ARGS)["fits"]
  said = "INTERNAL: a bug"
  with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
    fit.compile_training(c, here())


def test_answers_are_planned_with_the_weights_that_evaluation_has(capsys):
  plan = fit.compile_decoding(nano(text_len=16), here())
  layers = plan.state["params"]["llm"]["layers"]
  assert len(layers) == 3 and "qkv" in layers[0]["attn"]
  args = SimpleNamespace(**NAMES, decode=True)
  found = fit.figures(nano(), here(), plan, args)
  assert found["peak"] > found["parameters"] and found["optimizer"] == 0
  weights = needs.on_device(plan.state["params"]["llm"])
  assert found["read"] > weights
  assert found["memory"] == found["read"] / 1e11
  assert found["tokens_per_second"] == 16 / found["seconds"]
  fit.show(found, args)
  assert "tokens/s at most" in capsys.readouterr().out


@pytest.mark.parametrize("variant", ["pg1_3b", "pg2_28b"])
def test_a_model_has_the_dtype_of_what_it_is_compiled_for(variant):
  c = config.load(str(paths.ROOT / f"transfers/vqav2.py:model={variant}"))
  for platform, dtype in (("tpu", "bfloat16"), ("cpu", "float32")):
    cfg = fit.model_of(c, SimpleNamespace(platform=platform))
    assert cfg.dtype == dtype and cfg.llm.vocab_size == 257_152


def test_steps_are_unknown_where_the_data_are_not_here():
  c = config.load(str(paths.ROOT / "transfers/vqav2.py"))
  assert fit.num_steps(c) is None
  assert fit.num_steps(c, 2560) == 100
  with c.unlocked():
    c.total = 7
  assert fit.num_steps(c) == 7


# Bytes an example.
KEPT = dict(everything=40, dots=20, ffw=16, attn_out=8, nothing=5)


def attempts(limit, tried):
  """Returns a stand-in for `fit.attempt`, by memory that a batch takes."""

  def attempt(c, on, args):
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
def test_a_search_finds_the_largest_batch_of_each_policy(
  monkeypatch, capsys, batch_size
):
  monkeypatch.setattr(fit, "attempt", attempts(1280, []))
  fit.search(nano(batch_size=batch_size), SimpleNamespace(name="l4:1"), ARGS)
  lines = capsys.readouterr().out.splitlines()
  found = [[w.split("=")[-1] for w in line.split()[:2]] for line in lines]
  assert found == [
    ["nothing", "256"],
    ["attn_out", "128"],
    ["ffw", "64"],
    ["dots", "64"],
    ["everything", "32"],
  ]


def test_what_does_not_fit_at_all_is_said(monkeypatch, capsys):
  monkeypatch.setattr(fit, "attempt", attempts(4, []))
  fit.search(nano(batch_size=16), SimpleNamespace(name="l4:1"), ARGS)
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
  monkeypatch.setattr(fit, "attempt", attempts(limit, tried))
  monkeypatch.setattr(target, "find", lambda name: SimpleNamespace(name=name))
  c = nano(batch_size=16)
  c.model.remat = "everything"
  fit.advice(c, SimpleNamespace(name="v5e:2x2"), ARGS)
  lines = capsys.readouterr().out.splitlines()[1:]
  assert len(lines) == max(1, len(want))
  for line, text in zip(lines, want):
    assert text in line and "examples/s a chip" in line
  if not want:
    assert "nothing that was tried" in lines[0]
  assert tried[0] == ("v5e:2x2", "dots", 16)


def test_any_remat_policy_is_advised_from():
  c = nano()
  for policy in KEPT:
    c.model.remat = policy
    first, *_ = fit.changes(c, SimpleNamespace(name="l4:1"))
    tried = [other.model.remat for _, other, _ in first]
    assert [policy, *tried] == list(KEPT)[-len(tried) - 1 :]


@pytest.mark.parametrize(
  "name, want",
  [
    ("v5e:8x8", ["v5e:8x16", "v5e:16x16"]),
    ("v5e:16x16", []),
    ("v4:2x2x4", ["v4:2x4x4", "v4:4x4x4"]),
    ("h200:4", ["h200:8"]),
    ("t4", []),
    ("here", []),
  ],
)
def test_there_are_larger_ones(name, want):
  assert fit.larger(name) == want
