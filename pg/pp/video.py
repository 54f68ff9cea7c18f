"""Video ops: choose frames, which become a list of images."""

import numpy as np

from pg import pp
from pg.pp import clip as clip_lib


@pp.op
def video(
  example,
  num: int,
  stride: int,
  random: bool = False,
  key: str = "video",
  start: str | None = None,
  end: str | None = None,
  *,
  rng,
):
  """Reads frames of a video file: `video(16, 30) | resize(224)`.

  Those that `frames(16, 30)` would choose of all frames; others are decoded
  only as far as a codec needs them.

  Args:
    example: dict with the video: the path of a file, or its bytes.
    num, stride, random, key: as of `frames`.
    start: the key of the second at which a part of the video begins; None is
      all from its first frame on.
    end: the key of the second at which the part ends; None is up to its last.

  Returns:
    image: list of `num` frames u8[height, width, 3].

  Raises:
    ValueError: num or stride below 1, no such key, or a video that does not
      decode or ends before `start`; names it.
  """
  source = pp.get(example, key)
  if not isinstance(source, str | bytes):
    raise ValueError(
      f"{key!r} should be the path of a video or its bytes, but is"
      f" {type(source).__name__}"
    )
  ends = [
    default if name is None else _seconds(example, name)
    for name, default in ((start, 0.0), (end, np.inf))
  ]
  clip = clip_lib.Clip(source)
  part = clip.between(*ends)
  chosen = choose(len(part), num, stride, random=random, rng=rng)
  return {"image": clip.read([part[i] for i in chosen])}


@pp.op
def frames(
  example,
  num: int,
  stride: int,
  random: bool = False,
  key: str = "image",
  *,
  rng,
):
  """Chooses frames of a video: `frames(16, 30) | decode | resize(224)`.

  Every `stride`-th, `num` of them. A clip that is too short for that is begun
  again: what there is of it is repeated and then cut to `num` frames. Of
  five, frames(4, 2) takes 0, 2, 4 and 0. Only chosen frames are decoded.

  The published recipes keep frames as floats; here they are u8 after the
  resize, as images are, which differs by less than one level.

  Args:
    example: dict with the video: a list of images, encoded or
      u8[height, width, 3], or u8[frames, height, width, 3].
    num: frames the model gets.
    stride: how many frames of the video from one to the next.
    random: begin at a random frame, where the clip is longer than needed (for
      training); else at the first.
    key: where the video is.

  Returns:
    image: list of `num` frames, as they were in the video.
  """
  video = pp.get(example, key)
  is_array = isinstance(video, np.ndarray) and video.ndim == 4
  if not (is_array or isinstance(video, list | tuple)) or not len(video):
    what = type(video).__name__
    if isinstance(video, np.ndarray):
      what = f"{video.dtype}{list(video.shape)}"
    elif isinstance(video, list | tuple):
      what = "empty"
    raise ValueError(
      f"{key!r} should be a video, a list of images or"
      f" u8[frames, height, width, 3], but is {what}"
    )
  chosen = choose(len(video), num, stride, random=random, rng=rng)
  return {"image": [video[i] for i in chosen]}


def choose(num_frames, num, stride, *, random, rng):
  """Returns the numbers of the frames a model gets, a list of `num` ints."""
  if num < 1 or stride < 1:
    raise ValueError(f"num and stride should be at least 1: {num}, {stride}")
  spare = num_frames - ((num - 1) * stride + 1)
  start = int(rng.integers(spare + 1)) if random and spare > 0 else 0
  chosen = range(start, num_frames, stride)[:num]
  return [chosen[i % len(chosen)] for i in range(num)]


def _seconds(example, key):
  value = pp.get(example, key)
  if not isinstance(value, int | float):
    raise ValueError(f"{key!r} should be seconds, but is {value!r}")
  return float(value)
