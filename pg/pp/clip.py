"""Random access to the frames of video files, with PyAV.

Frame i is the i-th that comes out when all of a file is decoded. The packets of
MP4 and Matroska say when each frame is shown, so it is found in videos of any
rate, also a varying one, and decoding starts at the keyframe before it. Other
files do not say so (AVI has no such times, and may hold two frames in a packet
and none in the next), or jump to other places than asked for (.ts, .flv): they
are decoded from their start, and so is a file whose frames come out at other
times than its packets say. Turned videos stay as they are stored.
"""

import bisect
import contextlib
import io
import itertools

from pg import limits
from pg.pp import image as image_ops

# What videos come in. FFmpeg knows more, such as playlists: those name other
# files, anywhere, and hosts.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,rm,mxf,nut,ivf,dv,gif,apng"
_FORMATS += ",mpegvideo,h264,hevc,m4v,mjpeg,obu,wav,mp3,flac"
_TIMED = ("mov", "matroska")  # in the names of formats that FFmpeg has


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
    # When frames are shown, in ticks; numbers of keyframes; ticks in a second.
    self._pts, self._keys, self._second = self._timed() or self._counted()
    if not self._pts:
      raise ValueError(f"the video {_name(video)} has no frames")

  def _timed(self):
    """Returns what the packets say; None where that cannot be relied on."""
    with _opened(self._video) as (container, stream):
      if not any(name in container.format.name for name in _TIMED):
        return None
      packets = [
        (packet.pts, packet.is_keyframe)
        for packet in container.demux(stream)
        if packet.size and not packet.is_discard
      ]
      second = float(1 / stream.time_base)
    if any(pts is None for pts, _ in packets):
      return None
    packets.sort()
    pts = [at for at, _ in packets]
    with _opened(self._video) as (container, stream):
      frame = next(self._decode(container, stream), None)
    rising = all(a < b for a, b in itertools.pairwise(pts))
    if frame is None or not rising or frame.pts != pts[0]:
      return None
    # An edit list may begin between keyframes.
    keys = [0] + [i for i, (_, is_key) in enumerate(packets) if i and is_key]
    return pts, keys, second

  def _counted(self):
    """Returns the same of all frames, decoded; without keyframes."""
    with _opened(self._video) as (container, stream):
      pts = [frame.pts for frame in self._decode(container, stream)]
      second, rate = float(1 / stream.time_base), stream.average_rate
    if None in pts or any(a >= b for a, b in itertools.pairwise(pts)):
      pts, second = list(range(len(pts))), float(rate or 25)
    return pts, [], second

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
    wanted = sorted(set(numbers))
    frames = None
    if self._keys:
      with contextlib.suppress(ValueError):  # midway it knows too little
        frames = self._jumped(wanted)
    frames = frames or self._from_start(wanted)
    return [frames[number] for number in numbers]

  def _jumped(self, wanted):
    """Returns {number: frame}; None if one is not where the packets say."""
    frames, at, decoder = {}, -1, None
    with _opened(self._video) as (container, stream):
      for number in wanted:
        key = self._keys[bisect.bisect_right(self._keys, number) - 1]
        if decoder is None or key > at:
          container.seek(self._pts[key], stream=stream)
          # What is shown before a keyframe may be stored after it.
          decoder = itertools.dropwhile(
            lambda frame, start=self._pts[key]: (
              frame.pts is not None and frame.pts < start
            ),
            self._decode(container, stream),
          )
          at = key - 1
        while at < number:
          frame, at = next(decoder, None), at + 1
          if frame is None or frame.pts != self._pts[at]:
            return None
        frames[number] = frame.to_ndarray(format="rgb24")
    return frames

  def _from_start(self, wanted):
    """Returns {number: frame}."""
    frames = {}
    with _opened(self._video) as (container, stream):
      for number, frame in enumerate(self._decode(container, stream)):
        if number in wanted:
          frames[number] = frame.to_ndarray(format="rgb24")
        if number == wanted[-1]:
          return frames
      raise ValueError(f"only {len(frames)} of {len(wanted)} frames decode")

  def _decode(self, container, stream):
    """Yields frames in the order in which they are shown."""
    for frame in container.decode(stream):
      image_ops.check_size(frame.height, frame.width)
      yield frame


@contextlib.contextmanager
def _opened(video):
  """Opens a video: (container, stream); what goes wrong is a ValueError."""
  import av  # it takes long to load

  try:
    file = io.BytesIO(video) if isinstance(video, bytes) else video
    with av.open(file, options={"format_whitelist": _FORMATS}) as container:
      if not container.streams.video:
        raise ValueError("it has no images, only sound or text")
      stream = container.streams.video[0]
      stream.thread_type = "SLICE"  # rows are read in parallel already
      most = str(limits.current().max_pixels)  # also of a frame amid others
      stream.codec_context.options = {"max_pixels": most}
      image_ops.check_size(stream.height or 0, stream.width or 0)
      yield container, stream
  except (av.FFmpegError, EOFError, OSError, ValueError) as e:
    raise ValueError(f"cannot decode the video {_name(video)}: {e}") from e


def _name(video):
  return f"of {len(video):,} bytes" if isinstance(video, bytes) else video
