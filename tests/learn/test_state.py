"""What a train state holds under each key, and that a restored one goes on."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pg import experiment, sharding, train, tree
from pg.data import stream
from pg.learn import state as state_lib
from pg.models import paligemma, variants
from pg.weights import checkpoint, content, resize, saver
from tests.support import numbers_run

pytestmark = pytest.mark.usefixtures("one_device")
FROZEN = (("img/.*", None), (".*", "cosine"))
CASES = {
  "muon": dict(num_microbatches=2, optimizer="muon", moment_dtype="bfloat16"),
  "adafactor": dict(
    optimizer="adafactor", schedule=FROZEN, frozen_dtype="bfloat16"
  ),
  "lion": dict(
    optimizer="lion",
    ema=0.9,
    nonfinite=dict(policy="skip", max_in_row=2),
    schedule=(
      ("img/.*", dict(kind="rsqrt", delay=1, warmup=2)),
      (".*", dict(kind="poly", cooldown="25%")),
    ),
  ),
}


@pytest.fixture(scope="module", autouse=True)
def registered():
  with pytest.MonkeyPatch.context() as patch:
    numbers_run.register(patch)
    yield


class Trainer:
  """A run of four steps, taken by hand."""

  def __init__(self, **changes):
    self.c = numbers_run.config(total=4, **changes)
    self.run = experiment.open(self.c)
    self.update = train.compile_update(self.c, self.run)

  def steps(self, state, start, stop):
    size = self.c.batch_size
    batches = stream.train_batches(
      self.run.data,
      self.run.form,
      self.c.seed,
      size,
      options=self.run.options,
      start=start * size,
      stop=stop * size,
    )
    with jax.set_mesh(self.run.mesh):
      for _, _, batch in stream.on_devices(batches, self.run.mesh):
        state, _ = self.update(state, batch)
    return state


@functools.cache
def trainer(name):
  return Trainer(**CASES[name])


def save(workdir, step, state):
  with saver.Manager(workdir) as manager:
    manager.save(step, state, dict(step=step))


def flat(state):
  return [np.asarray(x).tobytes() for x in jax.tree.leaves(state)]


@pytest.mark.parametrize("name", CASES)
def test_a_restored_state_goes_on_bit_for_bit(name, tmp_path):
  t = trainer(name)
  state = t.steps(train.init_state(t.c, t.run), 0, 2)
  save(tmp_path, 2, state)
  with saver.Manager(tmp_path) as manager:
    restored = manager.restore(2, train.abstract_state(t.c, t.run))
  assert flat(restored) == flat(state)
  assert flat(t.steps(restored, 2, 4)) == flat(t.steps(state, 2, 4))


def test_a_run_may_start_from_the_optimizer_of_another(tmp_path):
  t = trainer("lion")
  state = t.steps(train.init_state(t.c, t.run), 0, 3)
  save(tmp_path, 3, state)
  c = t.c.copy_and_resolve_references()
  with c.unlocked():
    c.init, c.init_optimizer = str(tmp_path), True
  (tmp_path / "config.json").write_text(c.to_json())
  shutil.copy(t.run.form.tok.path, tmp_path / "tokenizer.model")
  started = train.init_state(c, t.run)
  assert int(started["step"]) == 0
  assert flat(started["params"]) == flat(state["params"])
  have, want = content.flat(started["opt"]), content.flat(state["opt"])
  other = {k for k in want if not np.array_equal(have[k], want[k])}
  # Each of two groups has a schedule of its own; lion counts its steps.
  assert len(other) == 2 and all(k.endswith("inner_state/count") for k in other)
  assert all(int(want[k]) == 3 and int(have[k]) == 0 for k in other)
  # Schedules start anew, so they may be others.
  with c.unlocked():
    c.schedule = ((".*", "cosine"),)
  other = train.init_state(c, experiment.open(c))
  assert len(jax.tree.leaves(other["opt"])) < len(jax.tree.leaves(state["opt"]))
  have = content.flat(other["opt"])
  assert set(have) - set(want) <= {k for k in have if k.endswith("/count")}
  moments = {k for k in have if "/mu/" in k or "/ema/" in k}
  assert len(moments) > 20
  for k in moments:
    assert np.array_equal(have[k], want[k])
  t = trainer("adafactor")
  c = t.c.copy_and_resolve_references()
  with c.unlocked():
    c.init, c.init_optimizer = str(tmp_path), True
  with pytest.raises(ValueError, match="(?s)choice of .* missing opt/"):
    train.init_state(c, t.run)


def test_what_is_kept_of_positions_is_resized_as_these_are(tmp_path):
  t = trainer("lion")
  state = train.init_state(t.c, t.run)
  some = lambda x: x + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape)
  state["opt"] = jax.tree.map(some, state["opt"])
  save(tmp_path, 1, state)

  def larger(name, x):
    grid = name.endswith("/img/pos_embedding")
    return x.update(shape=(1, 16, x.shape[2])) if grid else x

  abstract = train.abstract_state(t.c, t.run)["opt"]
  wanted = jax.tree.unflatten(
    jax.tree.structure(abstract),
    [larger(k, x) for k, x in content.flat(abstract).items()],
  )
  have = content.flat(checkpoint.restore_opt(tmp_path, wanted))
  grids = {k for k in have if k.endswith("/img/pos_embedding")}
  assert len(grids) == 2  # the moment and the average
  for k, old in content.flat(state["opt"]).items():
    want = resize.position_embedding(old, 16) if k in grids else old
    np.testing.assert_array_equal(have[k], want)


def test_what_is_frozen_stays_in_half_precision_and_is_not_lost(tmp_path):
  t = trainer("adafactor")
  state = train.init_state(t.c, t.run)
  first = flat(state["params"]["img"])
  state = t.steps(state, 0, 1)
  for name, x in tree.flatten(state["params"]).items():
    half = name.startswith("img/")
    assert x.dtype == (jnp.bfloat16 if half else jnp.float32), name
  assert flat(state["params"]["img"]) == first
  save(tmp_path, 1, state)
  # As stored, as a run in float32 starts from it, and as one in bfloat16 does.
  stored = checkpoint.restore_params(tmp_path)
  assert flat(stored) == flat(state["params"])
  for shapes in (None, t.run.shapes):
    place = state_lib.abstract(
      t.run.cfg, t.run.tx, t.run.mesh, t.c.sharding, shapes
    )
    wanted = place["params"]
    read = checkpoint.restore_params(tmp_path, wanted)
    for name, x in tree.flatten(read).items():
      assert x.dtype == tree.flatten(wanted)[name].dtype
      np.testing.assert_array_equal(
        np.float32(x), np.float32(tree.flatten(stored)[name])
      )


def test_moments_lie_like_parameters_and_means_of_rows_everywhere(monkeypatch):
  monkeypatch.setattr(sharding, "SMALL", 1)
  cfg = variants.VARIANTS["nano_5m"]
  shapes = paligemma.shapes(cfg)
  mesh = jax.sharding.AbstractMesh((1, 2, 2, 1), sharding.AXES)
  place = lambda tx: state_lib.abstract(cfg, tx, mesh, ((".*", "fsdp"),))
  state = place(optax.scale_by_adam())
  spec = lambda x: x.sharding.spec
  for moment in (state["opt"].mu, state["opt"].nu):
    assert jax.tree.map(spec, moment) == jax.tree.map(spec, state["params"])
  rows = place(optax.scale_by_factored_rms())["opt"].v_row
  found = jax.tree.leaves(rows)
  factored = [x for x in found if x.size > 1]
  assert factored and not any(any(spec(x)) for x in found)
  assert len(found) == len(jax.tree.leaves(shapes))
