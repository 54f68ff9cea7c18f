"""`pg.fit`: what a config needs of chips, here and where none are."""

import functools
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from pg import chips, config, fit
from pg.codecs import tokenizer
from pg.data import prefix_lm
from pg.plan import needs, target, text
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
  text.show(small, ARGS)
  assert "it does not fit" in capsys.readouterr().out
  text.show(found, ARGS)
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
  assert not fit.attempt(c, here(), args=ARGS)["fits"]
  said = "INTERNAL: a bug"
  with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
    fit.compile_training(c, here())


def test_what_holds_not_even_the_state_is_not_compiled_for(monkeypatch, capsys):
  held = training()[2]["parameters"] + training()[2]["optimizer"]
  monkeypatch.setattr(fit.needs, "memory", lambda on: held - 1)
  monkeypatch.setattr(fit.train, "compile_update", None)
  found = fit.attempt(nano(), here(), args=ARGS)
  assert not found["fits"]
  assert found["failed"].startswith("parameters and optimizer alone take ")
  assert capsys.readouterr().err == ""  # at each of a dozen attempts
  text.show(found, ARGS)
  assert "it does not fit. parameters and opt" in capsys.readouterr().out


def test_a_program_without_text_has_its_memory(monkeypatch, capsys):
  c, plan, found = training()

  def unread():
    raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure\nmore")

  monkeypatch.setattr(plan.compiled, "as_text", unread)
  some = fit.figures(c, here(), plan, ARGS)
  assert some["peak"] == found["peak"] and "seconds" not in some
  text.show(some, ARGS)
  last = capsys.readouterr().out.splitlines()[-1]
  assert last.startswith("how fast is unknown") and "RET_CHECK" in last


@pytest.mark.parametrize(
  "flags, error",
  [
    (dict(efficiency=50.0), "--efficiency 50: wanted a share of the peak"),
    (dict(efficiency=0.0), "--efficiency 0: wanted a share of the peak"),
    (dict(num_examples=0), "--num-examples 0: wanted how many"),
    (dict(search=True, decode=True), "--search is of training"),
  ],
)
def test_flags_that_mean_nothing_are_refused(flags, error):
  given = dict(search=False, decode=False, efficiency=0.5, num_examples=None)
  args = SimpleNamespace(config=nano(), on="here", **given | flags)
  with pytest.raises(ValueError, match=error):
    fit.main(args)


@pytest.mark.parametrize("words", ["", "--config.num_microbatches=2"])
def test_what_is_tried_is_said(monkeypatch, words):
  c, plan, _ = training()
  said = []
  monkeypatch.setattr(fit.progress, "say", said.append)
  monkeypatch.setattr(fit, "compile_training", lambda *args: plan)
  fit.attempt(c, here(), words, args=ARGS)
  assert said[0].startswith(f"{words or 'here, remat'}")


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
  text.show(found, args)
  assert "tokens/s at most" in capsys.readouterr().out


@pytest.mark.parametrize("variant", ["pg1_3b", "pg2_28b"])
def test_a_model_has_the_dtype_of_what_it_is_compiled_for(variant):
  c = config.load(str(paths.ROOT / f"transfers/vqav2.py:model={variant}"))
  for platform, dtype in (("tpu", "bfloat16"), ("cpu", "float32")):
    device = SimpleNamespace(platform=platform)
    cfg = fit.model_of(c, SimpleNamespace(devices=[device]))
    assert cfg.dtype == dtype and cfg.llm.vocab_size == 257_152


def test_steps_are_unknown_where_the_data_are_not_here():
  c = config.load(str(paths.ROOT / "transfers/vqav2.py"))
  assert fit.num_steps(c) is None
  assert fit.num_steps(c, 2560) == 100
  with c.unlocked():
    c.total = 7
  assert fit.num_steps(c) == 7
