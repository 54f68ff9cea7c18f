"""ActivityNet Captions: what happens from one second to another of a video.

From the densevid page of Stanford, captions.zip unpacked into DIR: train.json,
val_1.json and val_2.json; the videos of ActivityNet as v_<id>.mp4, or <id>.mp4.
A row is a part of a video with its caption. Splits: train, val (val_1) and test
(val_2; that PaliGemma was scored on it is by its size). Of these PaliGemma had
30,545, 14,338 and 13,982 parts. --verify leaves out broken videos.
"""

from scripts.prepare import clips, release

SIZES = dict(
  train=(37421, "train.json"),
  val=(17505, "val_1.json"),
  test=(17031, "val_2.json"),
)
FILES = {"{1}": "captions.zip from the densevid page of Stanford"}
VIDEOS = "videos of ActivityNet from activity-net.org"


def _rows(raw, _, name):
  for id, video in raw.json(name).items():
    times, sentences = video["timestamps"], video["sentences"]
    if len(times) != len(sentences):
      raise ValueError(
        f"{raw.path(name)}: {id} has {len(times)} timestamps and"
        f" {len(sentences)} sentences"
      )
    path = clips.find(raw, [id, id.removeprefix("v_")], VIDEOS)
    for (start, end), sentence in zip(times, sentences):
      yield {
        "video": path,
        "video_id": id,
        "id": f"{id}[{start}-{end}]",
        "start": start,
        "end": end,
        "captions": [sentence.strip()],
      }


splits = release.table(_rows, SIZES, "captions", FILES, clips.splits)

if __name__ == "__main__":
  release.main(splits, __doc__, verify=clips.VERIFY)
