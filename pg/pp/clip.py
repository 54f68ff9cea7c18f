"""Frames of video files, by their number: PyAV, and only what is asked for.

A file's packets say when each of its frames is shown. So a frame is found in
videos of any rate, also a varying one, and decoding starts at the keyframe
before it. Where packets do not say so (some AVI files), frames are counted.
Turned videos stay as they are stored.
"""

import bisect
import contextlib
import io

import numpy as np

from pg.pp import image as image_ops


@contextlib.contextmanager
def opened(video):
  """Opens a video as a `Clip`.

  Args:
    video: str, the path of a file, or its bytes.

  Raises:
    ValueError: no video, or one that does not decode; names it.
  """
  import av  # it takes long to load

  name = f"of {len(video):,} bytes" if isinstance(video, bytes) else video
  try:
    file = io.BytesIO(video) if isinstance(video, bytes) else video
    with av.open(file) as container:
      if not container.streams.video:
        raise ValueError("it has no pictures, only sound or text")
      yield Clip(container)
  except (av.FFmpegError, EOFError, OSError, ValueError) as e:
    raise ValueError(f"cannot decode the video {name}: {e}") from e


class Clip:
  """An open video."""

  def __init__(self, container):
    """Finds out when its frames are shown.

    Args:
      container: av.container.InputContainer.

    Raises:
      ValueError: no frames.
      av.FFmpegError: it is broken.
    """
    self._container = container
    self._stream = container.streams.video[0]
    self._stream.thread_type = "SLICE"  # one core: rows are read in parallel
    packets = [
      (packet.pts, packet.is_keyframe)
      for packet in container.demux(self._stream)
      if packet.size and not packet.is_discard
    ]
    self._counted = any(pts is None for pts, _ in packets)
    if self._counted:
      self._restart(0)
      num = sum(1 for _ in container.decode(self._stream))
      self._pts, self._keys = list(range(num)), []
      self._second = float(self._stream.average_rate or 25)
    else:
      self._pts = sorted({pts for pts, _ in packets})
      self._keys = sorted({pts for pts, is_key in packets if is_key})
      self._second = float(1 / self._stream.time_base)
    if not self._pts:
      raise ValueError("it has no frames")

  def __len__(self):
    return len(self._pts)

  def between(self, start, end):
    """Returns the range of frames that are shown from `start` on, until `end`.

    Args:
      start: float, seconds from the first frame.
      end: float, the same; there is always one frame.

    Raises:
      ValueError: it ends before `start`.
    """
    first, second = self._pts[0], self._second
    seconds = (self._pts[-1] - first) / second
    if not 0 <= start <= seconds + 1:
      raise ValueError(f"it has {seconds:.1f} seconds and none at {start}")
    place = lambda at: bisect.bisect_left(self._pts, first + at * second - 0.5)
    begin = min(place(start), len(self) - 1)
    return range(begin, max(begin + 1, place(end)))

  def read(self, numbers):
    """Returns frames, a list of u8[H, W, 3].

    Args:
      numbers: list of int, which ones, in any order.

    Raises:
      ValueError: the file ends before.
      av.FFmpegError: it is broken.
    """
    frames, decoder, last = {}, None, None
    for number in sorted(set(numbers)):
      wanted = self._pts[number]
      key = self._key(wanted)
      if decoder is None or key > last[0]:
        decoder, last = self._decode(key), (-np.inf, None)
      while last[0] < wanted:
        last = next(decoder, None)
        if last is None:
          raise ValueError(f"frame {number} of {len(self)} does not decode")
      frames[number] = last[1].to_ndarray(format="rgb24")
    return [frames[number] for number in numbers]

  def _key(self, pts):
    """Returns when the keyframe is shown from which a frame is decoded."""
    place = bisect.bisect_right(self._keys, pts) - 1
    return self._keys[place] if place >= 0 else self._pts[0]

  def _decode(self, key):
    """Yields (when it is shown, frame) from a keyframe on."""
    self._restart(key)
    for number, frame in enumerate(self._container.decode(self._stream)):
      image_ops.check_size(frame.height, frame.width)
      if self._counted or frame.pts is not None:
        yield number if self._counted else frame.pts, frame

  def _restart(self, pts):
    if self._counted:
      self._container.seek(0)
    else:
      self._container.seek(pts, stream=self._stream)
