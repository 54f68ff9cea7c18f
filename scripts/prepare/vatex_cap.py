"""VATEX: clips of ten seconds, ten English captions each.

From eric-xw.github.io/vatex-website, in DIR: vatex_training_v1.0.json,
vatex_validation_v1.0.json, vatex_public_test_english_v1.1.json and, for the
test server, vatex_private_test_without_annotations.json; the clips as
<videoID>.mp4. Splits: train, val, test (the public one; that PaliGemma was
scored on it is by its size) and, where its file is there, private. Of these
PaliGemma had 22,315, 2,584 and 5,135 clips. --verify leaves out broken ones.
"""

from scripts.prepare import clips, release

SIZES = dict(
  train=(25991, "vatex_training_v1.0.json"),
  val=(3000, "vatex_validation_v1.0.json"),
  test=(6000, "vatex_public_test_english_v1.1.json"),
)
PRIVATE = 6278, "vatex_private_test_without_annotations.json"
FILES = {"{1}": "{1} from eric-xw.github.io/vatex-website"}


def splits(raw, verify=False):
  """Yields the splits of the release."""
  sizes = SIZES | (dict(private=PRIVATE) if raw.find(PRIVATE[1]) else {})
  return clips.splits(raw, _rows, sizes, "clips", FILES, verify)


def _rows(raw, split, name):
  answered = split in SIZES
  want = ("videoID", "enCap") if answered else ("videoID",)
  for item in raw.json(name, want=want):
    id = item["videoID"]
    row = {
      "video": clips.find(raw, id, "clips of VATEX from YouTube"),
      "videoID": id,
    }
    if answered:
      row["captions"] = [caption.strip() for caption in item["enCap"]]
    yield row


if __name__ == "__main__":
  release.main(splits, __doc__, verify=clips.VERIFY)
