"""The frozen image tower by itself makes what it makes within the model."""

import functools

import jax
import numpy as np
import optax
import pytest

from pg import sharding, train, tree
from pg.learn import optim, tower
from pg.learn import state as state_lib
from pg.log import metrics
from pg.models import paligemma
from tests.support import numbers_run, toy

FROZEN = (("img/(?!head/).*", None), (".*", "cosine"))


@pytest.fixture(scope="module")
def made():
  """A model in parts over eight devices, a batch, features of its images."""
  cfg, mesh = toy.config(), sharding.make_mesh(dict(fsdp=4, tensor=2))
  params = jax.device_get(toy.params(paligemma.shapes(cfg)))
  place = lambda x: jax.P(*[sharding.BATCH] * (len(x) % 4 == 0))
  spread = jax.tree.map(
    lambda x: jax.device_put(x, jax.NamedSharding(mesh, place(x))), params
  )
  rows = [((True, b < 3), 1 + b % 3, 2) for b in range(4)]
  batch = toy.batch(rows, num_images=2)
  compute = tower.on_own_devices(cfg, spread, mesh)
  images = np.asarray(batch["image"])
  found = compute(np.repeat(images.reshape(-1, *images.shape[2:]), 10, axis=0))
  jax.tree.map(lambda x: x.delete(), spread)  # as a step of training does
  again = compute(images[:, 1])
  return cfg, params, batch, found.reshape(*images.shape[:2], 10, 4, 16), again


def test_features_are_those_of_the_model(made):
  cfg, params, batch, found, again = made
  model = functools.partial(paligemma.PaliGemma(cfg).apply, {"params": params})
  want = jax.jit(functools.partial(model, method="embed_image"))
  tokens = want(batch["image"])
  for k in range(10):  # more images than the devices take at a time
    close(want(found[:, :, k]), tokens)
    np.testing.assert_array_equal(found[:, :, k], found[:, :, 0])
  np.testing.assert_array_equal(again, found[:, 1, 0])


def close(found, want):
  np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)


def test_a_step_on_features_is_that_on_pixels(made):
  """And the projector learns as much."""
  cfg, params, batch, found, _ = made
  tx = optax.trace(decay=0.0)  # keeps the gradient
  update = functools.partial(
    train.update,
    cfg=cfg,
    tx=tx,
    is_frozen=optim.frozen(params, FROZEN),
    label_smoothing=0.0,
    seed=0,
  )
  states = [
    jax.jit(update)(state_lib.of_params(params, tx), rows)
    for rows in (batch, batch | {"image": found[:, :, 0]})
  ]
  (want, measured), (have, again) = states
  for key, value in measured.items():
    np.testing.assert_allclose(again[key], value, rtol=1e-5, err_msg=key)
  have = tree.flatten(have["opt"].trace)
  for name, gradient in tree.flatten(want["opt"].trace).items():
    close(have[name], gradient)
  assert np.abs(have["img/head/kernel"]).max() > 0.01


def test_another_tower_makes_another_probe(made):
  cfg, params, *_ = made
  mesh = sharding.make_mesh(dict(fsdp=-1))
  probes = []
  for name in ("img/embedding/bias", "img/head/bias", ""):
    change = lambda key, x, name=name: x + 1e-3 * (key == name)
    changed = tree.map_named(change, params)
    compute = tower.on_own_devices(cfg, changed, mesh)
    probes.append(tower.probe(cfg, compute).tobytes())
  assert probes[0] != probes[1] == probes[2]


@pytest.mark.slow
def test_a_run_has_the_same_losses_with_features_that_are_kept(
  tmp_path, monkeypatch
):
  numbers_run.register(monkeypatch)
  on_own_devices, looked = tower.on_own_devices, []

  def counted(*args):
    compute = on_own_devices(*args)
    return lambda images: looked.append(len(images)) or compute(images)

  monkeypatch.setattr(tower, "on_own_devices", counted)

  def losses(name, cache_images):
    c = numbers_run.config(total=12)
    with c.unlocked():
      c.input.cache_images = cache_images
      c.schedule = FROZEN
      c.evals = {}
    looked.clear()
    train.fit(c, str(tmp_path / name))
    rows = metrics.read(tmp_path / name / "metrics.jsonl")
    return [x["train/loss"] for x in rows if "train/loss" in x]

  want = losses("pixels", "")
  assert not looked
  folder = str(tmp_path / "images")
  assert losses("folder", folder) == pytest.approx(want, rel=1e-5)
  assert 1 < sum(looked) < 12 * 8  # none twice
  assert losses("again", folder) == pytest.approx(want, rel=1e-5)
  assert looked == [1]  # which tells the tower
