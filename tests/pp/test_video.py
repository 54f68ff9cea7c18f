"""Which frames of a video a model sees, and how they are read from a file."""

import fractions
import functools
import io
import json

import av
import numpy as np
import pytest

from pg import limits, pp
from pg.data import bad, pipeline, stream
from pg.pp import clip as clip_lib
from pg.pp import parse
from tests.support.releases.video import film

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


# Files.

NUM = 40
# x264 writes frames out of order: the first, the fifth, the third...
MIXED = {"x264-params": "b-adapt=0:bframes=3:scenecut=0", "codec": "libx264"}
FILES = {
  "a.mp4": dict(MIXED, g="12"),
  "b.mp4": dict(g="7"),
  "a.avi": dict(g="7"),
  "b.avi": dict(bf="2", g="12"),
  "packed.avi": dict(bf="2", g="12"),
  "packed.mkv": dict(bf="2", g="12"),
  "b.mkv": dict(bf="2", g="12"),
  "edited.mp4": dict(bf="2", g="12"),  # begins between two keyframes
  "c.mp4": dict(MIXED, g="12", times=[0.1 * i * i for i in range(NUM)]),
  "a.mkv": dict(MIXED, g="5", rate=30),
  "a.webm": dict(codec="libvpx-vp9", g="10"),
  "a.ts": dict(codec="libx264", g="5"),  # it jumps to wrong places
  "a.h264": dict(MIXED),  # it does not say when
}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
  """Returns a function from a name of FILES to the path of that film."""
  folder = tmp_path_factory.mktemp("films")

  @functools.cache
  def path(name):
    if FILES[name].get("codec", "mpeg4") not in av.codecs_available:
      pytest.skip(f"this FFmpeg cannot write {name}")
    film(folder / name, NUM, **FILES[name])
    if name.startswith("packed"):
      rewrite(folder / name, packed)
    if name.startswith("edited"):
      rewrite(folder / name, edited)
    return str(folder / name)

  return path


def rewrite(path, change):
  """Writes a film again, with packets that a function makes of its own."""
  source = io.BytesIO(path.read_bytes())
  with av.open(source) as old, av.open(str(path), "w") as new:
    stream = new.add_stream_from_template(old.streams.video[0])
    for packet in change([p for p in old.demux(video=0) if p.size]):
      packet.stream = stream
      new.mux(packet)


def edited(packets):
  """Begins six frames later; the file has an edit list for what is before."""
  for packet in packets:
    packet.pts -= 6 * packet.duration
    packet.dts -= 6 * packet.duration
  return packets


def packed(packets):
  """Returns packets as DivX and XviD write them to AVI files.

  A frame and the one that is shown before it are in one packet; one without a
  frame follows, so that there is one for each time.
  """
  start = b"\0\0\1\xb6"
  kind = lambda data: data[data.index(start) + 4] >> 6  # 0 I, 1 P, 2 B
  nothing = start + b"\x50\0\x7f"
  made = []
  for data in map(bytes, packets):
    if kind(data) != 2:
      made.append(data)
    elif made[-1] == nothing:
      made.insert(-1, data)
    else:
      made[-1:] = [made[-1] + data, nothing]
  place = made[0].index(start)
  user = b"\0\0\1\xb2DivX503b1393p"  # p: packed
  made[0] = made[0][:place] + user + made[0][place:]
  found = []
  for number, data in enumerate(made):
    packet = av.Packet(data)
    packet.pts = packet.dts = number
    packet.time_base = fractions.Fraction(1, 10)
    packet.is_keyframe = kind(data) == 0
    found.append(packet)
  return found


def decoded(path):
  """All frames of a film, one after the other."""
  with av.open(path) as container:
    return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def read(string, video, row=0, **more):
  return parse.build(string)({"video": video, **more}, pp.Turn(row=row))[
    "image"
  ]


@pytest.mark.parametrize("name", FILES)
def test_frames_of_a_file_are_those_of_all_its_frames(name, films):
  path, every = films(name), decoded(films(name))
  clip = clip_lib.Clip(path)
  assert len(every) == len(clip) == NUM - 6 * name.startswith("edited")
  for number in range(0, len(every), 3):
    np.testing.assert_array_equal(clip.read([number])[0], every[number])
  for arguments in ("(4, 13)", "(3, 30)", "(8, 1, random=True)"):
    want = parse.build(f"frames{arguments}")({"image": every}, pp.Turn(row=3))
    for video in (path, open(path, "rb").read()):
      found = read(f"video{arguments}", video, row=3)
      np.testing.assert_array_equal(found, want["image"])


def test_only_frames_from_the_last_keyframe_on_are_decoded(films, monkeypatch):
  seen, decode = [], clip_lib.Clip._decode

  def count(*args):
    for found in decode(*args):
      seen.append(found)
      yield found

  monkeypatch.setattr(clip_lib.Clip, "_decode", count)
  read("video(2, 33)", films("a.mkv"))
  assert 2 <= len(seen) <= 1 + 5  # of 34


def test_a_part_begins_and_ends_at_its_seconds(films):
  every, part = decoded(films("a.mp4")), "start='from', end='to'"
  cut = functools.partial(read, video=films("a.mp4"))
  for start, end, want in (
    (1.0, 2.0, [10, 13, 16, 19, 10, 13]),  # ten frames a second
    (3.5, 99, [35, 38, 35, 38, 35, 38]),
    (2.0, 2.0, [20] * 6),  # one at least
    (3.95, 5, [39] * 6),
  ):
    found = cut(f"video(6, 3, {part})", **{"from": start, "to": end})
    np.testing.assert_array_equal(found, [every[i] for i in want])
  with pytest.raises(ValueError, match="a.mp4 ends after 3.9 .* nothing at 9"):
    cut(f"video(6, 3, {part})", **{"from": 9, "to": 10})
  with pytest.raises(ValueError, match="'from' should be seconds, but is '1'"):
    cut(f"video(6, 3, {part})", **{"from": "1", "to": 10})


def test_frames_of_a_varying_rate_are_counted_and_not_timed(tmp_path):
  path, times = tmp_path / "a.mp4", [0.1 * i * i for i in range(20)]
  film(path, times=times)
  every = decoded(str(path))
  found = read("video(4, 5)", str(path))
  np.testing.assert_array_equal(found, [every[i] for i in (0, 5, 10, 15)])
  found = read("video(3, 1, start='a')", str(path), a=1.6)
  np.testing.assert_array_equal(found, every[4:7])


def test_a_file_that_does_not_decode_is_named(tmp_path, films):
  whole, cut = open(films("a.mp4"), "rb").read(), tmp_path / "cut.mp4"
  cut.write_bytes(whole[:900])
  for video, name in (
    (str(cut), "cut.mp4"),
    (str(tmp_path / "gone.mp4"), "gone.mp4"),
    (whole[:900], "of 900 bytes"),
    (b"", "of 0 bytes"),
  ):
    with pytest.raises(ValueError, match=f"cannot decode the video .*{name}: "):
      read("video(2, 1)", video)
  for video in (None, [whole]):
    with pytest.raises(ValueError, match="'video' should be the path of a vid"):
      read("video(2, 1)", video)
  with pytest.raises(ValueError, match="at least 1: 2, 0"):
    read("video(2, 0)", whole)
  with (
    limits.within(limits.Limits(max_pixels=700)),
    pytest.raises(ValueError, match="24 x 32 are more than .*_pixels = 700;"),
  ):
    read("video(2, 1)", whole)


def test_a_playlist_in_place_of_a_video_leads_nowhere(films, tmp_path):
  inner = films("a.ts")
  assert len(read("video(2, 1)", inner)) == 2
  lines = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{inner}\n"
  path = tmp_path / "list.m3u8"
  path.write_text(f"{lines}#EXT-X-ENDLIST\n")
  for video in (str(path), path.read_bytes()):
    with pytest.raises(ValueError, match="cannot decode the video"):
      read("video(2, 1)", video)


def test_sound_alone_is_no_video(tmp_path):
  path = tmp_path / "a.wav"
  with av.open(str(path), "w") as container:
    stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
    sound = np.zeros((1, 800), np.int16)
    frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
    frame.rate = 8000
    container.mux(stream.encode(frame))
  with pytest.raises(ValueError, match="a.wav: it has no images, only sound"):
    read("video(2, 1)", str(path))


def test_a_film_that_breaks_off_can_be_skipped(tmp_path, films):
  good = open(films("a.mp4"), "rb").read()
  for name, data in (("0.mp4", good), ("1.mp4", good[:900])):
    (tmp_path / name).write_bytes(data)
  lines = [json.dumps({"video": f"{i}.mp4"}) + "\n" for i in range(2)]
  (tmp_path / "a.jsonl").write_text("".join(lines))
  spec = dict(source="jsonl", path=str(tmp_path / "a.jsonl"), keys=())
  (data,) = pipeline.datasets(spec, "video(2, 1)")
  visits = [(1, pp.Turn(row=1)), (0, pp.Turn(row=0))]
  i, example, bads = stream.first_usable(data, visits, dict, True)
  assert i == 0 and "image" in example
  (found,) = bads
  assert isinstance(found, bad.Bad) and found.where.endswith("a.jsonl:2")
  assert "1.mp4" in found.message
  with pytest.raises(ValueError, match="a.jsonl:2.*1.mp4"):
    stream.first_usable(data, visits, dict, False)
