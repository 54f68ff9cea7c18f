"""Damage of any kind: named, never restored, set aside and out of the way."""

import os
import shutil
import time

import jax.numpy as jnp
import numpy as np
import pytest

from pg.weights import checkpoint, checksums, folders, saver
from tests.support import turns
from tests.weights.test_saver import abstract, assert_same, small_state


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A workdir with checkpoints of steps 10 and 20."""
  workdir = tmp_path_factory.mktemp("run")
  with saver.Manager(workdir) as manager:
    for step in (10, 20):
      manager.save(step, small_state(step), {"step": step})
  return workdir


@pytest.fixture
def workdir(run, tmp_path):
  return shutil.copytree(run, tmp_path / "run")


def state_of(workdir, step):
  with saver.Manager(workdir) as manager:
    assert manager.latest() == step
    state = manager.restore(step, abstract(small_state()))
    return state, manager.meta(step)


def files_of(folder):
  return sorted(path for path in folder.rglob("*") if path.is_file())


def biggest(folder):
  return max(folder.glob("state/ocdbt*/d/*"), key=os.path.getsize)


def flip(path, position, bit=0):
  data = bytearray(path.read_bytes())
  data[position] ^= 1 << bit
  path.write_bytes(data)


def flipped_bit(folder):
  flip(biggest(folder), 100)
  return "state/ocdbt.process_0/d/.*: other bytes"


def truncated(folder):
  path = biggest(folder)
  os.truncate(path, path.stat().st_size - 3)
  return r"state/ocdbt.process_0/d/\w+: \d+ bytes, \d+ were written"


def emptied(folder):
  (folder / "state" / "_METADATA").write_bytes(b"")
  return r"state/_METADATA: 0 bytes, \d+ were written"


def missing(folder):
  (folder / "state" / "manifest.ocdbt").unlink()
  return "state/manifest.ocdbt: missing"


def broken_meta(folder):
  (folder / "meta" / "metadata").write_text('{"step: 20}')
  return "meta/metadata: "


def broken_list(folder):
  flip(folder / checksums.FILE, 60)
  return "checksums.json: "


def emptied_list(folder):
  (folder / checksums.FILE).write_bytes(b"")
  return "checksums.json: "


def no_commit_mark(folder):
  (folder / "commit_success.txt").unlink()
  return "commit_success.txt: missing"


def empty_folder(folder):
  shutil.rmtree(folder)
  folder.mkdir()
  return "commit_success.txt: missing"


KINDS = (
  flipped_bit,
  truncated,
  emptied,
  missing,
  broken_meta,
  broken_list,
  emptied_list,
  no_commit_mark,
  empty_folder,
)


@pytest.mark.parametrize("kind", KINDS)
def test_training_sets_a_damaged_one_aside_and_takes_the_one_before(
  workdir, kind
):
  folder = workdir / "checkpoints"
  damage = kind(folder / "20")
  left = [path.read_bytes() for path in files_of(folder / "20")]
  said = rf"checkpoints/20 is damaged \({damage}.* damaged-20 now, .* step 10$"
  with pytest.warns(UserWarning, match=said) as warned:
    state, meta = state_of(workdir, 10)
  assert len(warned) == 1
  assert_same(small_state(10), state)
  assert meta == {"step": 10}
  aside = folder / "damaged-20"
  assert [path.read_bytes() for path in files_of(aside)] == left
  # It is neither in the way nor counted nor deleted.
  with saver.Manager(workdir, max_checkpoints=2) as manager:
    for step in (20, 30):
      manager.save(step, small_state(step), {})
  assert sorted(os.listdir(folder)) == ["20", "30", "damaged-20"]
  assert [path.read_bytes() for path in files_of(aside)] == left


@pytest.mark.parametrize("kind", KINDS)
def test_readers_take_the_one_before_and_leave_all_as_it_is(workdir, kind):
  damage = kind(workdir / "checkpoints" / "20")
  said = rf"/20 is damaged \({damage}.*; step 10 is used$"
  with pytest.warns(UserWarning, match=said):
    params = checkpoint.restore_params(workdir)
  assert_same(small_state(10)["params"], params)
  assert sorted(os.listdir(workdir / "checkpoints")) == ["10", "20"]
  assert checkpoint.workdir_of(workdir) == str(workdir)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_one_that_was_named_is_refused(workdir, kind):
  folder = workdir / "checkpoints" / "20"
  damage = kind(folder)
  with pytest.raises(ValueError, match=rf"^.*20 is damaged \({damage}.*\)$"):
    checkpoint.restore_params(folder)


def test_a_bit_flipped_anywhere_is_named_or_changes_no_value(run, tmp_path):
  source, rng = run / "checkpoints" / "20", np.random.default_rng(0)
  unread = set()
  for number, path in enumerate(files_of(source)):
    size, name = path.stat().st_size, path.relative_to(source)
    for position in {0, size // 2, size - 1, *rng.integers(size, size=3)}:
      workdir = tmp_path / f"{number}-{position}"
      folder = workdir / "checkpoints" / "20"
      shutil.copytree(source, folder)
      flip(folder / name, position, rng.integers(8))
      try:
        checkpoint.find(folder)
      except ValueError as error:
        assert f"({name}: " in str(error)
        continue
      assert_same(small_state(20), state_of(workdir, 20)[0])
      unread.add(str(name))
  assert unread == {"_CHECKPOINT_METADATA", "commit_success.txt"}


def test_an_older_damaged_one_is_left_where_it_is(workdir):
  missing(workdir / "checkpoints" / "10")
  assert_same(small_state(20), state_of(workdir, 20)[0])
  assert sorted(os.listdir(workdir / "checkpoints")) == ["10", "20"]


def test_the_same_step_can_be_damaged_twice(workdir):
  folder = workdir / "checkpoints"
  for name in ("damaged-20", "damaged-20-2"):
    missing(folder / "20")
    with pytest.warns(UserWarning, match=f"it is called {name} now"):
      with saver.Manager(workdir) as manager:
        manager.save(20, small_state(20), {})
  assert sorted(os.listdir(folder)) == [
    "10",
    "20",
    "damaged-20",
    "damaged-20-2",
  ]


def test_without_a_good_one_nothing_starts_from_scratch(workdir):
  for step in ("10", "20"):
    missing(workdir / "checkpoints" / step)
  with pytest.raises(ValueError, match="/20 is dam.*\n.*/10 is damaged"):
    checkpoint.find(workdir)
  said = "no good checkpoint left, only damaged-10, damaged-20. Copy one"
  with (
    pytest.warns(
      UserWarning, match="it is called damaged-10 now, and none is left"
    ),
    pytest.raises(ValueError, match=said),
  ):
    saver.Manager(workdir)
  with pytest.raises(ValueError, match=said):
    saver.Manager(workdir)


def without_checksums(workdir):
  for path in workdir.glob(f"checkpoints/*/{checksums.FILE}"):
    path.unlink()


def test_a_checkpoint_without_checksums_is_restored(workdir):
  without_checksums(workdir)
  state, meta = state_of(workdir, 20)
  assert_same(small_state(20), state)
  assert meta == {"step": 20}
  assert_same(state["params"], checkpoint.restore_params(workdir))


@pytest.mark.parametrize("kind", (emptied, missing, broken_meta))
def test_without_checksums_what_cannot_be_opened_is_set_aside(workdir, kind):
  without_checksums(workdir)
  kind(workdir / "checkpoints" / "20")
  with pytest.warns(UserWarning, match=r"20 is damaged \(.*damaged-20 now"):
    state, _ = state_of(workdir, 10)
  assert_same(small_state(10), state)


def test_without_checksums_what_cannot_be_read_is_one_error(tmp_path):
  state = {"params": {"w": jnp.arange(10_000.0)}}  # as a file of its own
  with saver.Manager(tmp_path) as manager:
    manager.save(20, state, {})
  without_checksums(tmp_path)
  os.truncate(biggest(tmp_path / "checkpoints" / "20"), 100)
  with saver.Manager(tmp_path) as manager:
    with pytest.raises(ValueError, match=r"^.*points/20 is damaged \(.*\)$"):
      manager.restore(20, abstract(state))


def test_keeping_fewer_than_none_is_refused_and_deletes_nothing(workdir):
  with pytest.raises(ValueError, match="max_checkpoints is -1; wanted"):
    saver.Manager(workdir, max_checkpoints=-1)
  assert folders.steps(workdir / "checkpoints") == [10, 20]


def test_checksums_are_made_in_the_background_and_saves_wait_in_line(
  tmp_path, monkeypatch
):
  write, written = checksums.write, []

  def slowly(folder):
    time.sleep(0.3)
    write(folder)
    written.append(folder.name.partition(".")[0])

  monkeypatch.setattr(checksums, "write", slowly)
  with saver.Manager(tmp_path, max_checkpoints=1) as manager:
    manager.save(1, small_state(1), {})
    assert written == [] and manager.latest() is None
    manager.save(2, small_state(2), {})
    assert written == ["1"] and manager.latest() == 1
    manager.save(3, small_state(3), {})
    # The one before is there until the next is complete.
    assert written == ["1", "2"] and manager.latest() == 2


def test_a_checkpoint_that_its_run_removes_meanwhile_is_not_damaged(
  workdir, monkeypatch
):
  def gone(folder, *, damage=checksums.damage):
    shutil.rmtree(folder)
    return damage(folder)

  monkeypatch.setattr(checksums, "damage", gone)
  with pytest.raises(ValueError, match="20 was removed while it was read: its"):
    checkpoint.find(workdir / "checkpoints/20")


def test_one_process_of_a_job_looks_for_damage(workdir, monkeypatch):
  said = flipped_bit(workdir / "checkpoints/20")
  checkpoint.verify.cache_clear()
  job = turns.Turns(monkeypatch)
  for job.process in range(2):
    if job.process:
      monkeypatch.setattr(checksums, "damage", None)
    with pytest.warns(UserWarning, match=f"20 is damaged.*{said}.*10 is used"):
      assert checkpoint.find(workdir).name == "10"
