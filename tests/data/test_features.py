"""What an image tower makes of images is made once, and kept as it was."""

import errno
import os

import numpy as np
import pytest

from pg import atomic, experiment
from pg.codecs import tokenizer
from pg.data import cache, features
from tests.support import numbers, tiny

DTYPE = np.dtype("float16")


class Tower:
  """Makes features [4, 2] of u8[2, 2, 3] pixels, and counts how often."""

  def __init__(self):
    self.calls = []

  def __call__(self, images):
    self.calls.append(len(images))
    means = images.astype(np.float32).mean(axis=(1, 2, 3))
    return (means[:, None, None] + np.arange(8).reshape(4, 2)).astype(DTYPE)


def image(i):
  return np.full((2, 2, 3), i, np.uint8)


def batches(*rows):
  """Yields batches of rows, each a tuple of numbers of images."""
  for batch in rows:
    pixels = np.array([[image(i) for i in row] for row in batch])
    yield {"image": pixels, "index": np.arange(len(batch))}, ["bad"]


def run(kept, *rows, num_threads=2):
  """Returns the features of batches, and how many the tower has made."""
  tower, found = Tower(), []
  how = kept, tower, num_threads
  for batch, bad in features.embedded(batches(*rows), *how):
    assert bad == ["bad"] and list(batch["index"]) == [0, 1]
    found.append(batch["image"])
  return found, tower.calls


def want(*rows):
  """Returns what a tower makes of batches."""
  make = lambda i: Tower()(image(i)[None])[0]
  return [[[make(i) for i in row] for row in batch] for batch in rows]


def folder(path, towers_own=0):
  return features.Folder(str(path), Tower()(image(towers_own)[None])[0])


def memory(num_bytes=10**6):
  return features.Memory(cache.Budget(num_bytes))


ROWS = ((1, 2), (2, 3)), ((3, 1), (4, 4))


@pytest.mark.parametrize("kind", ("memory", "folder"))
def test_each_image_is_looked_at_once(kind, tmp_path):
  kept = memory() if kind == "memory" else folder(tmp_path)
  found, calls = run(kept, *ROWS)
  assert calls == [3, 1]
  np.testing.assert_array_equal(found, want(*ROWS))
  assert found[0].dtype == DTYPE and found[0].shape == (2, 2, 4, 2)
  if kind == "folder":
    kept = folder(tmp_path)
  found, calls = run(kept, *ROWS)
  assert not calls
  np.testing.assert_array_equal(found, want(*ROWS))


def test_memory_is_bounded():
  kept = memory(2 * 16)  # bytes, of two images
  one = dict(num_threads=1)  # of several, chance says which images are kept
  assert run(kept, *ROWS, **one)[1] == [3, 2]
  found, calls = run(kept, *ROWS, **one)
  assert calls == [1, 2]
  np.testing.assert_array_equal(found, want(*ROWS))


def test_features_of_another_tower_are_not_read(tmp_path):
  run(folder(tmp_path), *ROWS)
  assert run(folder(tmp_path, towers_own=1), *ROWS)[1] == [3, 1]
  assert len(os.listdir(tmp_path)) == 2
  assert run(folder(tmp_path), *ROWS)[1] == []


@pytest.mark.parametrize("what", ("half", "bit", "zeros", "empty"))
def test_a_file_that_is_not_whole_is_made_again(tmp_path, what):
  run(folder(tmp_path), ROWS[0])
  files = sorted(p for p in tmp_path.rglob("*") if p.is_file())
  assert len(files) == 3
  data = files[1].read_bytes()
  damaged = dict(
    half=data[:10],
    bit=data[:3] + bytes([data[3] ^ 1]) + data[4:],
    zeros=bytes(len(data)),
    empty=b"",
  )
  files[1].write_bytes(damaged[what])
  found, calls = run(folder(tmp_path), ROWS[0])
  assert calls == [1]
  np.testing.assert_array_equal(found, want(ROWS[0]))
  assert files[1].read_bytes() == data


def test_a_full_disk_is_said_and_leaves_whole_files(tmp_path, monkeypatch):
  kept, replace, left = folder(tmp_path), os.replace, [2]

  def full(*args):
    left[0] -= 1
    if left[0] < 0:
      raise OSError(errno.ENOSPC, "No space left on device")
    replace(*args)

  with monkeypatch.context() as patch:
    patch.setattr(atomic.os, "replace", full)
    with pytest.raises(OSError, match=f"No space left.*{tmp_path}"):
      run(kept, *ROWS)
  assert not [p for p in tmp_path.rglob("*") if p.name.endswith("partial")]
  found, calls = run(folder(tmp_path), *ROWS)
  assert sum(calls) == 2  # of four
  np.testing.assert_array_equal(found, want(*ROWS))


def test_a_folder_is_of_this_machine(tmp_path):
  with pytest.raises(ValueError, match="gs://x.*on this machine"):
    features.check("gs://x/images", (), ())
  (tmp_path / "file").touch()
  with pytest.raises(OSError, match="file"):
    features.check(str(tmp_path / "file"), (), ())
  features.check(str(tmp_path / "new"), (), ())


TRAINED = "img/head/kernel", "llm/a"


def test_a_tower_that_is_trained_is_refused():
  data = numbers.datasets(dict(source="shapes", task="caption"))
  features.check("memory", data, TRAINED)
  with pytest.raises(ValueError, match="img/b is trained; freeze the tower"):
    features.check("memory", data, (*TRAINED, "img/b"))


@pytest.mark.parametrize(
  "pp, op",
  (
    ("decode | inception_crop(40)", "inception_crop"),
    ("decode | choice('words', out='suffix')", ""),
  ),
)
def test_images_that_are_random_are_refused(pp, op):
  data = numbers.datasets(dict(source="shapes", task="caption"), pp)
  if not op:
    return features.check("memory", data, TRAINED)
  with pytest.raises(ValueError, match=f"{op}.* of shapes makes another one"):
    features.check("memory", data, TRAINED)


def test_a_config_whose_tower_learns_is_refused():
  c = tiny.nano(evals={})
  c.input.cache_images = "memory"
  with pytest.raises(ValueError, match="img/.* is trained; freeze the tower"):
    experiment.open(c)
  c.schedule = (("img/(?!head/).*", None), (".*", "cosine"))
  run = experiment.open(c)
  c.input.cache_images = ""
  assert experiment.open(c).flops(28) > run.flops(28)
  c.input.cache_images, c.init = "memory", "x"
  c.lora.rank, c.tokenizer = 4, tokenizer.NANO
  experiment.open(c)  # what is frozen has no adapter
  c.schedule = ((".*", "cosine"),)
  with pytest.raises(ValueError, match="img/.* is trained; freeze the tower"):
    experiment.open(c)
