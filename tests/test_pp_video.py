"""Which frames of a video a model sees."""

import numpy as np
import pytest

from pg import pp
from pg.pp import parse

VIDEO = [np.full((4, 4, 3), i, np.uint8) for i in range(100)]


def chosen(string, video, row=0):
  """The numbers of the frames that an op takes."""
  out = parse.build(string)({"image": video, "video": video}, pp.Turn(row=row))
  return [int(x[0, 0, 0]) for x in out["image"]]


@pytest.mark.parametrize(
  ("num_in", "num", "stride", "wanted"),
  [
    (100, 4, 30, [0, 30, 60, 90]),
    (91, 4, 30, [0, 30, 60, 90]),
    (90, 4, 30, [0, 30, 60, 0]),  # one too short
    (5, 4, 2, [0, 2, 4, 0]),
    (1, 3, 7, [0, 0, 0]),
    (3, 8, 1, [0, 1, 2, 0, 1, 2, 0, 1]),
  ],
)
def test_a_clip_that_is_too_short_is_begun_again(num_in, num, stride, wanted):
  for video in (VIDEO[:num_in], np.stack(VIDEO[:num_in])):
    assert chosen(f"frames({num}, {stride})", video) == wanted
    # Even at random it uses all there is.
    if num_in <= (num - 1) * stride + 1:
      string = f"frames({num}, {stride}, random=True)"
      assert chosen(string, video, row=5) == wanted


def test_random_frames_begin_wherever_enough_are_left():
  starts = set()
  for row in range(300):
    indices = chosen("frames(4, 30, True, key='video')", VIDEO, row)
    assert np.diff(indices).tolist() == [30] * 3
    starts.add(indices[0])
  assert starts == set(range(10))


@pytest.mark.parametrize("video", [[], VIDEO[0], b"", np.zeros((0, 4, 4, 3))])
def test_frames_wants_a_video(video):
  with pytest.raises(ValueError, match="'image' should be a video"):
    chosen("frames(2, 1)", video)
  with pytest.raises(ValueError, match="at least 1: 0, 1"):
    chosen("frames(0, 1)", VIDEO)
