"""Runs of a model of a few thousand numbers on rows of `numbers`."""

import dataclasses
import types

import jax

from pg import sharding
from pg.evals import blind
from pg.models import variants
from tests.support import numbers, tiny, toy


def config(total=6, **changes):
  """Returns a config of two datasets and two evaluators; some rows are bad."""
  rows = dict(source="numbers", size=40)
  c = tiny.nano(total, warmup=1, save_every=2, res=8, text_len=10, **changes)
  with c.unlocked():
    c.data = dict(
      a=dict(rows, pp="keep_even"),
      b=dict(rows, start=100, weight=3, bad=[5], gone=[17], pp="draw"),
    )
    c.evals = dict(
      caption=dict(rows, metric="exact", num_examples=12, bad=[3], max_len=3),
      nll=dict(rows, metric="perplexity", num_examples=11, bad=[3]),
    )
    c.bad = dict(policy="skip", max_fraction=0.2)
  return c


def register(patch):
  """Lets `train.fit` find the rows and the model of `config`."""
  numbers.register(patch)
  patch.setattr(blind, "NUM_TEXTS", 64)
  patch.setattr(variants, "from_config", _model)


def opened(data, form, total=10):
  """Returns what a log needs of an Experiment."""
  return types.SimpleNamespace(
    total=total,
    data=data,
    form=form,
    mesh=sharding.make_mesh({}, devices=jax.devices()[:1]),
    rates={"train/lr": lambda step: 0.5 * step},
    flops=lambda num_text: 1e9 * num_text,
  )


def _model(model, vocab_size):
  llm = dataclasses.replace(toy.LLM, vocab_size=vocab_size)
  return toy.config(llm)
