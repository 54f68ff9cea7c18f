"""What processes tell each other through the store of their job."""

import threading

import jax
import numpy as np
import pytest

from pg import stop, store


class Client:
  """What processes of a job share, as JAX's client has it."""

  def __init__(self):
    self.values, self.changed = {}, threading.Condition()

  def key_value_set(self, key, value):
    with self.changed:
      assert key not in self.values
      self.values[key] = value
      self.changed.notify_all()

  def blocking_key_value_get(self, key, milliseconds):
    with self.changed:
      come = lambda: key in self.values
      if not self.changed.wait_for(come, milliseconds / 1000):
        raise RuntimeError(f"DEADLINE_EXCEEDED: {key}")
      return self.values[key]

  def key_value_delete(self, key):
    with self.changed:
      self.values = {
        k: v for k, v in self.values.items() if not k.startswith(key)
      }


@pytest.fixture
def client(monkeypatch):
  found = Client()
  monkeypatch.setattr(store, "client", lambda: found)
  monkeypatch.setattr(jax, "process_count", lambda: 3)
  monkeypatch.setattr(
    jax, "process_index", lambda: int(threading.current_thread().name)
  )
  return found


def processes(work, count=3):
  """Returns a thread for each process that does work(process)."""
  found = [
    threading.Thread(target=work, args=(i,), name=f"{i}") for i in range(count)
  ]
  for thread in found:
    thread.start()
  return found


def test_a_process_alone_asks_nobody():
  assert store.largest(3, "x", 0) == 3


def test_all_get_the_largest_value_and_the_store_stays_small(client):
  values = np.random.default_rng(0).integers(1, 60, (3, 40)).tolist()
  found = {}

  def work(i):
    found[i] = [store.largest(n, "x", k) for k, n in enumerate(values[i])]

  for thread in processes(work):
    thread.join(20)
  assert found == dict.fromkeys(range(3), [max(x) for x in zip(*values)])
  assert set(client.values) == {f"pg/x/39/{k}" for k in (0, 1, 2, "all")}


def test_who_waits_for_a_process_that_does_not_come_ends_with_the_job(
  client, monkeypatch
):
  monkeypatch.setattr(store, "PATIENCE", 10)
  ended, said = threading.Event(), []
  monkeypatch.setattr(stop, "interrupted", ended.is_set)

  def work(i):
    with pytest.raises(RuntimeError, match="DEADLINE_EXCEEDED: pg/x/7/"):
      store.largest(i, "x", 7)
    said.append(i)

  threads = processes(work, 2)
  threads[0].join(0.1)
  assert not said
  ended.set()
  for thread in threads:
    thread.join(5)
  assert sorted(said) == [0, 1]
