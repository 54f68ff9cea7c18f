"""Random access to the frames of video files, with PyAV.

A file's packets say when each of its frames is shown. So a frame is found in
videos of any rate, also a varying one, and decoding starts at the keyframe
before it. Where a file does not say so, or jumps to other places than asked for
(streams such as .ts, .flv), it is decoded from its start. Turned videos stay as
they are stored.
"""

import bisect
import contextlib
import io

import numpy as np

from pg.pp import image as image_ops


class Clip:
  """The frames of a video, given as a path or the bytes of a file."""

  def __init__(self, video):
    """Finds out when its frames are shown.

    Args:
      video: str or bytes.

    Raises:
      ValueError: no video, one without frames, or a broken one; names it.
    """
    self._video = video
    with _opened(video) as (container, stream):
      packets = [
        (packet.pts, packet.is_keyframe)
        for packet in container.demux(stream)
        if packet.size and not packet.is_discard
      ]
      self._second = float(1 / stream.time_base)
    self._counted = any(pts is None for pts, _ in packets)
    if not self._counted:
      self._pts = sorted({pts for pts, _ in packets})
      self._keys = sorted({pts for pts, is_key in packets if is_key})
    else:
      self._keys = []
      with _opened(video) as (container, stream):
        self._pts = list(range(sum(1 for _ in container.decode(stream))))
        self._second = float(stream.average_rate or 25)
    if not self._pts:
      raise ValueError(f"the video {_name(video)} has no frames")

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
    if not 0 <= start <= seconds + 1:  # the last frame may last
      raise ValueError(
        f"the video {_name(self._video)} ends after {seconds:.1f} seconds;"
        f" there is nothing at {start}"
      )
    place = lambda at: bisect.bisect_left(self._pts, first + at * second - 0.5)
    begin = min(place(start), len(self) - 1)
    return range(begin, max(begin + 1, place(end)))

  def read(self, numbers):
    """Returns frames, a list of u8[height, width, 3].

    Args:
      numbers: list of int, which ones, in any order.

    Raises:
      ValueError: one does not decode; names the video.
    """
    wanted = sorted({self._pts[number] for number in numbers})
    frames = None if self._counted else self._read(wanted, jump=True)
    frames = frames or self._read(wanted, jump=False)
    return [frames[self._pts[number]] for number in numbers]

  def _read(self, wanted, *, jump):
    """Returns {pts: frame}; None if jumping to keyframes missed some."""
    frames, at, frame = {}, -np.inf, None
    with _opened(self._video) as (container, stream):
      decoder = None
      for pts in wanted:
        key = self._key(pts)
        if decoder is None or (jump and key > at):
          if jump:
            container.seek(key, stream=stream)
          decoder, at = self._decode(container, stream), -np.inf
        while at < pts and (found := next(decoder, None)):
          at, frame = found
        if jump and at != pts:
          return None
        if at < pts:
          raise ValueError(f"only {len(frames)} of {len(wanted)} frames decode")
        frames[pts] = frame.to_ndarray(format="rgb24")
    return frames

  def _key(self, pts):
    """Returns when the last keyframe up to a frame is shown."""
    place = bisect.bisect_right(self._keys, pts) - 1
    return self._keys[place] if place >= 0 else self._pts[0]

  def _decode(self, container, stream):
    """Yields (when it is shown, frame)."""
    for number, frame in enumerate(container.decode(stream)):
      image_ops.check_size(frame.height, frame.width)
      at = number if self._counted else frame.pts
      if at is not None:
        yield at, frame


@contextlib.contextmanager
def _opened(video):
  """Opens a video: (container, stream); what goes wrong is a ValueError."""
  import av  # it takes long to load

  try:
    file = io.BytesIO(video) if isinstance(video, bytes) else video
    with av.open(file) as container:
      if not container.streams.video:
        raise ValueError("it has no images, only sound or text")
      stream = container.streams.video[0]
      stream.thread_type = "SLICE"  # rows are read in parallel already
      yield container, stream
  except (av.FFmpegError, EOFError, OSError, ValueError) as e:
    raise ValueError(f"cannot decode the video {_name(video)}: {e}") from e


def _name(video):
  return f"of {len(video):,} bytes" if isinstance(video, bytes) else video
