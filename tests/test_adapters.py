"""A run that trains adapters: what it saves, and what can be done with it."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

import pg
from pg import convert, evaluate, experiment, train, tree
from pg.log import history
from pg.weights import checkpoint, folders, load, peft, tensors
from tests.support import numbers_run

pytestmark = pytest.mark.usefixtures("one_device")


def config(init="", total=4, **changes):
  c = numbers_run.config(total=total, init=init, log_every=1)
  with c.unlocked():
    c.lora.rank = 2 if init else 0
    c.lora.update(changes)
    c.max_checkpoints = None
  return c


@pytest.fixture(scope="module")
def runs(one_device, tmp_path_factory):
  """A run of all weights, one that adapts them, and its scores."""
  with pytest.MonkeyPatch.context() as patch:
    numbers_run.register(patch)
    base, own = (str(tmp_path_factory.mktemp(x)) for x in ("base", "own"))
    train.fit(config(total=2), base)
    yield base, own, train.fit(config(base), own)


def weights(name):
  """Returns {tensor: all of it} of opened weights."""
  opened = load.open(name)
  return {k: tensors.whole(opened.reader, k) for k in opened.reader.specs}


def nll(result):
  return result["nll"].scores["nll"]


def test_its_checkpoints_hold_the_adapter_alone(runs):
  base, own, _ = runs
  found = checkpoint.restore_params(own)
  assert list(found) == ["lora"]
  size = lambda path: sum(
    x.nbytes for x in jax.tree.leaves(checkpoint.restore_params(path))
  )
  assert size(own) < size(base) / 2
  sums = checkpoint.meta(own)["base"]
  assert set(sums) == set(weights(base))


def test_it_goes_on_exactly_from_what_it_saved(runs, tmp_path):
  base, own, _ = runs
  again = str(tmp_path / "again")
  shutil.copytree(own, again)
  shutil.rmtree(f"{again}/checkpoints/4")
  assert folders.steps(f"{again}/checkpoints") == [2]
  train.fit(config(base), again)
  first, second = (checkpoint.restore_params(x) for x in (own, again))
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_its_name_alone_and_both_names_are_the_same_model(runs, tmp_path):
  base, own, results = runs
  alone, both = weights(own), weights(f"{base}+{own}")
  plain = weights(base)
  assert set(alone) == set(plain)
  changed = {k for k in alone if not np.array_equal(alone[k], plain[k])}
  assert "llm/layers/mlp/linear" in changed
  assert "llm/embedder/input_embedding" not in changed
  for name in alone:
    np.testing.assert_array_equal(alone[name], both[name])
  with pytest.raises(ValueError, match="kept no averages"):
    load.open(f"{base}+{own}:ema")
  found = evaluate.evaluate(config(base), own, str(tmp_path))
  assert nll(found) == pytest.approx(nll(results), rel=1e-5)
  texts = lambda result: [x["prediction"] for x in result["caption"].records]
  assert texts(found) == texts(results)
  assert nll(found) != pytest.approx(
    nll(evaluate.evaluate(config(), base, str(tmp_path))), rel=1e-3
  )


def test_it_is_asked_beside_its_weights(runs, tmp_path):
  base, own, _ = runs
  folder, other = str(tmp_path / "peft"), str(tmp_path / "other.npz")
  convert.convert(own, folder, "peft")
  one = pg.load(base, adapters={"run": own, "peft": folder})
  image = np.full((8, 8, 3), 90, np.uint8)
  (want,), (plain,) = (
    pg.load(x).predict(image, "3", max_len=2) for x in (own, base)
  )
  for name, logp in (
    ("run", want.logp),
    ("peft", want.logp),
    (None, plain.logp),
  ):
    (got,) = one.with_adapter(name).predict(image, "3", max_len=2)
    np.testing.assert_allclose(got.logp, logp, atol=1e-4)
  assert abs(np.subtract(want.logp, plain.logp)).max() > 1e-3
  convert.convert(own, other, "npz")
  tok = str(pathlib.Path(base) / "tokenizer.model")
  with pytest.raises(ValueError, match="the adapter was trained on"):
    pg.load(other, tokenizer=tok, adapters={"run": own})


def test_it_is_converted_to_plain_weights_and_to_peft(runs, tmp_path):
  base, own, _ = runs
  merged, folder = str(tmp_path / "merged.npz"), str(tmp_path / "peft")
  convert.convert(own, merged, "npz", check=True)
  convert.convert(own, folder, "peft")
  want = weights(own)
  for name, x in weights(merged).items():
    np.testing.assert_array_equal(x, want[name])
  for name, x in weights(f"{base}+{folder}").items():
    np.testing.assert_allclose(x, want[name], atol=1e-6)
  raw = json.loads((tmp_path / "peft" / peft.CONFIG).read_text())
  assert raw["base_model_name_or_path"] == base
  with pytest.raises(ValueError, match="has no adapter"):
    convert.convert(base, str(tmp_path / "x"), "peft")


def test_other_weights_than_it_was_trained_on_are_refused(runs, tmp_path):
  base, own, _ = runs
  other = str(tmp_path / "other.npz")
  convert.convert(own, other, "npz")
  with pytest.raises(ValueError, match="the adapter was trained on"):
    weights(f"{other}+{own}")
  with pytest.raises(ValueError, match="is no adapter"):
    load.open(f"{own}+{base}")
  c = config(other)
  for accept in (False, True):
    with pytest.raises(ValueError, match="the adapter was trained on"):
      train.fit(c, own, accept=accept)
  # The same values in another file are the same weights.
  same = str(tmp_path / "same.npz")
  convert.convert(base, same, "npz")
  assert nll(train.fit(config(same), own))
  line = (pathlib.Path(own) / history.FILE).read_text()
  assert "which has to hold the same values" in line


def test_an_adapter_of_nothing_is_refused(runs):
  c = config()
  c.lora.rank = 2
  with pytest.raises(ValueError, match="no weights to adapt: set init"):
    train.fit(c, "x")


def test_what_init_is_not_to_set_is_drawn(runs):
  base, _, _ = runs
  c = config(base)
  with c.unlocked():
    c.lora.rank, c.dont_load = 0, ("img/head/.*",)
  run = experiment.open(c)
  got = tree.flatten(train.init_state(c, run)["params"])
  stored = weights(base)
  changed = {k for k, x in got.items() if not np.array_equal(x, stored[k])}
  # A new projector starts at zero.
  assert changed == {"img/head/bias", "img/head/kernel"}
  assert not any(np.any(got[k]) for k in changed)
  for change in (dict(rank=2), dict(init=""), dict(init_optimizer=True)):
    with c.unlocked():
      c.lora.rank = change.pop("rank", 0)
      c.init, c.init_optimizer = base, False
      c.update(change)
    with pytest.raises(ValueError, match="dont_load is .*: it is of the weigh"):
      experiment.open(c)


def test_adapters_of_adapted_weights(runs, tmp_path):
  _, own, _ = runs
  second = str(tmp_path / "second")
  c = config(own, total=2, dora=True, dropout=0.1)
  train.fit(c, second)
  assert list(checkpoint.restore_params(second)) == ["lora"]
  assert set(weights(second)) == set(weights(own))
