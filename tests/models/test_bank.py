"""Adapters beside weights are what they are merged into them.

That rows are answered with their own: tests/ask/test_adapters.py.
"""

import dataclasses
import functools
import re
from types import SimpleNamespace

import numpy as np
import pytest

from pg import tree
from pg.models import bank, gemma, lora, matrices, paligemma
from tests.support import toy

CFG = toy.config(toy.LLM2)
# Name -> weights that have an adapter, rank, and whether it is DoRA.
ADAPTERS = {
  "all": (".*", 2, False),
  "attention": ("llm/.*(q|kv)_einsum.*|img/.*query.*|img/head.*", 3, False),
  "dora": (".*", 2, True),
}


def adapters(weights):
  """Returns {name: adapter} with random parts; numpy."""
  rng, found = np.random.default_rng(0), {}
  for name, (targets, rank, is_dora) in ADAPTERS.items():
    parts = {}
    for weight, w in tree.flatten(weights).items():
      if matrices.letters(weight) and re.fullmatch(targets, weight):
        shapes = lora.shapes(weight, w.shape, rank)
        draw = lambda k, s=shapes: 0.3 * rng.standard_normal(s[k], np.float32)
        parts[weight] = dict(a=draw("a"), b=draw("b"))
        if is_dora:
          parts[weight]["m"] = 1 + abs(draw("m"))
    found[name] = SimpleNamespace(scale=0.7, parts=parts)
  return found


def merged(weights, adapter):
  flat = tree.flatten(weights)
  for name, parts in adapter.parts.items():
    w, dims = np.asarray(flat[name]), matrices.letters(name)
    flat[name] = lora.merge(adapter.scale, dims, w, parts)
  return tree.unflatten(flat)


def reader(weights):
  """Returns a function that reads a weight, or a layer of it."""
  flat = tree.flatten(weights)
  return lambda name, layer: np.asarray(
    flat[name] if layer is None else flat[name][layer]
  )


def served(weights, i):
  """Returns the matrices of serving of a decoder's layer, numpy."""
  flat = tree.flatten(weights["llm"]["layers"])
  return gemma.serving({k: np.asarray(x[i]) for k, x in flat.items()})


def added(w, one, number):
  """Returns a matrix [in, out] with an adapter of a bank."""
  w = w + one["a"][number] @ one["b"][number]
  return w if one["f"] is None else w * one["f"][number]


close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_kv_heads", [2, 4])
def test_each_matrix_is_that_of_merged_weights(num_kv_heads):
  llm = dataclasses.replace(CFG.llm, num_kv_heads=num_kv_heads)
  assert llm.num_heads == 4
  cfg = dataclasses.replace(CFG, llm=llm)
  weights = toy.params(paligemma.shapes(cfg), seed=1)
  found = adapters(weights)
  made = bank.make(cfg, found, reader(weights))
  assert made.names == tuple(ADAPTERS)
  for number, own in enumerate([SimpleNamespace(parts={}), *found.values()]):
    want = merged(weights, own)
    for i, layer in enumerate(made.llm):
      plain, wanted = served(weights, i), served(want, i)
      for matrix, w in plain.items():
        if matrix in layer:
          w = added(w.T, layer[matrix], number).T
        close(w, wanted[matrix])
    wanted, plain = tree.flatten(want), tree.flatten(weights)
    for name, one in made.img.items():
      w, shape = np.asarray(plain[name]), one["a"].shape
      depth, sizes = shape[:-3], (shape[-2], one["b"].shape[-1])
      for at in np.ndindex(depth):
        own_part = {k: x if x is None else x[at] for k, x in one.items()}
        got = added(w[at].reshape(sizes), own_part, number)
        close(got, wanted[name][at].reshape(sizes))
  assert len(made.img) == 7 and len(made.llm[0]) == 5


def test_an_adapter_of_nothing_changes_nothing():
  assert bank.attach({"img": 1}, None, [0], 1) == {"img": 1}
