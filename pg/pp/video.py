"""Videos: which frames a model sees; from there on a list of images."""

import numpy as np

from pg import pp


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
  again: what there is of it is repeated and then cut to `num` frames. With
  F = 5, frames(4, 2) takes 0, 2, 4 and 0. Only chosen frames are decoded.

  The published recipes keep frames as floats; here they are u8 after the
  resize, as images are, which differs by less than one level.

  Args:
    example: dict with the video: a list of images, encoded or u8[H, W, 3], or
      u8[F, H, W, 3].
    num: frames the model gets.
    stride: how many frames of the video from one to the next.
    random: begin at a random frame, where the clip is longer than needed (for
      training); else at the first.
    key: where the video is.
    rng: where to begin.

  Returns:
    image: list of `num` frames, as they were in the video.

  Raises:
    ValueError: num or stride below 1, or no video or one without frames.
  """
  if num < 1 or stride < 1:
    raise ValueError(f"num and stride should be at least 1: {num}, {stride}")
  video = pp.get(example, key)
  is_array = isinstance(video, np.ndarray) and video.ndim == 4
  if not (is_array or isinstance(video, list | tuple)) or not len(video):
    what = type(video).__name__
    if isinstance(video, np.ndarray):
      what = f"{video.dtype}{list(video.shape)}"
    elif isinstance(video, list | tuple):
      what = "empty"
    raise ValueError(
      f"{key!r} should be a video, a list of images or u8[F, H, W, 3], but is"
      f" {what}"
    )
  spare = len(video) - ((num - 1) * stride + 1)
  start = int(rng.integers(spare + 1)) if random and spare > 0 else 0
  chosen = range(start, len(video), stride)[:num]
  return {"image": [video[chosen[i % len(chosen)]] for i in range(num)]}
