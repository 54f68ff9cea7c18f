"""Each slot has settings of its own."""

import jax
import numpy as np
import pytest

from pg.codecs import tokenizer
from pg.decode import constraint, sampling, slots


def test_rows_with_settings_of_their_own_draw_as_they_do_alone():
  logits = np.random.default_rng(0).normal(0, 2, (6, 40)).astype("f")
  heat = [0.0, 0.7, 0.7, 1.5, 0.0, 2.0]
  top_p = [1.0, 1.0, 0.6, 0.9, 0.5, 0.2]
  seed, step, number = (
    [0, 1, 1, 2, 3, 9],
    [0, 4, 4, 0, 2, 7],
    [0, 0, 2, 1, 0, 0],
  )
  array = lambda x, kind: np.asarray(x, kind)
  each, choose = jax.jit(sampling.choose_each), jax.jit(sampling.choose)
  zero = np.zeros(1, np.int32)
  settings = (
    array(heat, np.float32),
    array(top_p, np.float32),
    array(seed, np.uint32),
    array(step, np.int32),
    array(number, np.int32),
  )
  some = np.array([0, 1, 4])  # without a nucleus
  for rows in (np.arange(6), np.tile(some, 2)):
    own = (x[rows] for x in settings)
    got = each(logits[rows], *own)
    want = [
      choose(
        logits[i : i + 1],
        sampling.Sampler(heat[i], top_p=top_p[i], seed=seed[i]),
        zero,
        np.int32(step[i]),
        array([number[i]], np.int32),
      )[0]
      for i in rows
    ]
    assert got.tolist() == [int(x) for x in want]


def test_an_automaton_that_fits_no_slot_is_refused():
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  found = constraint.one_of(tok, ["yes", "no"])
  slots.check(found)
  classes, table, stride = slots.table_of(found)
  assert stride == found.table.shape[1]
  assert table[: found.table.size].tolist() == found.table.ravel().tolist()
  large = found._replace(table=np.zeros((1 << 10, 1 << 9), np.int32))
  with pytest.raises(ValueError, match="1024 nodes and 512 classes"):
    slots.check(large)
