"""Video benchmarks: some clips of a second or two, and what was said of them.

The red value of a film's frame number i is about 5 * i.
"""

import fractions
import json

import numpy as np

QUESTIONS = (("what is a man flying?", "kite"), ("who is flying?", "man"))
CAPTIONS = ("a man flies a kite", "somebody has a kite \n", "kite flying")
IDS = dict(train="abcdefghijk", val="-bcdefghij_", test="0bcdefghijk")


def film(
  path, num=20, rate=10, codec="mpeg4", size=(32, 24), times=None, **options
):
  """Writes a video whose frames have their number as colour.

  Args:
    path: pathlib.Path; its end says the format.
    num: int, frames.
    rate: int, frames per second.
    codec: str, of FFmpeg.
    size: width and height.
    times: list of float, the second of each frame instead of `num` and `rate`.
    **options: of the codec: g is frames from one keyframe to the next.
  """
  import av

  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), "w") as container:
    stream = container.add_stream(codec, rate=rate)
    stream.width, stream.height = size
    stream.pix_fmt, stream.options = "yuv420p", options
    if times:
      stream.codec_context.time_base = fractions.Fraction(1, 1000)
    for i in range(len(times or range(num))):
      frame = np.full((*size[::-1], 3), (5 * i % 256, 0, 0), np.uint8)
      frame = av.VideoFrame.from_ndarray(frame, format="rgb24")
      if times:
        frame.time_base = stream.codec_context.time_base
        frame.pts = round(1000 * times[i])
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def msrvtt_cap(raw):
  """Writes two clips of each split."""
  for name, splits, folder in (
    ("train_val", {"train": (0, 1), "validate": (6513, 6514)}, "TrainValVideo"),
    ("test", {"test": (7010, 7011)}, "TestVideo"),
  ):
    videos, sentences = [], []
    for split, numbers in splits.items():
      for n in numbers:
        film(raw / folder / f"video{n}.mp4", 12 + n % 5)
        video = {"category": 9, "url": "…", "video_id": f"video{n}"}
        video |= {"start time": 10.0, "end time": 25.0, "split": split, "id": n}
        videos.append(video)
        sentences += [
          dict(caption=text, video_id=f"video{n}", sen_id=20 * n + k)
          for k, text in enumerate(CAPTIONS)
        ]
    made = dict(info={}, videos=videos, sentences=sentences)
    write(raw / f"{name}_videodatainfo.json", made)


def msrvtt_qa(raw):
  """Writes two questions about the clip of each split."""
  for n, split in enumerate(IDS):
    film(raw / f"TrainValVideo/video{n}.mp4", 12 + n)
    write(raw / f"{split}_qa.json", asked(n, category_id=9))


def msvd_qa(raw):
  """Writes two questions about the clip of each split, AVI files."""
  mapping = []
  for n, (split, id) in enumerate(IDS.items(), 1):
    film(raw / f"YouTubeClips/{id}_10_20.avi", 12 + n)
    mapping.append(f"{id}_10_20 vid{n}\n")
    write(raw / f"{split}_qa.json", asked(n))
  (raw / "youtube_mapping.txt").write_text("".join(mapping), encoding="utf-8")


def asked(n, **more):
  return [
    dict(id=2 * n + k, video_id=n, question=q, answer=a, **more)
    for k, (q, a) in enumerate(QUESTIONS)
  ]


def activitynet_cap(raw):
  """Writes two parts of a video of each split, one of which is not there."""
  files = dict(train="train", val="val_1", test="val_2")
  for split, id in IDS.items():
    film(raw / f"videos/v_{id}.mp4", 20)
    times = [[0.0, 1.25], [1.0, 9.0]]
    texts = ["A man unrolls a kite.", " He runs with it."]
    one = dict(duration=2.0, timestamps=times, sentences=texts)
    gone = dict(duration=9.0, timestamps=times[:1], sentences=texts[:1])
    write(raw / f"{files[split]}.json", {f"v_{id}": one, "v_gone": gone})


def activitynet_qa(raw):
  """Writes two questions about the video of each split."""
  for split, id in IDS.items():
    film(raw / f"{id}.mkv", 20)
    ids = [f"v_{id}_{n}" for n in range(2)]
    asked = [
      dict(video_name=id, question=q.rstrip("?"), question_id=n)
      for n, (q, _) in zip(ids, QUESTIONS)
    ]
    said = [
      dict(answer=a, type=3, question_id=n) for n, (_, a) in zip(ids, QUESTIONS)
    ]
    write(raw / f"{split}_q.json", asked)
    write(raw / f"{split}_a.json", said[::-1])


def vatex_cap(raw):
  """Writes two clips of each split, and one of the private test."""
  files = dict(
    train="training_v1.0",
    val="validation_v1.0",
    test="public_test_english_v1.1",
  )
  for split, id in IDS.items():
    rows = [dict(videoID=f"{id}_{n:06}_{n + 10:06}") for n in range(2)]
    for row in rows:
      film(raw / f"{row['videoID']}.mp4", 20)
      row["enCap"] = list(CAPTIONS)
      if split != "test":
        row["chCap"] = ["风筝"] * 3
    write(raw / f"vatex_{files[split]}.json", rows)
  rows = [dict(videoID="1bcdefghijk_000000_000010")]
  film(raw / f"{rows[0]['videoID']}.mp4", 20)
  write(raw / "vatex_private_test_without_annotations.json", rows)


def write(path, made):
  path.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")


ROWS = dict(
  msrvtt_cap=msrvtt_cap,
  msrvtt_qa=msrvtt_qa,
  msvd_qa=msvd_qa,
  activitynet_cap=activitynet_cap,
  activitynet_qa=activitynet_qa,
  vatex_cap=vatex_cap,
)
