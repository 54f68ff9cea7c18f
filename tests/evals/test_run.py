"""Answers are written from a copy of the weights, or as well without one."""

import dataclasses
from types import SimpleNamespace

import jax
import ml_collections
import numpy as np
import pytest

from pg.decode import sampling
from pg.evals import run as evals_run
from pg.models import lora, paligemma
from tests.support import toy

ROWS = [((True,), 3, 0), ((True,), 8, 0), ((False,), 1, 0), ((True,), 2, 3)]
ADAPTERS = dict(
  rank=2,
  targets=".*",
  alpha=3.0,
  dropout=0.5,  # of training alone
  rank_stabilized=False,
  dora=True,
)


def config(**how):
  cfg = toy.config(toy.LLM2)
  c = ml_collections.ConfigDict(
    dict(lora=ADAPTERS | how, schedule=((".*", "constant"),))
  )
  how = lora.from_config(c, paligemma.shapes(cfg))
  return dataclasses.replace(cfg, lora=how)


@pytest.mark.parametrize("rank, num_beams", ((2, 1), (0, 2)))
def test_answers_need_no_copy_of_the_weights(rank, num_beams):
  cfg = config(rank=rank)
  params = toy.params(paligemma.shapes(cfg), seed=5)
  params["llm"]["embedder"]["input_embedding"] *= 0.5  # repeats itself less
  params["llm"]["final_norm"]["scale"] += 4
  batch = toy.batch(ROWS, text_len=8) | dict(index=np.arange(4))
  options = -1, 4, num_beams, sampling.Sampler(), ()
  answer = evals_run._generate(cfg, *options)
  want = answer(evals_run.unroll(params, cfg.dtype, cfg.lora), batch)
  have = answer(params, batch)
  for x, y in zip(have, want, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)
  assert len(np.unique(want[0])) > 4


def test_there_is_a_copy_where_there_is_room_for_it(monkeypatch):
  cfg = dataclasses.replace(config(), dtype="bfloat16")
  params = jax.tree.map(jax.numpy.asarray, toy.params(paligemma.shapes(cfg)))
  copy = evals_run.unroll(params, cfg.dtype, cfg.lora)
  size, whole = (
    sum(x.nbytes for x in jax.tree.leaves(tree)) for tree in (copy, params)
  )
  assert size < 0.75 * whole
  assert evals_run.has_room(params, cfg)  # a CPU
  for share in (0.99, 1.01):
    have = evals_run.ROOM * size * share
    monkeypatch.setattr(evals_run, "free", lambda _, have=have: have)
    assert evals_run.has_room(params, cfg) == (share > 1)


def test_the_device_with_least_memory_decides():
  device = lambda *x: SimpleNamespace(
    memory_stats=lambda: x and dict(bytes_limit=x[0], bytes_in_use=x[1])
  )
  assert evals_run.free([device(9, 2), device(9, 5), device()]) == 4
  assert evals_run.free([device()]) == np.inf


@pytest.mark.parametrize("fits", (True, False))
def test_without_room_all_are_run_with_the_weights_of_training(
  monkeypatch, fits
):
  given, params, copy = {}, dict(x=1), dict(x=2)

  def run(task, cfg, params, *rest):
    given[task.name] = params
    return evals_run.Result({}, {}, {}, {}, [], 0)

  monkeypatch.setattr(evals_run, "has_room", lambda *_: fits)
  monkeypatch.setattr(evals_run, "unroll", lambda *_: copy)
  monkeypatch.setattr(evals_run, "run", run)
  tasks = [
    SimpleNamespace(name=name, generates=name != "nll")
    for name in ("nll", "a", "b")
  ]
  cfg = SimpleNamespace(dtype="float32", lora=None)
  evals_run.evaluate(tasks, cfg, params, *[None] * 2, 1, "")
  mine = copy if fits else params
  assert given == dict(a=mine, b=mine, nll=params)
