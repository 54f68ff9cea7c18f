"""What a config allows reaches what reads its rows, and nothing else."""

import io
import json
import pickle
import threading

import pytest
from PIL import Image

from pg import limits, pp
from pg.data import bad, options, pipeline, stream
from pg.pp import image
from tests.support import web
from transfers import base


def png(side):
  sink = io.BytesIO()
  Image.effect_noise((side, side), 90).convert("RGB").save(sink, "PNG")
  return sink.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv("PG_CACHE", str(tmp_path / "cache"))
  (tmp_path / "7.png").write_bytes(png(7))
  return tmp_path


def opened(folder, name="7.png", **changes):
  """Returns the dataset of one row, as a data worker has it."""
  row = json.dumps(dict(image=name, prefix="", suffix=""))
  (folder / "train.jsonl").write_text(row)
  c = base.get()
  c.data = dict(source="jsonl", path=str(folder / "train.jsonl"))
  c.input.update(changes)
  allowed = options.from_config(c).limits
  (dataset,) = pipeline.datasets(c.data, "decode", allowed)
  return pickle.loads(pickle.dumps(dataset))


def read(dataset):
  return stream.read(dataset, 0, pp.Turn(), dict)["image"].shape


def test_defaults_are_those_of_the_config():
  assert options.from_config(base.get()).limits == limits.Limits()
  assert limits.current() == limits.Limits()


def test_what_a_row_may_ask_for_is_a_key_of_the_config(folder):
  assert read(opened(folder, max_pixels=49)) == (7, 7, 3)
  size = (folder / "7.png").stat().st_size
  assert read(opened(folder, max_bytes=size)) == (7, 7, 3)
  for change, message in (
    (dict(max_pixels=48), "more than input.max_pixels = 48"),
    (dict(max_bytes=size - 1), f"more than input.max_bytes = {size - 1}"),
  ):
    with pytest.raises(bad.BadRow, match=message):
      read(opened(folder, **change))


def test_an_image_larger_than_pillow_likes_can_be_allowed(folder):
  side = 14_000  # more than twice what Pillow warns from
  Image.new("1", (side, side)).save(folder / "7.png")
  dataset = opened(folder, max_pixels=side**2)
  with limits.within(dataset.limits):
    assert image.sizes(dataset.source[0]["image"])[0] == (side, side)


def test_hosts_of_this_network_can_be_allowed(folder):
  with web.serve(folder) as (url, _):
    with pytest.raises(bad.BadRow, match="input.private_hosts = True"):
      read(opened(folder, f"{url}/7.png"))
    dataset = opened(folder, f"{url}/7.png", private_hosts=True)
    assert read(dataset) == (7, 7, 3)


def test_limits_are_those_of_a_thread():
  seen = []
  with limits.within(limits.Limits(max_pixels=1)):
    thread = threading.Thread(target=lambda: seen.append(limits.current()))
    thread.start()
    thread.join()
    assert limits.current().max_pixels == 1
  assert seen == [limits.Limits()] == [limits.current()]


def test_an_image_that_was_kept_and_is_broken_is_named(folder):
  whole = png(99)
  (folder / "7.png").write_bytes(whole[: len(whole) // 2])
  with web.serve(folder) as (url, _):
    dataset = opened(folder, f"{url}/7.png", private_hosts=True)
    with pytest.raises(bad.BadRow, match=f"{url}/7.png .kept in ") as caught:
      read(dataset)
  (kept,) = (folder / "cache/images").glob("*/*")
  assert str(kept) in str(caught.value)
