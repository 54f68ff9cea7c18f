"""MSR-VTT: clips of about 15 seconds, twenty captions each.

From the MSR-VTT challenge of 2016 or a mirror, unpacked into DIR:
train_val_videodatainfo.json, test_videodatainfo.json, and the clips video0.mp4
to video9999.mp4 in TrainValVideo/ and TestVideo/. Splits: train, val, test. Of
these PaliGemma had 4,663, 316 and 2,094 clips. --verify leaves out broken ones.
"""

from scripts.prepare import clips, release

SITE = "from the MSR-VTT challenge"
SIZES = dict(
  train=(6513, "train_val_videodatainfo.json", "train", "TrainValVideo.zip"),
  val=(497, "train_val_videodatainfo.json", "validate", "TrainValVideo.zip"),
  test=(2990, "test_videodatainfo.json", "test", "TestVideo.zip"),
)
FILES = {"{1}": "{1} " + SITE}


def _rows(raw, _, name, part, archive):
  info = raw.json(name, want=("videos", "sentences"))
  captions = release.grouped(
    (s["video_id"], s["caption"].strip()) for s in info["sentences"]
  )
  for video in info["videos"]:
    id = video["video_id"]
    if video["split"] != part:
      continue
    said = release.match(captions, id, f"{id} has no captions", name)
    path = clips.find(raw, id, f"{archive} {SITE}")
    yield {"video": path, "video_id": id, "captions": said}


splits = release.table(_rows, SIZES, "clips", FILES, clips.splits)

if __name__ == "__main__":
  release.main(splits, __doc__, verify=clips.VERIFY)
