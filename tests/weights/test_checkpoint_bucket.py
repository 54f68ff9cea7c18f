"""Checkpoints in a bucket: whole or not there, and downloaded once."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pg.weights import checkpoint, saver
from tests.support import google_storage

store = google_storage.store
URL = "gs://bucket/run"
STATE = dict(
  params={"a": {"b": jnp.arange(300.0)}}, opt=jnp.ones(7), step=jnp.int32(1)
)
ABSTRACT = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), STATE)


@pytest.fixture
def saved(store):
  """The store of a run that has saved steps 1 and 2."""
  checkpoint.verify.cache_clear()
  with saver.Manager(URL) as manager:
    for step in (1, 2):
      manager.save(step, STATE, dict(step=step))
  return store


def folders(store):
  return {name.split("/")[2] for name in store.objects if name.count("/") > 1}


def test_a_state_comes_back_and_is_verified_by_a_list(saved):
  saved.asked.clear()
  with saver.Manager(URL) as manager:
    assert manager.latest() == 2 and manager.meta(2) == {"step": 2}
    state = manager.restore(2, ABSTRACT)
  jax.tree.map(np.testing.assert_array_equal, state, STATE)
  read = [x for x in saved.asked if re.search("GET .*/d/", " ".join(x))]
  data = [x for x in saved.objects if "/2/state/" in x and "/d/" in x]
  assert len(read) <= len(data)  # none of them twice


def test_parameters_are_read_from_it(saved):
  params = checkpoint.restore_params(URL)
  np.testing.assert_array_equal(params["a"]["b"], STATE["params"]["a"]["b"])
  assert checkpoint.workdir_of(URL) == URL
  assert str(checkpoint.find(f"{URL}/checkpoints/1")).endswith("/1")


def test_the_best_is_kept_beside_the_newest(store):
  run = dict(run=dict(best="val/acc"))
  for values in ({1: 0.5, 2: 0.7}, {3: 0.1, 4: 0.6}):  # a restart between
    with saver.Manager(URL, max_checkpoints=1, best="val/acc") as manager:
      for step, value in values.items():
        meta = run | dict(scores={"val/acc": value})
        assert manager.is_best(meta) == (step < 3)
        manager.save(step, STATE, meta)
  assert folders(store) == {"2", "4"}
  assert checkpoint.find(f"{URL}:best").name == "2"
  assert checkpoint.workdir_of(f"{URL}:best") == URL


def test_the_mark_that_it_is_whole_comes_last_and_goes_first(store):
  with saver.Manager(URL, max_checkpoints=1) as manager:
    for step in (1, 2):
      manager.save(step, STATE, dict(step=step))
  posts = [x[1] for x in store.asked if x[0] == "POST" and "/1/" in x[1]]
  written = list(dict.fromkeys(posts))  # a file may take two requests
  assert written[-1] == "run/checkpoints/1/commit_success.txt"
  assert written[-2] == "run/checkpoints/1/checksums.json"
  second = store.asked.index(("POST", "run/checkpoints/2/commit_success.txt"))
  removed = [x for x in store.asked[second:] if x[0] == "DELETE"]
  assert removed[0][1] == "run/checkpoints/1/commit_success.txt"
  assert folders(store) == {"2"}


def test_what_is_logged_is_uploaded_before_it_is_whole(store):
  before = []
  whole = "run/checkpoints/1/commit_success.txt"
  note = lambda: before.append(whole in store.objects)
  with saver.Manager(URL, before=note) as manager:
    manager.save(1, STATE, {})
  assert before == [False] and whole in store.objects


def test_half_of_one_is_removed_and_never_read(saved):
  del saved.objects["run/checkpoints/2/commit_success.txt"]
  assert checkpoint.find(URL).name == "1"
  with saver.Manager(URL) as manager:
    assert manager.interrupted and manager.latest() == 1
  assert folders(saved) == {"1"}


@pytest.mark.parametrize("kind", ["missing", "cut", "other"])
def test_a_damaged_one_is_set_aside(saved, kind):
  name = next(x for x in saved.objects if "/2/state/d/" in x)
  data, _ = saved.objects.pop(name)
  if kind != "missing":
    saved.put(name, data[:-1] if kind == "cut" else data[:-1] + b"x")
  with pytest.warns(UserWarning, match="2 is damaged .state/d/.*: .*step 1 is"):
    assert checkpoint.find(URL).name == "1"
  with pytest.warns(UserWarning, match="it is called damaged-2 now, .*step 1$"):
    with saver.Manager(URL) as manager:
      assert manager.latest() == 1
  assert folders(saved) == {"1", "damaged-2"}


@pytest.mark.parametrize("name", ["", "/checksums.json", "/meta/metadata"])
def test_a_bucket_that_does_not_answer_damages_nothing(saved, name):
  if name.startswith("/meta"):  # is read where there are no checksums
    del saved.objects["run/checkpoints/2/checksums.json"]
  saved.failures.append([f"GET run/checkpoints/2{name}", 403, 99])
  with pytest.raises(OSError, match="cannot .*403|Forbidden"):
    saver.Manager(URL)
  assert folders(saved) == {"1", "2"}


@pytest.mark.parametrize(
  "name, status, said",
  [
    ("state/.*manifest", 403, "this login may not do that"),
    ("state/_METADATA", 401, "the login is missing, or its token has"),
    ("checksums.json", 401, "the login is missing, or its token has"),
    ("commit_success.txt", 403, "this login may not do that"),
  ],
)
def test_a_write_that_fails_half_way_is_named_and_leaves_the_last(
  saved, name, status, said
):
  saved.failures.append([f"POST run/checkpoints/3/{name}", status, 99])
  whole = f"could not write .*{said}.*\n.*continues: step 2 is intact"
  with pytest.raises(OSError, match=whole):
    with saver.Manager(URL) as manager:
      manager.save(3, STATE, {})
  saved.failures.clear()
  with saver.Manager(URL) as manager:
    assert manager.interrupted and manager.latest() == 2


def test_several_processes_do_not_save_to_a_bucket_that_orbax_cannot_use(
  monkeypatch,
):
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  said = "s3://bucket/run/checkpoints: 2 processes can save to gs:// or to a"
  with pytest.raises(ValueError, match=said):
    saver.Manager("s3://bucket/run")


def test_a_store_that_is_overloaded_is_asked_again(store):
  store.failures += [["POST .*/d/", 503, 1], ["POST .*checksums", 429, 1]]
  store.failures += [["POST .*/d/", 0, 1], ["POST .*_METADATA", 0, 1]]
  with saver.Manager(URL) as manager:
    manager.save(1, STATE, {})
  assert checkpoint.find(URL).name == "1"
  assert not [x for x in store.failures if x[2]]
