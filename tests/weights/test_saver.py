"""A state is saved and restored, whatever happens meanwhile."""

import asyncio
import gc
import logging
import multiprocessing
import os
import random
import resource
import shutil
import sys
import threading
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pg.weights import checkpoint, folders, saver

# Children with a backend of their own, forked from a server that has imported
# the slow modules already.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["jax", "optax", "orbax.checkpoint"])


def child(num_devices, function, *args):
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", num_devices)
  assert jax.device_count() == num_devices
  function(*args)


def run_on(num_devices, function, *args):
  process = FORKS.Process(target=child, args=(num_devices, function, *args))
  process.start()
  process.join()
  assert process.exitcode == 0


def small_state(seed=0):
  rng = np.random.default_rng(seed)
  params = {
    "img": {"kernel": jnp.asarray(rng.normal(size=(16, 8)), jnp.float32)},
    "llm": {"scale": jnp.asarray(rng.normal(size=(8,)), jnp.bfloat16)},
    "temperature": jnp.asarray(rng.normal(), jnp.float32),
  }
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(1e-3, mu_dtype=jnp.bfloat16)
  )
  return {
    "params": params,
    "opt": optimizer.init(params),
    "quantized": jnp.asarray(rng.integers(-128, 128, (4, 4)), jnp.int8),
    "frozen": jnp.asarray([True, False]),
    "step": jnp.asarray(seed, jnp.int32),
  }


def abstract(state):
  def describe(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

  return jax.tree.map(describe, state)


def assert_same(wanted, found):
  assert jax.tree.structure(wanted) == jax.tree.structure(found)
  for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture
def saved(tmp_path):
  with saver.Manager(tmp_path) as manager:
    for step in (10, 20):
      manager.save(step, small_state(step), {"step": step})
  return tmp_path


def test_a_state_comes_back_bit_for_bit_with_its_meta(tmp_path):
  state = small_state()
  meta = {"step": 7, "next_example": 10**12, "config": {"lr": 1e-5, "pp": "é|"}}
  with saver.Manager(tmp_path) as manager:
    assert manager.latest() is None
    manager.save(7, state, meta)
  with saver.Manager(tmp_path) as manager:
    assert manager.latest() == 7 and not manager.interrupted
    restored = manager.restore(7, abstract(state))
    assert manager.meta(7) == meta
  assert_same(state, restored)


def sharded_state(axes, spec):
  mesh = jax.make_mesh(axes, ("fsdp", "tensor")[: len(axes)])
  sharding = jax.NamedSharding(mesh, jax.P(*spec))
  values = np.arange(64 * 8, dtype=np.float32).reshape(64, 8)
  return {"params": {"w": jax.device_put(values, sharding)}}


def save_sharded(workdir, axes, spec):
  with saver.Manager(workdir) as manager:
    manager.save(1, sharded_state(axes, spec), {})


def restore_sharded(workdir, axes, spec):
  wanted = sharded_state(axes, spec)
  w = wanted["params"]["w"]
  with saver.Manager(workdir) as manager:
    restored = manager.restore(1, abstract(wanted))
  assert_same(wanted, restored)
  assert restored["params"]["w"].sharding == w.sharding
  params = checkpoint.restore_params(workdir, abstract(wanted)["params"])
  assert params["w"].sharding == w.sharding
  assert_same(wanted["params"], params)
  assert_same(wanted["params"], checkpoint.restore_params(workdir))


def test_a_state_saved_on_8_devices_returns_on_1_and_on_another_mesh(tmp_path):
  run_on(8, save_sharded, tmp_path, (8,), ("fsdp",))
  run_on(1, restore_sharded, tmp_path, (1,), ())
  run_on(8, restore_sharded, tmp_path, (2, 4), ("tensor", "fsdp"))


def test_every_difference_of_a_tree_is_listed_by_name(saved):
  wanted = abstract(small_state())
  wanted["ema"] = wanted["step"]
  del wanted["frozen"]
  wanted["params"]["img"]["kernel"] = jax.ShapeDtypeStruct((16, 9), "float32")
  with saver.Manager(saved) as manager:
    with pytest.raises(ValueError) as error:
      manager.restore(20, wanted)
  assert str(error.value).splitlines()[1:] == [
    "- missing ema ()",
    "+ unexpected frozen (2,)",
    "! params/img/kernel: wanted (16, 9), found (16, 8)",
  ]


def test_a_state_of_another_dtype_is_refused(saved):
  wanted = abstract(small_state())
  wanted["params"]["llm"]["scale"] = jax.ShapeDtypeStruct((8,), "float32")
  with saver.Manager(saved) as manager:
    with pytest.raises(ValueError, match="llm/scale: wanted float32, found bf"):
      manager.restore(20, wanted)


def test_a_step_without_a_checkpoint_is_named(saved):
  with saver.Manager(saved) as manager:
    with pytest.raises(ValueError, match=r"no .* step 15 .* are \[10, 20\]"):
      manager.restore(15, abstract(small_state()))


def test_only_the_newest_are_kept(tmp_path):
  with saver.Manager(tmp_path, max_checkpoints=2) as manager:
    for step in (9, 10, 11, 100):
      manager.save(step, small_state(step), {})
  assert folders.steps(tmp_path / "checkpoints") == [11, 100]
  assert len(os.listdir(tmp_path / "checkpoints")) == 2


def test_a_checkpoint_is_never_overwritten(saved):
  with saver.Manager(saved) as manager:
    with pytest.raises(ValueError, match="has a checkpoint of step 20"):
      manager.save(20, small_state(1), {})
  assert_same(small_state(20)["params"], checkpoint.restore_params(saved))


@pytest.mark.parametrize("small", [0, saver.SMALL])
def test_a_donated_state_is_saved_as_it_was(small, tmp_path, monkeypatch):
  monkeypatch.setattr(saver, "SMALL", small)
  state = {"params": {"w": jnp.zeros((1024, 1024))}}
  add_one = jax.jit(
    lambda x: jax.tree.map(lambda a: a + 1, x), donate_argnums=0
  )
  add_one = add_one.lower(state).compile()
  with saver.Manager(tmp_path) as manager:
    manager.save(0, state, {})
    for _ in range(10):
      state = add_one(state)
  assert not checkpoint.restore_params(tmp_path)["w"].any()


def test_the_save_of_a_small_state_keeps_nobody_waiting(tmp_path, monkeypatch):
  state, begin = {"params": {"w": jnp.arange(4.0)}}, threading.Event()
  with saver.Manager(tmp_path) as manager:
    save = manager._saver.save
    late = lambda *args: begin.wait(60) and save(*args)
    monkeypatch.setattr(manager._saver, "save", late)
    manager.save(1, state, {})
    assert not os.listdir(tmp_path / "checkpoints")
    begin.set()
    manager.wait()
    assert manager.latest() == 1

    def full(*args):
      raise OSError(28, "No space left on device")

    monkeypatch.setattr(manager._saver, "save", full)
    manager.save(2, state, {})
    with pytest.raises(OSError, match="No space .*\n.* step 1 is intact"):
      manager.wait()


def loop_state(step):
  rng = np.random.default_rng(step)
  return {
    "params": {"w": rng.normal(size=(4, 100_000))},
    "step": np.int32(step),
  }


def save_forever(workdir):
  with saver.Manager(workdir, max_checkpoints=1) as manager:
    step = manager.latest() or 0
    while True:
      step += 1
      manager.save(step, jax.device_put(loop_state(step)), {"step": step})


def test_a_kill_at_any_moment_leaves_whole_checkpoints(tmp_path):
  folder = tmp_path / "checkpoints"
  rng = random.Random(0)
  first = 0
  for _ in range(6):
    process = FORKS.Process(target=child, args=(1, save_forever, tmp_path))
    process.start()
    while max(folders.steps(folder), default=0) < first + 2:
      assert process.is_alive()
      time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.2))
    process.kill()
    process.join()
    names = [path.name for path in folder.iterdir() if path.name.isdigit()]
    for name in names:  # the newest, the one before, and nothing half
      state = jax.device_put(loop_state(int(name)))
      params = checkpoint.restore_params(folder / name)
      assert_same(state["params"], params)
    first = max(map(int, names))
    with saver.Manager(tmp_path) as manager:
      restored = manager.restore(manager.latest(), abstract(state))
      meta = manager.meta(manager.latest())
    assert int(restored["step"]) == meta["step"] == first


def fill_the_disk(workdir):
  os.dup2(os.open(workdir / "stderr", os.O_CREAT | os.O_WRONLY), 2)
  # Whether TensorStore complains of this is luck, so it is done here, too.
  closed = types.SimpleNamespace(exc_value=RuntimeError("Event loop is closed"))
  sys.unraisablehook(closed)
  noise = np.random.default_rng(0).normal(size=(300, 1000))
  many = {str(i): jax.device_put(row) for i, row in enumerate(noise)}
  with saver.Manager(workdir) as manager:
    manager.save(1, many, {})
    manager.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    with pytest.raises(OSError, match="could not .*\n.* step 1 is intact"):
      manager.save(2, many, {})
      manager.wait()


def test_a_full_disk_is_reported_and_spares_the_last_checkpoint(tmp_path):
  run_on(1, fill_the_disk, tmp_path)
  assert (tmp_path / "stderr").read_text() == ""
  assert len(os.listdir(tmp_path / "checkpoints")) == 2
  with saver.Manager(tmp_path) as manager:
    assert manager.latest() == 1 and manager.interrupted
  assert os.listdir(tmp_path / "checkpoints") == ["1"]


def test_what_is_under_way_when_a_save_fails_does_not_complain(caplog):
  loop = asyncio.new_event_loop()
  loop.create_future().set_exception(OSError(28, "No space left on device"))
  gc.collect()
  loop.close()
  assert caplog.records == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / "checkpoints").write_text("in the way")
  with pytest.raises(OSError, match="checkpoints"):
    saver.Manager(tmp_path)


def test_saving_and_restoring_say_nothing(tmp_path, capfd, caplog):
  caplog.set_level(logging.INFO, logger="absl")
  state = small_state()
  with saver.Manager(tmp_path) as manager:
    for step in (1, 2):
      manager.save(step, state, {})
    manager.restore(2, abstract(state))
  checkpoint.restore_params(tmp_path)
  assert caplog.records == []
  assert capfd.readouterr() == ("", "")


def scored(value, best="val/acc"):
  return dict(scores={"val/acc": value}, run=dict(best=best))


@pytest.mark.parametrize("best, kept", (("val/acc", 2), ("-val/acc", 3)))
def test_the_best_is_kept_beside_the_newest_and_after_a_restart(
  best, kept, tmp_path
):
  opened = lambda: saver.Manager(tmp_path, max_checkpoints=1, best=best)
  state = dict(params={"w": np.zeros(2)})
  values = {1: 0.5, 2: 0.7, 3: 0.1, 4: float("nan")}
  for step, value in values.items():
    with opened() as manager:
      meta = scored(value, best)
      assert manager.is_best(meta) == (step in (1, kept)), step
      manager.save(step, state, meta)
  with opened() as manager:
    assert not manager.is_best(dict(run={}))
    manager.save(5, state, dict(run=dict(best=best)))
  assert folders.steps(tmp_path / "checkpoints") == [kept, 5]
  assert checkpoint.find(f"{tmp_path}:best").name == str(kept)


def test_what_is_gone_is_not_the_best(tmp_path):
  state = dict(params={"w": np.zeros(2)})
  with saver.Manager(tmp_path, max_checkpoints=1, best="val/acc") as manager:
    manager.save(1, state, scored(0.7))
    manager.save(2, state, scored(0.5))
    manager.wait()
    shutil.rmtree(tmp_path / "checkpoints/1")
    manager.save(3, state, scored(0.1))
  assert folders.steps(tmp_path / "checkpoints") == [2, 3]
