"""Adapters of quantised weights: a run, what it saves, and what it is asked."""

import shutil

import jax
import numpy as np
import pytest

from pg import convert, evaluate, train
from pg.weights import checkpoint, load, tensors
from tests.support import numbers_run
from tests.test_adapters import config, nll, weights

pytestmark = [pytest.mark.usefixtures("one_device"), pytest.mark.slow]


def quantised(init, kind="nf4", **changes):
  c = config(init, **changes)
  c.frozen_dtype = kind
  return c


@pytest.fixture(scope="module")
def runs(one_device, tmp_path_factory):
  """A run of all weights, a quantised file of it, and a run of adapters."""
  with pytest.MonkeyPatch.context() as patch:
    numbers_run.register(patch)
    base, own = (str(tmp_path_factory.mktemp(x)) for x in ("base", "own"))
    file = str(tmp_path_factory.mktemp("file") / "int8.safetensors")
    train.fit(config(total=2), base)
    convert.convert(base, file, None, quantize="int8")
    yield base, file, own, train.fit(quantised(base), own)


def test_it_saves_the_adapter_alone_and_goes_on_exactly(runs, tmp_path):
  base, _, own, _ = runs
  assert list(checkpoint.restore_params(own)) == ["lora"]
  again = str(tmp_path / "again")
  shutil.copytree(own, again)
  shutil.rmtree(f"{again}/checkpoints/4")
  train.fit(quantised(base), again)
  first, second = (checkpoint.restore_params(x) for x in (own, again))
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_it_is_asked_with_the_weights_that_it_was_trained_on(runs, tmp_path):
  base, _, own, results = runs
  found = evaluate.evaluate(config(base), own, str(tmp_path))
  assert nll(found) == pytest.approx(nll(results), rel=1e-5)
  both = weights(f"{base}+{own}")
  for name, x in weights(own).items():
    np.testing.assert_array_equal(x, both[name])
  plain, name = weights(base), "llm/embedder/input_embedding"  # not adapted
  assert 0 < np.abs(both[name] - plain[name]).max() < 0.01


def test_a_quantised_file_is_scored_as_the_weights_it_was_made_of(
  runs, tmp_path
):
  base, file, _, _ = runs
  kept = evaluate.evaluate(config(), file, str(tmp_path / "a"))
  made = evaluate.evaluate(config(), base, str(tmp_path / "b"), quantize="int8")
  plain = evaluate.evaluate(config(), base, str(tmp_path / "c"))
  assert nll(kept) == pytest.approx(nll(made), rel=1e-6)
  assert nll(kept) == pytest.approx(nll(plain), rel=0.02)
  assert nll(kept) != nll(plain)


def test_adapters_are_trained_of_a_quantised_file_and_nothing_else_is(
  runs, tmp_path
):
  _, file, _, _ = runs
  with pytest.raises(ValueError, match="is quantised, .*lora.rank=8"):
    train.fit(numbers_run.config(total=2, init=file), str(tmp_path / "all"))
  own = str(tmp_path / "own")
  train.fit(quantised(file, "int8", total=2), own)
  opened = load.open(own)
  assert set(tensors.quantized(opened.reader)) == {
    "llm/embedder/input_embedding"
  }
  assert set(weights(own)) == set(weights(file))
  with pytest.raises(ValueError, match="the adapter was trained on"):
    weights(f"{runs[0]}+{own}")


def test_weights_are_not_quantised_to_be_trained_whole(runs):
  c = quantised("")
  with pytest.raises(ValueError, match="frozen_dtype is 'nf4', .* lora.rank"):
    train.fit(c, "x")
